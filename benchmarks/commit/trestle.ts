/** Through the store port: the writer in its thread, group commit, every refusal possible. */
import type { Variant } from "../harness/benchmark.ts";
import { measureCallers } from "../harness/callers.ts";
import { copyOfHistory } from "../harness/store-file.ts";
import { openSqlite } from "../../packages/trestle/src/sqlite/index.ts";
import { nextOrder, payload } from "./order.ts";

const trestle: Variant = async ({ load, seconds, scratch }) => {
  const store = await openSqlite({ path: copyOfHistory(scratch) });
  const measured = await measureCallers(load, seconds, async () => {
    const { id, key, stream, event, job } = nextOrder();
    const outcome = await store.commit({
      id,
      expects: [
        { kind: "record", key, version: 0 },
        { kind: "stream", stream, version: 0 },
      ],
      writes: [
        { kind: "put", key, value: payload },
        { kind: "append", stream, events: [{ id: event, type: "OrderPlaced", data: payload }] },
        { kind: "enqueue", job: { id: job, queue: "mail", payload, priority: 1 } },
      ],
    });
    if (!outcome.ok) throw new Error(`refused: ${outcome.refused}`);
  });
  await store.close();
  return measured;
};
export default trestle;

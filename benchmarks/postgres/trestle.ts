/** Commits as values: judged and applied by one function, group by group. */
import { openPostgres } from "@trestle/postgres";
import type { Variant } from "../harness/benchmark.ts";
import { measureCallers } from "../harness/callers.ts";
import { newId, payload, startPostgres } from "./server.ts";

const trestle: Variant = async ({ load, seconds }) => {
  await using server = await startPostgres();
  const store = await openPostgres({ url: server.url });
  const measured = await measureCallers(load, seconds, async () => {
    const key = newId();
    const outcome = await store.commit({
      id: newId(),
      expects: [
        { kind: "record", key, version: 0 },
        { kind: "stream", stream: key, version: 0 },
      ],
      writes: [
        { kind: "put", key, value: payload },
        { kind: "append", stream: key, events: [{ id: newId(), type: "OrderPlaced", data: payload }] },
        { kind: "enqueue", job: { id: newId(), queue: "mail", payload, priority: 1 } },
      ],
    });
    if (!outcome.ok) throw new Error(`refused: ${outcome.refused}`);
  });
  await store.close();
  return measured;
};
export default trestle;

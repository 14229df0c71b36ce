/** Commits of one event at the store's port, on PostgreSQL. */
import { openPostgres } from "@trestle/postgres";
import { postgres } from "@trestle/testing";
import type { Variant } from "../../harness/benchmark.ts";
import { measureCallers } from "../../harness/callers.ts";
import { newId, orderText, streamOf } from "./events.ts";

const trestle: Variant = async ({ load, seconds }) => {
  await using server = await postgres({ settings: { shared_buffers: "256MB" } });
  const store = await openPostgres({ url: server.url });
  const data = Buffer.from(orderText);
  const measured = await measureCallers(load, seconds, async (n) => {
    const outcome = await store.commit({
      id: newId(),
      expects: [],
      writes: [{ kind: "append", stream: `orders//${streamOf(n)}`, events: [{ id: newId(), type: "Placed", data }] }],
    });
    if (!outcome.ok) throw new Error(outcome.refused);
  });
  await store.close();
  return measured;
};
export default trestle;

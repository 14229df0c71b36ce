/** Emmett's PostgreSQL event store, as it comes. */
import { getPostgreSQLEventStore } from "@event-driven-io/emmett-postgresql";
import { postgres } from "@trestle/testing";
import type { Variant } from "../../harness/benchmark.ts";
import { measureCallers } from "../../harness/callers.ts";
import { order, streamOf } from "./events.ts";

const emmett: Variant = async ({ load, seconds }) => {
  await using server = await postgres({ settings: { shared_buffers: "256MB" } });
  const store = getPostgreSQLEventStore(server.url);
  await store.appendToStream("warm-up", [{ type: "Placed", data: order }]);
  const measured = await measureCallers(load, seconds, (n) => store.appendToStream(`${streamOf(n)}-${n}`, [{ type: "Placed", data: { ...order, n } }]));
  await store.close();
  return measured;
};
export default emmett;

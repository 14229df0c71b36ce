/** One event a time, published through the topic's handle: validated, encoded, enveloped, observed. */
import { join } from "node:path";
import { app, start } from "trestle";
import type { Variant } from "../../harness/benchmark.ts";
import { measureCallers } from "../../harness/callers.ts";
import { order, orders } from "./events.ts";

const trestle: Variant = async ({ load, seconds, scratch }) => {
  const node = await start(app("bench", [orders]), { store: `sqlite:${join(scratch, "store.db")}`, log: () => undefined });
  const live = node.open(orders);
  const measured = await measureCallers(load, seconds, (n) => live.publish.Placed({ ...order, n }));
  await node.stop();
  return measured;
};
export default trestle;

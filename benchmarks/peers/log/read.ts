/** The topic, followed from its start; each event validated by its schema. */
import { app, start } from "trestle";
import type { Variant } from "../../harness/benchmark.ts";
import { measureReads, orders, readEvents } from "./events.ts";
import { filled } from "./filled.ts";

const trestle: Variant = async ({ seconds, scratch }) => {
  const node = await start(app("bench", [orders]), { store: `sqlite:${await filled(scratch)}`, log: () => undefined });
  const measured = await measureReads(seconds, async () => {
    let read = 0;
    for await (const { data } of node.open(orders).follow({ from: "start" })) {
      if (data.customer === "ada") read += 1;
      if (read === readEvents) break;
    }
    return read;
  });
  await node.stop();
  return measured;
};
export default trestle;

/** A queue with a handler that does nothing, or with `READS=1` reads a record and adds to another: sent, handed out, acknowledged, each durable. */
import { join } from "node:path";
import { app, queue, records, start } from "trestle";
import { z } from "zod";
import type { Variant } from "../harness/benchmark.ts";
import { measureCallers } from "../harness/callers.ts";

const trestle: Variant = async ({ load, seconds, scratch }) => {
  const handled = new Map<number, () => void>();
  const counts = records("counts", { key: z.string(), value: z.number() });
  const concurrency = process.env["CONCURRENCY"] === "adaptive" ? "adaptive" : 16;
  const ended = (n: number) => {
    handled.get(n)?.();
    handled.delete(n);
  };
  const work = queue(
    "work",
    { input: z.object({ n: z.number(), text: z.string() }), uses: { counts }, concurrency },
    process.env["READS"] === "1"
      ? async ({ n }, { counts }) => {
          counts.add("read", (await counts.get(`of ${n % 100}`)) ?? 1);
          ended(n);
        }
      : ({ n }) => ended(n),
  );
  const node = await start(app("bench", [work]), { store: `sqlite:${join(scratch, "store.db")}`, roles: ["worker"], log: () => undefined });
  const live = node.open(work);
  const text = "x".repeat(180);
  const measured = await measureCallers(load, seconds, async (n) => {
    const done = new Promise<void>((resolve) => handled.set(n, resolve));
    await live.send({ n, text });
    await done;
  });
  await node.idle();
  const left = await live.depth();
  if (left.waiting + left.running + left.dead > 0) throw new Error(`jobs left: ${JSON.stringify(left)}`);
  await node.stop();
  return measured;
};
export default trestle;

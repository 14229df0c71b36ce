/** One side of `bench.ts`: `send` or `work`, a store's URL, how many jobs. Says every second, and at the end, what it holds. */
import { app, queue, start } from "trestle";
import { z } from "zod";

export interface Said {
  readonly seconds: number;
  /** Jobs it has sent, or worked off. */
  readonly done: number;
  readonly rssMb: number;
  readonly heapMb: number;
  readonly maxRssMb: number;
}

const [side, url, count] = process.argv.slice(2) as [string, `sqlite:${string}`, string];
const jobs = Number(count);
let done = 0;
const work = queue("work", { input: z.object({ n: z.int(), text: z.string() }) }, () => void done++);
const text = "x".repeat(180);

const beganMs = performance.now();
const node = await start(app("memory", [work]), { store: url, roles: side === "send" ? [] : ["worker"], log: () => undefined });
const say = (): void => {
  const { rss, heapTotal } = process.memoryUsage();
  const mb = (bytes: number) => Math.round(bytes / 1_048_576);
  process.send?.({
    seconds: (performance.now() - beganMs) / 1_000,
    done,
    rssMb: mb(rss),
    heapMb: mb(heapTotal),
    maxRssMb: mb(process.resourceUsage().maxRSS * 1_024),
  } satisfies Said);
};
const saying = setInterval(say, 1_000);
if (side === "send") {
  let next = 0;
  const sender = async () => {
    while (next < jobs) {
      const [from, to] = [next, (next = Math.min(jobs, next + 500))];
      await node.commit({ work }, ({ work }) => void work.sendMany(Array.from({ length: to - from }, (_, i) => ({ n: from + i, text }))));
      done += to - from;
    }
  };
  await Promise.all(Array.from({ length: 8 }, sender));
} else await node.idle();
clearInterval(saying);
say();
await node.stop();
process.disconnect?.();

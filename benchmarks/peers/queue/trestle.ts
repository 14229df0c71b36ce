/** Trestle as it comes: `queue(name, { input }, handler)`. The effect is a record in the commit that finishes the job. */
import { app, queue, records, start } from "trestle";
import { z } from "zod";
import type { Job, Opened } from "./contender.ts";

const Input = z.object({ n: z.number(), sentMs: z.number(), text: z.string() });

export async function trestle(store: `sqlite:${string}` | `postgres://${string}`): Promise<Opened> {
  let handle: (job: Job) => void = () => undefined;
  const counts = records("effects", { key: z.string(), value: z.number() });
  const work = queue("work", { input: Input }, (job) => handle(job));
  const counted = queue("work", { input: Input, uses: { counts } }, ({ n }, { counts }) => counts.add(String(n), 1));
  type Node = Awaited<ReturnType<typeof start>>;
  let node: Promise<Node> | undefined;
  const begin = (which: typeof work, roles: readonly "worker"[]): Promise<Node> =>
    (node ??= start(app("peers", [which]), { store: store as `sqlite:${string}`, roles, log: () => undefined }));
  return {
    async send(job) {
      await (await begin(work, [])).open(work).send(job);
    },
    async sendMany(jobs) {
      await (await begin(work, [])).open(work).sendMany(jobs);
    },
    async work(handler) {
      handle = handler;
      await begin(work, ["worker"]);
    },
    async workWithEffect() {
      await begin(counted, ["worker"]);
    },
    async effects(ns) {
      const found = new Map<number, number>();
      const open = (await begin(counted, [])).open(counts);
      for (let at = 0; at < ns.length; at += 200)
        for (const [key, times] of await open.getMany(ns.slice(at, at + 200).map(String))) found.set(Number(key), times);
      return found;
    },
    close: async () => void (await (await node)?.stop()),
  };
}

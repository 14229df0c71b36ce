/** What the two backends of BullMQ 6 share. Tuned: 32 at once, as in its own figures; finished jobs are removed. */
import { Queue, Worker, type BackendFactory } from "bullmq";
import type { Job, Opened } from "./contender.ts";

type Wired = { readonly connection: unknown; readonly factory: BackendFactory<never, never> | undefined };

export function bullmq({ connection, factory }: Wired, setting: "default" | "tuned"): Opened {
  const rest = (factory ? [factory] : []) as [];
  const queue = new Queue(
    "work",
    { connection: connection as never, ...(setting === "tuned" ? { defaultJobOptions: { removeOnComplete: true } } : {}) },
    ...rest,
  );
  let worker: Worker | undefined;
  const work = async (handle: (job: Job) => void | Promise<void>) => {
    worker = new Worker(
      "work",
      async ({ data }) => handle(data as Job),
      { connection: connection as never, ...(setting === "tuned" ? { concurrency: 32 } : {}) },
      ...rest,
    );
    worker.on("error", () => undefined);
    await worker.waitUntilReady();
  };
  queue.on("error", () => undefined);
  return {
    send: async (job) => void (await queue.add("job", job)),
    sendMany: async (jobs) => void (await queue.addBulk(jobs.map((data) => ({ name: "job", data })))),
    work,
    workWithEffect: (effect) => work(({ n }) => effect(n)),
    async close() {
      await worker?.close(true);
      await queue.close();
    },
  };
}

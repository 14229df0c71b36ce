/** graphile-worker 0.18. Tuned after its page on performance: 24 at once, a local queue of 500, completions in batches. */
import { makeWorkerUtils, run, type Runner } from "graphile-worker";
import { silent } from "./silent.ts";
import type { Contender, Job } from "./contender.ts";

const contender: Contender = {
  settings: ["default", "tuned"],
  store: "postgres",
  async open({ postgres }, setting) {
    const utils = await makeWorkerUtils({ connectionString: postgres, logger: silent });
    await utils.migrate();
    let runner: Runner | undefined;
    const work = async (handle: (job: Job) => void | Promise<void>) => {
      runner = await run({
        preset: {
          worker: {
            connectionString: postgres,
            logger: silent,
            ...(setting === "tuned"
              ? { concurrentJobs: 24, maxPoolSize: 25, localQueue: { size: 500 }, completeJobBatchDelay: 0, failJobBatchDelay: 0, pollInterval: 100 }
              : {}),
          },
        },
        noHandleSignals: true,
        taskList: { work: async (payload) => handle(payload as Job) },
      });
    };
    return {
      send: async (job) => void (await utils.addJob("work", job)),
      sendMany: async (jobs) => void (await utils.addJobs(jobs.map((payload) => ({ identifier: "work", payload })))),
      work,
      workWithEffect: (effect) => work(({ n }) => effect(n)),
      async close() {
        await runner?.stop();
        await utils.release();
      },
    };
  },
};
export default contender;

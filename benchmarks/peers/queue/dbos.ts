/** DBOS 5: a queue of workflows. Tuned: looks for work every 50 ms, 64 at once. */
import { DBOS } from "@dbos-inc/dbos-sdk";
import type { Contender, Job } from "./contender.ts";

const contender: Contender = {
  settings: ["default", "tuned"],
  store: "postgres",
  async open({ postgres }, setting) {
    let handle: (job: Job) => void | Promise<void> = () => undefined;
    const run = DBOS.registerWorkflow(async (job: Job) => handle(job), { name: "work" });
    const tuned = setting === "tuned";
    let launching: Promise<void> | undefined;
    const launch = (listens: boolean) =>
      (launching ??= (async () => {
        // Without a filter a process that only sends would work on what it has sent.
        const filter = listens ? {} : { listenQueues: [] };
        DBOS.setConfig({ name: "peers", systemDatabaseUrl: postgres, runAdminServer: false, logLevel: "error", ...filter });
        await DBOS.launch();
        await DBOS.registerQueue("jobs", tuned ? { minPollingIntervalMs: 50, workerConcurrency: 64 } : {});
      })());
    const send = async (job: Job) => {
      await launch(false);
      await DBOS.startWorkflow(run, { queueName: "jobs" })(job);
    };
    const work = async (handler: (job: Job) => void | Promise<void>) => {
      handle = handler;
      await launch(true);
    };
    return {
      send,
      async sendMany(jobs) {
        for (let at = 0; at < jobs.length; at += 64) await Promise.all(jobs.slice(at, at + 64).map(send));
      },
      work,
      workWithEffect: (effect) => work(({ n }) => effect(n)),
      close: () => DBOS.shutdown(),
    };
  },
};
export default contender;

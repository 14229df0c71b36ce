/** pg-boss 12. Tuned: four loops that fetch and complete a hundred jobs at a time, without a pause while they come
 * back full, woken by LISTEN/NOTIFY. */
import { PgBoss } from "pg-boss";
import type { Contender, Job } from "./contender.ts";

const contender: Contender = {
  settings: ["default", "tuned"],
  store: "postgres",
  async open({ postgres }, setting) {
    const tuned = setting === "tuned";
    const boss = new PgBoss({ connectionString: postgres, ...(tuned ? { useListenNotify: true, max: 20 } : {}) });
    boss.on("error", () => undefined);
    await boss.start();
    await boss.createQueue("work", tuned ? { notify: true } : {});
    const options = tuned
      ? { batchSize: 100, localConcurrency: 4, pollingIntervalSeconds: 0.5, notifyPollingIntervalSeconds: 0.5, burstWhenBatchFull: true }
      : {};
    return {
      send: async (job) => void (await boss.send("work", job)),
      sendMany: async (jobs) =>
        void (await boss.insert(
          "work",
          jobs.map((data) => ({ data })),
        )),
      work: async (handler) =>
        void (await boss.work<Job>("work", options, async (jobs) => {
          for (const { data } of jobs) handler(data);
        })),
      workWithEffect: async (effect) =>
        void (await boss.work<Job>("work", options, async (jobs) => void (await Promise.all(jobs.map(({ data }) => effect(data.n)))))),
      close: () => boss.stop({ graceful: false }),
    };
  },
};
export default contender;

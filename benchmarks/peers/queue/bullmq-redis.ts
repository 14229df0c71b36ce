/** BullMQ 6 on Redis, with `appendfsync always`: the same durability as the others. */
import { bullmq } from "./bullmq.ts";
import type { Contender } from "./contender.ts";

const contender: Contender = {
  settings: ["default", "tuned"],
  store: "redis",
  open: ({ redis }, setting) => Promise.resolve(bullmq({ connection: { url: redis, maxRetriesPerRequest: null }, factory: undefined }, setting)),
};
export default contender;

/** BullMQ 6 on PostgreSQL. */
import { createPostgresBackend } from "bullmq";
import { bullmq } from "./bullmq.ts";
import type { Contender } from "./contender.ts";

const contender: Contender = {
  settings: ["default", "tuned"],
  store: "postgres",
  open: ({ postgres }, setting) =>
    Promise.resolve(bullmq({ connection: { connectionString: postgres, migrate: true }, factory: createPostgresBackend as never }, setting)),
};
export default contender;

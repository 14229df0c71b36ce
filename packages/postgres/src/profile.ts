/** What this engine gives and costs, for `trestle plan`. */
import type { EngineProfile } from "trestle/store";
import { guarantees } from "./open.ts";

export const profile: EngineProfile = {
  engine: "postgres",
  guarantees,
  costs: {
    commit: "two round trips and a flush of the server, each shared by all that commit at that moment",
    "read by key": "a round trip; after a commit of this process not known to be durable yet, a flush more",
    job: "a round trip and a flush for a claim, shared; ends travel in the batches of commits",
    processes: "any number, on any machines",
    "change notices": "at once in the process that committed; a hint, or else a look every moment, in the others",
    transaction: "beside others until its end; the store itself is held only then",
    backup: "PostgreSQL's own: pg_basebackup or pg_dump",
    clock: "the server's",
  },
};

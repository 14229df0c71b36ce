/** Conformance: what the store port promises, as cases that any engine can be run through. */
export type { Case, CaseTools } from "./case.ts";
export { commitCases } from "./commit.ts";
export type { CommitSubject } from "./commit.ts";
export { heartbeatCases } from "./heartbeat.ts";
export type { HeartbeatSubject } from "./heartbeat.ts";
export { logCases } from "./log.ts";
export { CommitModel } from "./model.ts";
export { liveQueue } from "./queue-life.ts";
export type { QueueLife } from "./queue-life.ts";
export { QueueModel } from "./queue-model.ts";
export type { ModelJob } from "./queue-model.ts";
export { queueCases } from "./queue.ts";
export type { StoreSubject } from "./queue.ts";
export { queuePolicyCases } from "./queue-policy.ts";
export { recordCases, tokenCases } from "./records.ts";
export { sqlCases, transactionCases } from "./transaction.ts";
export { buildShim, makeDisk } from "./power-loss/index.ts";
export type { Disk, DiskOptions, Shim } from "./power-loss/index.ts";

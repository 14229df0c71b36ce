/** Messaging: queues, topics, subscriptions and schedules, and the worker they share. */
export { dispatcherOf } from "./dispatcher.ts";
export type { Claimant, HeldJob } from "./dispatcher.ts";
export type { JobContext, JobEnd } from "./job-context.ts";
export { readProgress } from "./progress.ts";
export type { Progress } from "./progress.ts";
export { queue } from "./queue.ts";
export type { JobRef, Queue, QueueHandle, QueueSpec, QueueView, QueueWork, SendOptions } from "./queue.ts";
export { afterFailure, mayHaveCalled } from "./retry.ts";
export type { Retry, RetrySpec } from "./retry.ts";

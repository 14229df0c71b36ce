/** Messaging: queues, topics, subscriptions and schedules, and the worker they share. */
export { dispatcherOf } from "./dispatcher.ts";
export type { Claimant, HeldJob } from "./dispatcher.ts";
export { seal, senderOf } from "./envelope.ts";
export type { JobContext, JobEnd } from "./job-context.ts";
export { readProgress } from "./progress.ts";
export type { Progress } from "./progress.ts";
export type { FleetLimits } from "./policy.ts";
export { editedMessage } from "./envelope.ts";
export type { JobResult } from "./result.ts";
export type { BatchMessage } from "./batch.ts";
export { queue } from "./queue.ts";
export type {
  JobRef,
  Messages,
  Queue,
  MessageSchemas,
  MessagesSpec,
  QueueControl,
  QueueHandle,
  QueueSpec,
  ReturningQueue,
  TypedMessage,
  TypedQueue,
  TypedQueueHandle,
  Results,
  Around,
  QueueView,
  QueueWork,
  SendOptions,
} from "./queue.ts";
export { schedule } from "./schedule.ts";
export type { Schedule, ScheduleSpec, Tick } from "./schedule.ts";
export { subscription } from "./subscription.ts";
export type { Reactions, Subscription, SubscriptionSpec } from "./subscription.ts";
export { topic } from "./topic.ts";
export type { Topic, TopicGuarantee, TopicHandle, TopicSpec, TopicView } from "./topic.ts";
export type { FollowOptions } from "./follow.ts";
export { afterFailure, mayHaveCalled } from "./retry.ts";
export type { Retry, RetrySpec } from "./retry.ts";

/** The frame. Declare components with these, start them, test them. */
export { app, open, processPlan, start, supervise, supervised } from "./app/index.ts";
export type {
  App,
  AppSpec,
  Change,
  ChangesOptions,
  CommitChange,
  Complete,
  Engines,
  Graph,
  Live,
  Node,
  ProcessPlan,
  StartOptions,
  SuperviseOptions,
  Transaction,
} from "./app/index.ts";
export { cloudEvent, refuse } from "./component/index.ts";
export type {
  Annotations,
  AwaitedName,
  Awaiting,
  Component,
  Compress,
  Context,
  DurableContext,
  EventMeta,
  Guarantee,
  Handle,
  Handles,
  HistoryOptions,
  In,
  Inherit,
  Open,
  Out,
  Page,
  PageQuery,
  Principal,
  Refused,
  Schema,
  Usable,
  Uses,
  View,
  WriteContext,
} from "./component/index.ts";
export { implement } from "./implement/index.ts";
export type { Behaviour, Implementation } from "./implement/index.ts";
export { kind } from "./kind/index.ts";
export type { Declared, KindDefinition, Reads, RunningKind, Writes } from "./kind/index.ts";
export { aggregate, command, projection } from "./events/index.ts";
export type { Accepted, Aggregate, Projection } from "./events/index.ts";
export { Fault, partitionOf } from "./kernel/index.ts";
export type { FaultCode } from "./kernel/index.ts";
export { queue, schedule, subscription, topic } from "./messaging/index.ts";
export type {
  Around,
  BatchMessage,
  FleetLimits,
  FollowOptions,
  JobContext,
  JobEnd,
  JobRef,
  JobResult,
  Messages,
  MessageSchemas,
  MessagesSpec,
  Queue,
  QueueControl,
  QueueHandle,
  QueueSpec,
  QueueView,
  QueueWork,
  Reactions,
  Results,
  ReturningQueue,
  Schedule,
  ScheduleSpec,
  SendOptions,
  Subscription,
  SubscriptionSpec,
  Tick,
  Topic,
  TopicGuarantee,
  TopicHandle,
  TopicSpec,
  TopicView,
  TypedMessage,
  TypedQueue,
  TypedQueueHandle,
} from "./messaging/index.ts";
export { records } from "./records/index.ts";
export type { Records } from "./records/index.ts";
export { external, mutation, query } from "./external/index.ts";
export type { External, ExternalHandle, ExternalSpec, Mutation, OnlyInADurableHandler, Query, Wire } from "./external/index.ts";
export { accepted, created, del, get, html, noContent, ok, page, patch, post, put, service, sse } from "./service/index.ts";
export type {
  Admission,
  AnswerOf,
  Call,
  CallOf,
  Client,
  CommandSpec,
  Contract,
  GetSpec,
  Idempotent,
  IdempotentCall,
  Incoming,
  Limit,
  QuerySpec,
  Refusals,
  RefusalStatus,
  Reply,
  Route,
  RoutePath,
  SafeCall,
  Service,
  ServiceSpec,
  Writing,
} from "./service/index.ts";
export { secret, setting } from "./setting/index.ts";
export type { Secret, SecretSpec, Setting } from "./setting/index.ts";
export { sql } from "./sql/index.ts";
export type { Sql, SqlHandle, SqlView } from "./sql/index.ts";

/** The store port: what a commit is, what an engine answers. */
export { beforeEpoch } from "./before-epoch.ts";
export { checkAbove0, checkClaim, checkCommit, checkId, checkKey } from "./check.ts";
export { addKeys, expiredError } from "./commit.ts";
export { commitIdRetentionMs, limits } from "./limits.ts";
export { keyPrefix, parseKey, storeKey } from "./key.ts";
export type { StoreKey } from "./key.ts";
export { beating, watch, type HeartbeatOptions } from "./heartbeat.ts";
export { followingStore } from "./following.ts";
export { moveParts } from "./move.ts";
export type { Gone, Moved, MoveCursor, MovedJobState, MovePage, MovePart, MoveProgress, MoveRow, MoveSource, MoveTarget, NewTables, Trimmed } from "./move.ts";
export { engineCosts } from "./profile.ts";
export type { EngineCost, EngineProfile } from "./profile.ts";
export { rowsDigest } from "./rows-digest.ts";
export type {
  Commit,
  CommitId,
  CommitOutcome,
  CommitRefused,
  Expectation,
  Fence,
  IndexEntry,
  JobEnd,
  JobId,
  Merge,
  NewEvent,
  NewJob,
  SqlValue,
  Statement,
  Version,
  Write,
} from "./commit.ts";
export type {
  Change,
  Claim,
  ClaimedJob,
  ClaimRate,
  ClaimRequest,
  Claims,
  CommitPosition,
  CommitRow,
  EventRow,
  GroupDepth,
  Heartbeat,
  Head,
  JobRow,
  JobState,
  ListQuery,
  LogPage,
  LogQuery,
  Position,
  QueueClaim,
  QueueDepth,
  QueuePolicy,
  Reader,
  RecordRow,
  SqlConnection,
  SqlResult,
  Store,
  StoreStats,
  StreamQuery,
  TokenRow,
  Written,
} from "./store.ts";

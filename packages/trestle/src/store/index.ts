/** The store port: what a commit is, what an engine answers. */
export { checkCommit, checkId, checkKey } from "./check.ts";
export { commitIdRetentionMs, limits } from "./limits.ts";
export { keyPrefix, parseKey, storeKey } from "./key.ts";
export type { StoreKey } from "./key.ts";
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
  ClaimRequest,
  Claims,
  CommitPosition,
  CommitRow,
  EventRow,
  Head,
  JobRow,
  JobState,
  ListQuery,
  LogPage,
  LogQuery,
  Position,
  QueueDepth,
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

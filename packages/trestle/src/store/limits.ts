/** Every size the store accepts has an end; reaching it is a fault that names it, never an out-of-memory. FINDINGS F9, F20. */
export const limits = {
  /** One commit, payloads and keys together. */
  commitBytesMax: 1_048_576,
  /** Commits applied in one storage transaction, and their bytes together. */
  batchCommitsMax: 512,
  batchBytesMax: 4_194_304,
  /** Commits waiting for the lane; beyond it a commit faults with `store.overloaded`. */
  waitingCommitsMax: 10_000,
  /** Record keys, stream names, token keys, in UTF-8 bytes. */
  keyBytesMax: 512,
  eventBytesMax: 262_144,
  /** Preconditions of one commit; beyond it `commit.read-set-full`. */
  expectationsMax: 256,
  /** Rows a single read returns at the most. */
  pageRowsMax: 1_000,
  /** Jobs one claim takes at the most. */
  claimJobsMax: 512,
  /** Jobs one group gets in its turn at the most. */
  groupWeightMax: 1_000,
  /** A token is kept for 30 days at the most. */
  tokenKeepMsMax: 30 * 24 * 3_600_000,
} as const;

/** How long a commit id is remembered; an older id is refused unread. FINDINGS F6. */
export const commitIdRetentionMs = 24 * 3_600_000;

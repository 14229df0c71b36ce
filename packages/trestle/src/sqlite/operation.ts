/** What the main thread asks of the lane, and what comes back: plain data on both ways. */
import type { Claim, ClaimRequest, Claims, Commit, CommitId, CommitOutcome } from "../store/index.ts";
import { Fault } from "../kernel/index.ts";

export type Operation =
  | { readonly kind: "commit"; readonly commit: Commit }
  | { readonly kind: "resolve"; readonly id: CommitId }
  | { readonly kind: "claim"; readonly request: ClaimRequest }
  | { readonly kind: "extend"; readonly claims: readonly Claim[]; readonly leaseMs: number }
  /** For a heartbeat: extends the holder's claims that would soon be over. */
  | { readonly kind: "keep"; readonly holder: string; readonly leaseMs: number }
  /** For a heartbeat: takes back what the holder has claimed, up to commit `madeUpTo`. */
  | { readonly kind: "release"; readonly holder: string; readonly madeUpTo: number }
  | { readonly kind: "migrate"; readonly component: string; readonly name: string; readonly text: string; readonly digest: string }
  /** Housekeeping now: sweep, trim, drop. It also rides on batches, in small steps. */
  | { readonly kind: "tend" }
  /** A step of a live move; see moving-part.ts. `url` is where to, for `seal`. */
  | { readonly kind: "move"; readonly step: MoveStep; readonly url: string };

export type MoveStep = "capture" | "release" | "seal" | "unseal";

/** A fault as data, since faults do not cross threads. */
export interface Failure {
  readonly failure: true;
  readonly code: string;
  readonly message: string;
  readonly remedy: string;
  readonly details?: Readonly<Record<string, unknown>>;
}

/** One result for each operation: what its kind answers, or a failure. */
export type Result = CommitOutcome | Claims | readonly boolean[] | undefined | Failure;

export interface BatchReply {
  readonly results: readonly Result[];
  /** Queues that got work, or have some again. */
  readonly queues: readonly string[];
  /** The newest durable commit number. */
  readonly n: number;
  /** What the batch changed was told already, to all processes, in a notice of its own. */
  readonly told?: boolean;
}

export const isFailure = (result: unknown): result is Failure =>
  typeof result === "object" && result !== null && (result as { failure?: unknown }).failure === true;

export function toFailure(error: unknown): Failure {
  if (Fault.is(error)) return { failure: true, code: error.code, message: error.message, remedy: error.remedy, details: error.details };
  const { message, errcode } = error as { message?: string; errcode?: number };
  const failed = (code: string, what: string, remedy: string): Failure => ({
    failure: true,
    code,
    message: `${what}: ${message ?? String(error)}`,
    remedy,
    details: { errcode },
  });
  switch ((errcode ?? 0) & 0xff) {
    case 13:
      return failed(
        "store.disk-full",
        "the disk, or the size the store may have, is full; nothing of this commit was applied",
        "Free space, then submit it again.",
      );
    case 5:
      return failed(
        "store.in-use",
        "another program is inside a transaction on the store's file; nothing of this commit was applied",
        "Let no other program write to the file, then submit it again.",
      );
    case 10:
      return failed(
        "store.io-error",
        "the disk refused to read or write; nothing of this commit was applied",
        "Check the disk and its file system, then do it again under a new commit id.",
      );
    case 11:
    case 26:
      return failed("store.corrupt", "the store's file is damaged", "Stop, keep a copy of the file, and restore the last backup.");
    default:
      return failed("store.failed", "the store could not do this", "Read the cause; if it names nothing of yours, report it.");
  }
}

export function toFault(failure: Failure): Fault {
  return Fault.create(failure.code as `${string}.${string}`, failure.message, failure.remedy, { details: failure.details ?? {} });
}

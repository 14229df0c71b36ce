/** The door to the lane: the same calls whether it runs in a thread or here. */
import type { Clock, Timer } from "../kernel/index.ts";
import { Fault } from "../kernel/index.ts";
import type { Change, Commit, CommitOutcome, HeartbeatOptions, SqlResult, Statement } from "../store/index.ts";
import type { Lane } from "./lane.ts";
import type { BatchReply, Operation } from "./operation.ts";

export interface TransactionEnd {
  readonly outcome: CommitOutcome;
  readonly queues: readonly string[];
  readonly n: number;
}

export interface Writer {
  readonly epoch: number;
  /** Batches that may be on their way at once. */
  readonly batchesInFlightMax: number;
  /** Operations that are worth a flush of their own while another batch is with the writer. Where one batch may be on its way, nobody asks. */
  followersMin(): number;
  apply(operations: readonly Operation[], nowMs: number): BatchReply | Promise<BatchReply>;
  /** Begins an interactive transaction, which is rolled back after `withinMs`, whatever its caller does. */
  begin(nowMs: number, withinMs: number): void | Promise<void>;
  execute(statement: Statement): SqlResult | Promise<SqlResult>;
  end(commit: Commit): TransactionEnd | Promise<TransactionEnd>;
  abandon(): void | Promise<void>;
  /** What other processes changed; and, after a time without word from them, from which commit on it is not known. */
  readonly notices?: (listener: (notice: Notice) => void) => void;
  close(): void | Promise<void>;
  /** Only where the questions have a thread of their own. Answers how to stop. Work that was taken back comes as a notice. */
  heartbeat?(options: HeartbeatOptions): () => void;
}
export type Notice = { readonly change: Change } | { readonly missedSince: number };

/** Interactive transactions of a lane, with their time limit (FINDINGS F19). States: none, open, over (rolled back by the limit; until the caller notices). */
export function transactionLimit(lane: Lane, clock: Clock, onOver: () => void = () => undefined) {
  let timer: Timer | undefined;
  let open = false;
  let withinMs = 0;
  const close = () => {
    timer?.cancel();
    open = false;
  };
  const insist = () => {
    if (!open) throw overran(withinMs);
  };
  return {
    begin(nowMs: number, limitMs: number) {
      lane.begin(nowMs);
      open = true;
      withinMs = limitMs;
      timer = clock.after(limitMs, () => {
        if (!open) return;
        open = false;
        lane.abandon();
        onOver();
      });
    },
    execute(statement: Statement): SqlResult {
      insist();
      return lane.execute(statement);
    },
    end(commit: Commit): TransactionEnd {
      insist();
      close();
      try {
        return lane.end(commit);
      } catch (error) {
        lane.abandon();
        throw error;
      }
    },
    abandon() {
      if (!open) return;
      close();
      lane.abandon();
    },
  };
}

export function overran(withinMs: number): Fault {
  return Fault.create(
    "transaction.overran",
    `the transaction held the store longer than its ${withinMs} ms and was rolled back`,
    "Do slow work before the transaction, or give it a higher limit; all other commits wait for it.",
    { details: { withinMs } },
  );
}

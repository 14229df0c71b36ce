/**
 * The writer thread: the lane behind a message port. Messages are answered in the order they come; nothing here waits for
 * the main thread, so a blocked event loop there delays neither a batch under way nor the time limit of a transaction.
 */
import type { DatabaseSync } from "node:sqlite";
import { parentPort, workerData } from "node:worker_threads";
import { Fault, systemClock } from "../kernel/index.ts";
import type { SqlResult, Statement } from "../store/index.ts";
import { openForWriting, type Durability } from "./connection.ts";
import { openLane, type Lane, type TransactionSeam } from "./lane.ts";
import { toFailure, type Failure } from "./operation.ts";
import { packReply, unpackOne, unpackOperations, type Packed } from "./wire.ts";
import { transactionLimit, type TransactionEnd } from "./writer.ts";

export interface WriterData {
  readonly path: string;
  readonly durability: Durability;
}
export type Question =
  | { readonly ask: "apply"; readonly packed: Packed; readonly nowMs: number }
  | { readonly ask: "begin"; readonly nowMs: number; readonly withinMs: number }
  | { readonly ask: "execute"; readonly statement: Statement }
  | { readonly ask: "end"; readonly commit: Packed | undefined }
  | { readonly ask: "abandon" }
  | { readonly ask: "close" };
/** One answer per question, in their order. The first one, unasked, is the epoch. */
export type Answer = Applied | { readonly answer: SqlResult | TransactionEnd | number | undefined } | { readonly failed: Failure | StatementError };
/** How long the batch took, and the flushes of it alone: what the main thread paces its batches by. */
export interface Applied {
  readonly packed: Packed;
  readonly tookMs: number;
  readonly flushMs: number;
}
/** An error of SQLite's about the user's statement: the engine names it. */
export interface StatementError {
  readonly statement: true;
  readonly message: string;
  readonly errcode: number | undefined;
}

const port = parentPort as NonNullable<typeof parentPort>;
const { path, durability } = workerData as WriterData;

function answer(reply: Answer, transfer: ArrayBuffer[] = []): void {
  port.postMessage(reply, transfer);
}

function serve(lane: Lane): void {
  const limit = transactionLimit(lane, systemClock);
  const handle = (question: Exclude<Question, { ask: "apply" }>): SqlResult | TransactionEnd | undefined => {
    switch (question.ask) {
      case "begin":
        return void limit.begin(question.nowMs, question.withinMs);
      case "execute":
        return limit.execute(question.statement);
      case "end":
        return limit.end(question.commit && unpackOne(question.commit));
      case "abandon":
        return void limit.abandon();
      case "close":
        lane.close();
        return undefined;
    }
  };
  port.on("message", (question: Question) => {
    try {
      if (question.ask === "apply") {
        const fromMs = systemClock.monotonicMs();
        flushMs = 0;
        const packed = packReply(lane.apply(unpackOperations(question.packed), question.nowMs), lane.epoch);
        answer({ packed, tookMs: systemClock.monotonicMs() - fromMs, flushMs }, [packed.bytes]);
      } else answer({ answer: handle(question) });
      if (question.ask === "close") port.close();
    } catch (error) {
      const { errcode, message } = error as { errcode?: number; message: string };
      answer({ failed: question.ask === "execute" && !Fault.is(error) ? { statement: true, message, errcode } : toFailure(error) });
    }
  });
}

/** Of the batch at hand. */
let flushMs = 0;
function timed(db: DatabaseSync): TransactionSeam {
  const [begin, commit, rollback] = [db.prepare("begin immediate"), db.prepare("commit"), db.prepare("rollback")];
  return {
    begin: () => void begin.run(),
    commit() {
      const fromMs = systemClock.monotonicMs();
      commit.run();
      flushMs += systemClock.monotonicMs() - fromMs;
    },
    rollback: () => void rollback.run(),
  };
}

try {
  const lane = openLane({ open: () => openForWriting(path, durability), seam: timed });
  serve(lane);
  answer({ answer: lane.epoch });
} catch (error) {
  answer({ failed: toFailure(error) });
  port.close();
}

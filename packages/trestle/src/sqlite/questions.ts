/** What a process asks of the lane, and what comes back: the same between threads and between processes. */
import type { SqlResult, Statement } from "../store/index.ts";
import { Fault } from "../kernel/index.ts";
import { toFailure, toFault, type Failure } from "./operation.ts";
import type { Packed } from "./wire.ts";
import type { TransactionEnd } from "./writer.ts";

export type Question =
  | { readonly ask: "apply"; readonly packed: Packed; readonly nowMs: number }
  | { readonly ask: "begin"; readonly nowMs: number; readonly withinMs: number }
  | { readonly ask: "execute"; readonly statement: Statement }
  | { readonly ask: "end"; readonly commit: Packed | undefined }
  | { readonly ask: "abandon" };

/** One answer per question, in their order. */
export type Answer = Applied | { readonly answer: SqlResult | TransactionEnd | undefined } | { readonly failed: Failure | StatementError };

/** How long the operations took to apply, their part of the batches they were in; and the flushes of it alone: what the main thread paces its batches by. */
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

export function failed(error: unknown, question?: Question): Answer {
  const { errcode, message } = error as { errcode?: number; message: string };
  return { failed: question?.ask === "execute" && !Fault.is(error) ? { statement: true, message, errcode } : toFailure(error) };
}

export const thrownOf = (failure: Failure | StatementError): Error =>
  "statement" in failure ? Object.assign(new Error(failure.message), { errcode: failure.errcode }) : toFault(failure);

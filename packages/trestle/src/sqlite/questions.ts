/** What a process asks of the lane, and what comes back: the same between threads and between processes. */
import type { Change, SqlResult, Statement } from "../store/index.ts";
import { Fault } from "../kernel/index.ts";
import type { Durability } from "./connection.ts";
import { toFailure, toFault, type Failure } from "./operation.ts";
import type { Packed } from "./wire.ts";
import type { TransactionEnd } from "./writer.ts";

export type Question =
  | { readonly ask: "apply"; readonly packed: Packed; readonly nowMs: number }
  | { readonly ask: "begin"; readonly nowMs: number; readonly withinMs: number }
  | { readonly ask: "execute"; readonly statement: Statement }
  | { readonly ask: "end"; readonly commit: Packed }
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

/** So long callers wait for a writer before they hear what is certainly in the way. */
export const patienceMs = 2_000;

/** Raised when what goes over the socket changes its meaning. */
export const wireVersion = 5;

export interface Hello {
  readonly hello: number;
  readonly session: string;
  readonly durability: Durability;
  /** Hears what others change, and claims. Otherwise it is a thread that keeps claims, and only wants to be there. */
  readonly listens: boolean;
  /** The newest commit a reply to this process told of; absent when it had none yet. */
  readonly knows?: number | undefined;
}
export interface Welcome {
  readonly welcome: { readonly epoch: number };
}
export type ToWriter = Hello | Question | { readonly ping: true } | { readonly bye: true };
export type FromWriter = Welcome | Answer | { readonly change: Change } | { readonly pong: true };

export function failed(error: unknown, question?: Question): Answer {
  const { errcode, message } = error as { errcode?: number; message: string };
  return { failed: question?.ask === "execute" && !Fault.is(error) ? { statement: true, message, errcode } : toFailure(error) };
}

export const thrownOf = (failure: Failure | StatementError): Error =>
  "statement" in failure ? Object.assign(new Error(failure.message), { errcode: failure.errcode }) : toFault(failure);

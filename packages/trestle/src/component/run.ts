/**
 * One run of one handler, as its parts see it: whether it goes on, and where it stands in the journal of its invocation. What it reads (reading.ts), stages
 * (draft.ts), learns and calls (recovery.ts) asks here first.
 *
 * States, changed in this file only:
 * - `open`: the handler runs.
 * - `superseded`: a recovery point could not commit (conflict, claim lost, deadline). Every further use throws; the runner
 *   decides whether the handler runs again.
 * - `settled`: the handler has ended. A handle used now faults with `handle.outlived-its-handler`.
 */
import { Fault } from "../kernel/index.ts";
import type { CommitRefused, Expectation, Write } from "../store/index.ts";
import type { Component, Mode } from "./component.ts";
import type { Principal } from "./context.ts";
import { newJournal, type Journal } from "./journal.ts";
import type { NodeServices } from "./node.ts";
import { Replay } from "./replay.ts";
import type { Accepted } from "./schema.ts";
import { HeldTurns } from "./held-turns.ts";

export interface InvocationFrame {
  readonly node: NodeServices;
  readonly mode: Mode;
  /** Equal on every attempt. A UUID where a job or a key names it. */
  readonly id: string;
  /** The component whose handler this is. */
  readonly component: Component;
  readonly operation: string;
  readonly tenant: string | undefined;
  /** Of what set it off; absent: it set itself off. */
  readonly correlation?: string | undefined;
  /** The message or event it answers to; absent: what its own id names. */
  readonly cause?: string | undefined;
  readonly principal: Principal | undefined;
  readonly attempt: number;
  readonly startedAtMs: number;
  readonly deadlineMs: number;
  readonly signal: AbortSignal;
  /** Of an earlier run of this invocation. */
  readonly journal?: Journal | undefined;
  /** What else a recovery point writes and expects: the claim of a job, the key of a request. Asked before each. */
  readonly guard?: ((first: boolean) => { readonly expects: readonly Expectation[]; readonly writes: readonly Write[] }) | undefined;
  /** A `read` whose answer must be of one moment: `changedMeanwhile` is asked before it is believed. */
  readonly consistent?: boolean | undefined;
  /** What the door that the handler is called through has let through. */
  readonly accepted?: Accepted | undefined;
  /** Where a resumable read left off (SSE's Last-Event-ID). */
  readonly resumeAfter?: string | undefined;
  /** Nobody has run this invocation before: what its ids name is new. */
  readonly first?: boolean;
  /** What was done once and for all by runs of this attempt in this process, by name: a run after a conflict does not do it again. */
  readonly done?: Map<string, unknown> | undefined;
}

export interface Superseded {
  readonly why: CommitRefused | { readonly ok: false; readonly refused: "overran" };
}

export class Run {
  readonly frame: InvocationFrame;
  readonly node: NodeServices;
  readonly mode: Mode;
  readonly replay: Replay;
  readonly turns: HeldTurns;
  #state: "open" | "superseded" | "settled" = "open";
  #superseded: Superseded | undefined;

  /** `turned`: another segment of the journal begins. */
  constructor(frame: InvocationFrame, turned: () => void) {
    this.frame = frame;
    this.node = frame.node;
    this.mode = frame.mode;
    this.replay = new Replay(frame.journal ?? newJournal(), frame.node.clock, frame.startedAtMs, turned);
    this.turns = new HeldTurns(this);
  }

  get isOpen(): boolean {
    return this.#state === "open";
  }
  get superseded(): Superseded | undefined {
    return this.#superseded;
  }
  /** The handler goes again through what an earlier run has committed. */
  get isReplaying(): boolean {
    return this.replay.replayed !== undefined;
  }

  assertOpen(): void {
    if (this.#state === "open") return;
    if (this.#state === "superseded")
      throw Fault.create(
        "handler.superseded",
        `this run of ${this.name} cannot commit any more (${this.#superseded?.why.refused}); it ends here`,
        "Let the fault pass: the runtime runs the handler again where that is right.",
      );
    throw Fault.create(
      "handle.outlived-its-handler",
      `a handle of ${this.name} was used after its handler had ended`,
      "Await everything the handler starts; handles cannot be kept for later.",
    );
  }

  /**
   * Before everything that reads, stages or mints. While a call is open the handler does nothing but call: which of several
   * branches comes first is chance, so the next run could not tell what was committed before the call and what was not.
   */
  assertFree(): void {
    this.assertOpen();
    if (this.replay.open.size > 0) for (const call of this.replay.open) throw this.overlapping(`used a handle while ${call.operation} had not been answered`);
  }

  assertWrites(): void {
    this.assertFree();
    if (this.mode === "read")
      throw Fault.create("handler.read-only", `${this.name} only looks; it cannot write`, "Write in a POST, a queue, a subscription or a schedule.");
  }

  /** From here on it cannot commit. Answers the fault to throw out of the handler. */
  supersede(why: Superseded["why"]): Fault {
    if (this.#state === "open") {
      this.#state = "superseded";
      this.#superseded = { why };
      this.turns.end();
      this.replay.end();
    }
    return Fault.create(
      "handler.superseded",
      `this run of ${this.name} cannot commit any more (${why.refused})`,
      "Let the fault pass: the runtime runs the handler again where that is right.",
    );
  }

  settle(): void {
    if (this.#state === "open") this.#state = "settled";
    this.turns.end();
    this.replay.end();
  }

  diverged(what: string): Fault {
    const expected = this.replay.replayed?.call;
    return Fault.create(
      "handler.diverged",
      `${this.name} took another way when it was run again: it tried to ${what}, which its earlier run had not done before ${expected ? `calling ${expected.operation} with key ${expected.key}` : "its recovery point"}`,
      "Make the code before a recovery point depend only on its message, its handles and its context.",
    );
  }

  overlapping(what: string): Fault {
    return Fault.create(
      "handler.overlapping-call",
      `${this.name} ${what}`,
      "Await every call that was begun (`await Promise.all([...])`), and read and write before or after them, not in between.",
    );
  }

  /** For people. */
  get name(): string {
    return `${this.frame.component.kind} "${this.frame.component.name}"${this.frame.operation === "" ? "" : `, ${this.frame.operation}`}`;
  }
}

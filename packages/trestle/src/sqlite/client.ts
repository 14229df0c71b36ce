/**
 * What a process asks of whoever writes its file, from its main thread. Its own writer thread is asked over the port, the writer of another process
 * over a connection of the main thread's own: a thread between the two would cost each batch two more wake-ups and two more copies. Who is to
 * be asked is found out by the writer thread (seat.ts), which says so (`Place`). Every question is kept here until it is answered, so
 * that a change of the writer is a delay and not an error.
 *
 * States:
 *   nowhere  at first, and when the writer is lost, until the thread names one. When it says that none can be had (`refused`), questions are
 *            answered with what is in the way until there is one again.
 *   here     this process's own thread writes. Left when the thread says so.
 *   there    another process writes; `link` is absent until the connection is made, and while it is made again. Left for the next place that is named.
 *
 * A lost writer and what was asked of it (FINDINGS F6): batches are asked again as they are, of the next writer: commits have ids, the
 * rest may be done twice; jobs claimed by an answer that never came are taken back when this process names the last answer it has
 * heard. An open transaction is gone; the end of one is decided by the id of its commit.
 */
import { Fault, type Clock, type Random } from "../kernel/index.ts";
import type { Change, CommitOutcome } from "../store/index.ts";
import type { Durability } from "./connection.ts";
import type { Link } from "./link.ts";
import { isFailure, toFailure, toFault, type Failure } from "./operation.ts";
import { failed, patienceMs, thrownOf, type Answer, type Question } from "./questions.ts";
import { packOperations, replyNumber, unpackOne, unpackOperations, unpackReply } from "./wire.ts";
import type { WriterNote } from "./writer-note.ts";
import type { Notice, TransactionEnd } from "./writer.ts";

/** Where the writer is, as the writer thread says it. */
export type Place =
  | { readonly at: "here"; readonly term: number; readonly epoch: number }
  | { readonly at: "there"; readonly note: WriterNote }
  | { readonly at: "nowhere"; readonly refused?: Failure };

export interface ClientOptions {
  readonly session: string;
  readonly durability: Durability;
  readonly clock: Clock;
  readonly random: Random;
  /** To the writer thread of this process. */
  tell(message: Question | ToSeat): void;
  notice(notice: Notice): void;
  /** There is a writer, perhaps another one than before. */
  begun(epoch: number): void;
  /** Callers hear this fault until there is one. */
  refused(fault: Fault): void;
}
/** What the main thread says to its seat, beside questions. Not answered. */
export type ToSeat =
  /** Takes its chair at the writer of this term. `knows`: it has heard of no claim of its own beyond this commit; `heardOf`: of no change beyond that one. */
  | { readonly ask: "join"; readonly term: number; readonly knows: number | undefined; readonly heardOf: number | undefined }
  /** The writer of this term does not answer, though its end of the connection is there. */
  | { readonly ask: "silent"; readonly term: number };

type State =
  | { readonly at: "nowhere" }
  | { readonly at: "here" }
  | { readonly at: "there"; readonly note: WriterNote; link: Link | undefined; connecting: boolean; sinceMs: number };

interface Pending {
  readonly question: Question;
  readonly answered: (answer: Answer) => void;
  /** How often it was asked. */
  asked: number;
  /** Known already, and told when its turn comes. */
  known?: Answer;
  /** What its answer means, when another question is asked in its place. */
  readonly meaning?: (answer: Answer) => Answer;
}

/** A question that was asked so often, and each time the writer was lost, may be why it was. */
const askedMax = 5;
/** A connection that could not be made is tried again, unless another writer is named before; callers hear of it after `patienceMs`. */
const connectAgainMs = 10;

export class Client {
  readonly #options: ClientOptions;
  #state: State = { at: "nowhere" };
  #pending: Pending[] = [];
  #transaction: "none" | "open" | "lost" = "none";
  #refusing: Fault | undefined;
  /** The newest commit that a reply told of, and the newest that was heard of at all. */
  #knows: number | undefined;
  #heardOf: number | undefined;
  #epoch = 0;
  #closed = false;

  constructor(options: ClientOptions) {
    this.#options = options;
  }

  /** Answers come in the order of the questions. */
  ask(question: Question, answered: (answer: Answer) => void): void {
    const pending: Pending = { question, answered, asked: 0 };
    this.#pending.push(pending);
    if (!this.#reaches && this.#refusing) pending.known = question.ask === "abandon" ? nothing : failed(this.#refusing);
    this.#send(pending);
    if (pending.known) this.#flush();
  }

  get isAsking(): boolean {
    return this.#pending.length > 0;
  }

  /** From the writer thread: the answer to the first question that was asked of it. */
  answered(answer: Answer): void {
    if (this.#state.at === "here") this.#take(answer);
  }
  changed(change: Change): void {
    if (this.#state.at === "here") this.#hear(change);
  }

  /** From the writer thread: where the writer is now. */
  found(place: Place): void {
    const state = this.#state;
    if (this.#closed) return;
    switch (place.at) {
      case "here":
        this.#leave();
        this.#state = { at: "here" };
        // What it has missed it is told of from its chair: what is committed before it sits there, it would not hear.
        this.#options.tell({ ask: "join", term: place.term, knows: this.#knows, heardOf: this.#heardOf });
        return this.#begin(place.epoch);
      case "there":
        if (state.at === "there" && state.note.term === place.note.term) return state.link || state.connecting ? undefined : void this.#connect(state);
        this.#leave();
        this.#state = { at: "there", note: place.note, link: undefined, connecting: false, sinceMs: this.#options.clock.monotonicMs() };
        return void this.#connect(this.#state);
      case "nowhere":
        // A connection of its own may live while the thread looks for another writer; it says itself when it ends.
        if (state.at === "here") this.#leave();
        if (place.refused && !this.#reaches) this.#complain(thrownOf(place.refused) as Fault);
    }
  }

  /** The thread has ended: nothing will be found any more. */
  fail(fault: Fault): void {
    this.close();
    for (const { answered, known } of this.#pending.splice(0)) answered(known ?? failed(fault));
  }

  close(): void {
    this.#closed = true;
    if (this.#state.at === "there") this.#state.link?.close();
    this.#state = { at: "nowhere" };
  }

  get #reaches(): boolean {
    return this.#state.at === "here" || (this.#state.at === "there" && this.#state.link !== undefined);
  }

  async #connect(there: State & { at: "there" }): Promise<void> {
    const { session, durability, clock, random } = this.#options;
    const { note } = there;
    there.connecting = true;
    let link: Link | "silent" | "absent" | undefined;
    try {
      const { connect } = await import("./link.ts");
      const isMine = () => this.#state === there;
      link = await connect(
        note,
        { session, durability, knows: this.#knows, listens: true },
        clock,
        {
          answer: (answer) => isMine() && this.#take(answer),
          // One that comes with the welcome is not heard before those that were missed.
          change: (change) => isMine() && there.link !== undefined && this.#hear(change),
          ended: (how) => isMine() && this.#lost(there, how === "silent"),
        },
        () => this.isAsking,
      );
    } catch (error) {
      if (this.#state === there) this.#complain(Fault.is(error) ? error : (thrownOf(toFailure(error)) as Fault));
    }
    there.connecting = false;
    if (this.#state !== there) return typeof link === "object" ? link.drop() : undefined;
    if (typeof link === "object") {
      there.link = link;
      if (this.#heardOf !== undefined) this.#options.notice({ missedSince: this.#heardOf });
      return this.#begin(link.epoch);
    }
    if (link !== "silent" && clock.monotonicMs() - there.sinceMs >= patienceMs) this.#complain(takesNoConnection(note));
    if (link === "silent") this.#options.tell({ ask: "silent", term: note.term });
    else clock.after(connectAgainMs * (0.5 + random.next()), () => void (this.#state === there && !there.link && !there.connecting && this.#connect(there)));
  }

  /** The connection has ended. Unless the writer is only silent, it may take this process in again. */
  #lost(there: State & { at: "there" }, silent: boolean): void {
    there.link = undefined;
    there.sinceMs = this.#options.clock.monotonicMs();
    this.#afterLosses();
    if (silent) this.#options.tell({ ask: "silent", term: there.note.term });
    else void this.#connect(there);
  }

  #leave(): void {
    const state = this.#state;
    if (!this.#reaches) return;
    if (state.at === "there") state.link?.drop();
    this.#state = { at: "nowhere" };
    this.#afterLosses();
  }

  /** There is a writer again: it is asked everything that waits. */
  #begin(epoch: number): void {
    this.#epoch = epoch;
    this.#refusing = undefined;
    this.#options.begun(epoch);
    for (const pending of this.#pending.filter(({ known }) => !known)) this.#send(pending);
    this.#flush();
  }

  // ---- questions --------------------------------------------------------------------------------------------------------

  #send(pending: Pending): void {
    if (pending.known) return;
    const { question } = pending;
    if (this.#transaction === "lost") {
      if (question.ask === "execute" || question.ask === "end") pending.known = failed(transactionLost());
      else if (question.ask !== "apply") this.#transaction = "none";
      if (question.ask === "abandon") pending.known = nothing;
      if (pending.known) return;
    }
    const state = this.#state;
    if (state.at === "here") {
      pending.asked++;
      this.#options.tell(question);
    } else if (state.at === "there" && state.link) {
      pending.asked++;
      if (!state.link.ask(question))
        pending.known = failed(Fault.create("commit.too-large", "what was to be sent to the writer has more than 64 MiB", "Split the work."));
    }
  }

  /** What is known already goes out when nothing before it waits. */
  #flush(): void {
    for (let first = this.#pending[0]; first?.known; first = this.#pending[0]) {
      this.#pending.shift();
      first.answered(first.known);
    }
  }

  #take(answer: Answer): void {
    const pending = this.#pending.find(({ known }) => !known);
    if (!pending) return;
    const { ask } = pending.question;
    if ("packed" in answer) this.#heard((this.#knows = replyNumber(answer.packed)));
    if (ask === "begin" && "answer" in answer) this.#transaction = "open";
    if (ask === "end" || ask === "abandon") this.#transaction = "none";
    pending.known = pending.meaning ? pending.meaning(answer) : answer;
    this.#flush();
  }

  #heard(n: number): void {
    if (n > (this.#heardOf ?? 0)) this.#heardOf = n;
  }

  #hear(change: Change): void {
    this.#heard(change.n);
    this.#options.notice({ change });
  }

  // ---- after a loss -----------------------------------------------------------------------------------------------------

  #afterLosses(): void {
    if (this.#transaction === "open") this.#transaction = "lost";
    this.#pending = this.#pending.map((pending) => (pending.known || pending.asked === 0 ? pending : this.#afterLoss(pending)));
    this.#flush();
  }

  #afterLoss(pending: Pending): Pending {
    const { question } = pending;
    switch (question.ask) {
      case "execute":
        return { ...pending, known: failed(transactionLost()) };
      case "abandon":
        this.#transaction = "none";
        return { ...pending, known: nothing };
      case "end": {
        this.#transaction = "none";
        const resolve = packOperations([{ kind: "resolve", id: unpackOne(question.commit).id }]);
        const { answered } = pending;
        return {
          question: { ask: "apply", packed: resolve, nowMs: this.#options.clock.wallMs() },
          answered,
          asked: 0,
          meaning: (answer) => this.#endOf(answer),
        };
      }
      default:
        return pending.asked >= askedMax ? { ...pending, known: failed(unknownBatch()) } : pending;
    }
  }

  /** What became of a transaction's commit, as its end would have answered. */
  #endOf(answer: Answer): Answer {
    if ("failed" in answer) return failed(unknownAfter(thrownOf(answer.failed) as Fault));
    if (!("packed" in answer)) return answer;
    const { results, n } = unpackReply(answer.packed, this.#epoch);
    const outcome = results[0] as CommitOutcome | Failure;
    if (isFailure(outcome)) return failed(unknownAfter(toFault(outcome)));
    return outcome.ok ? { answer: { outcome, queues: [], n } satisfies TransactionEnd } : failed(transactionLost());
  }

  /** Callers have waited long enough. What was asked may still be done: its answer will find nobody. */
  #complain(fault: Fault): void {
    this.#refusing = fault;
    this.#transaction = this.#transaction === "open" ? "lost" : this.#transaction;
    for (const pending of this.#pending)
      pending.known ??= pending.question.ask === "abandon" ? nothing : failed(mayBeDone(pending) ? unknownAfter(fault) : fault);
    this.#flush();
    this.#options.refused(fault);
  }
}

const nothing: Answer = { answer: undefined };

function takesNoConnection({ pid, socket }: WriterNote): Fault {
  return Fault.create(
    "store.in-use",
    `process ${pid} writes the store, and its socket ${socket} takes no connection of this process`,
    "See whether this process may open more files and connections, and whether that process answers others.",
    { details: { pid, socket } },
  );
}

function transactionLost(): Fault {
  return Fault.create(
    "transaction.lost",
    "the process that wrote the store ended during this transaction; nothing of it was applied",
    "Do the transaction again.",
  );
}

/** What a lost writer was asked may have been applied, and a fault that says otherwise would be a lie. `store.writer-stopped` says so itself. */
function mayBeDone({ question, asked, meaning }: Pending): boolean {
  if (meaning) return true; // the end of a transaction
  return asked > 0 && question.ask === "apply" && unpackOperations(question.packed).some(({ kind }) => kind === "commit");
}
function unknownAfter(fault: Fault): Fault {
  if (fault.code === "store.writer-stopped") return fault;
  return Fault.create(
    "commit.unknown",
    `the process that wrote the store was lost with this commit, and no other could follow: ${fault.message}`,
    fault.remedy,
    {
      cause: fault,
      details: { ...fault.details, because: fault.code },
    },
  );
}

const unknownBatch = () =>
  Fault.create(
    "commit.unknown",
    `the writer was lost ${askedMax} times while it had this commit`,
    "See why it was. Ask again with `resolve`, or submit the same commit again.",
  );

/**
 * A process's place at a store's file, in its writer thread: it writes, or asks the process that does. It keeps every question of its own
 * process until that is answered, so that a change of the writer is a delay and not an error.
 *
 * States:
 *   seeking    at first, and whenever the writer is lost. Tries the lock, then the socket that the note names, again and again, in a few
 *              milliseconds; each try leads to writing or following. After `patienceMs` questions are answered with what is in the way.
 *   writing    got the lock, or ended the term of a writer that does not answer; has raised the term, opened the lane and its door. Left when a
 *              transaction finds another term (superseded), or by `close`.
 *   following  connected to the writer. Left when the connection ends, or the writer is silent.
 *   closed     final.
 *
 * A lost writer and what was asked of it (FINDINGS F6): batches are asked again as they are, of the next writer: commits have ids, the
 * rest may be done twice; jobs claimed by an answer that never came are taken back when this process names the last answer it has
 * heard. An open transaction is gone; the end of one is decided by the id of its commit.
 * Over 400 lines because these states and what each does with a question are one machine.
 */
import type { DatabaseSync } from "node:sqlite";
import { Fault, sleep, type Clock, type Random } from "../kernel/index.ts";
import type { Change, CommitOutcome } from "../store/index.ts";
import { openFault, openForWriting, openingWith, type Durability } from "./connection.ts";
import { openDoor, secretBytes, type Door } from "./door.ts";
import { Hub, type Member } from "./hub.ts";
import { openLane, type Lane, type TransactionSeam } from "./lane.ts";
import { connect, type Link } from "./link.ts";
import { toFailure, toFault } from "./operation.ts";
import { beginTerm, inUse, tryOwnership, type Ownership } from "./ownership.ts";
import { failed, type Answer, type Question } from "./questions.ts";
import { isGone, newSession } from "./session.ts";
import { readTerm, Superseded, termOf } from "./term.ts";
import { packOperations, replyNumber, unpackOne, unpackOperations, unpackReply } from "./wire.ts";
import { readNote, removeNote, removeSocket, withSocket, writeNote, type WriterNote } from "./writer-note.ts";
import type { Notice, TransactionEnd } from "./writer.ts";

export interface SeatOptions {
  readonly path: string;
  readonly durability: Durability;
  readonly clock: Clock;
  readonly random: Random;
  answer(answer: Answer): void;
  notice(notice: Notice): void;
}

type Role =
  /** `sinceMs`: callers wait. `lookMs`: so long it is known who should write, and does not answer; `ended`: of the newest term that was found. */
  | { readonly kind: "seeking"; readonly sinceMs: number; lookMs: number; lostTerm: number | undefined; ended: number }
  | (Office & { readonly kind: "writing"; readonly hub: Hub; readonly chair: ReturnType<Hub["join"]>; readonly member: Member })
  | { readonly kind: "following"; readonly link: Link; readonly term: number }
  | { readonly kind: "closed" };

interface Pending {
  question: Question;
  /** Writers it was asked of. */
  asked: number;
  /** Known already, and told when its turn comes. */
  known?: Answer;
  /** Who hears the answer, if not the main thread. */
  readonly answered?: (answer: Answer) => void;
  /** What its answer means, when another question is asked in its place. */
  readonly meaning?: (answer: Answer) => Answer;
}

/** Why a try led nowhere; certain, or perhaps over in a moment. */
interface InTheWay {
  readonly fault: Fault;
  readonly certain: boolean;
}

/** A writer that cannot be reached for so long is superseded if it is outside a transaction. */
const silenceMs = 1_000;
/** So long callers wait for a writer before they hear what is certainly in the way; and while others may only be settling who writes. */
const patienceMs = 2_000;
const unsurePatienceMs = 10_000;
const tryEveryMs = 4;
const trySlowlyEveryMs = 50;
/** A question that was with so many writers when they died may be why they did. */
const writersPerQuestionMax = 5;

/** Another process may be about to open its door, or to let go; any other fault while opening is the caller's to mend. */
const passing = new Set(["store.in-use", "store.writer-stopped"]);
/** A note that says "alone" is believed after so many tries: before, it may be left over from somebody who is gone. */
const triesUntilAlone = 10;

export class Seat {
  readonly #options: SeatOptions;
  readonly #session: string;
  #role: Role;
  #pending: Pending[] = [];
  #transaction: "none" | "open" | "lost" = "none";
  #refusing: Fault | undefined;
  /** The newest commit that a reply told of, and the newest that was heard of at all. */
  #knows: number | undefined;
  #heardOf: number | undefined;
  #epoch = 0;

  constructor(options: SeatOptions) {
    this.#options = options;
    this.#session = newSession(options.random);
    this.#role = seekingSince(options.clock.monotonicMs(), undefined);
  }

  /** Resolves with the epoch when there is a writer, this process or another. Rejects with what keeps it from the store. */
  async open(): Promise<number> {
    await this.#seek(true);
    return this.#epoch;
  }

  /** `answered` hears the answer, instead of the main thread. */
  ask(question: Question, answered?: (answer: Answer) => void): void {
    const pending: Pending = { question, asked: 0, ...(answered && { answered }) };
    this.#pending.push(pending);
    if (this.#role.kind === "seeking" && this.#refusing) pending.known = question.ask === "abandon" ? nothing : failed(this.#refusing);
    this.#send(pending);
    this.#flush();
  }

  /** An interactive transaction is open, or about to be: nothing else may be asked. */
  get inTransaction(): boolean {
    return this.#transaction === "open" || this.#pending.some(({ question }) => question.ask === "begin");
  }

  close(): void {
    const role = this.#role;
    this.#role = { kind: "closed" };
    if (role.kind === "following") role.link.close();
    if (role.kind !== "writing") return;
    try {
      role.hub.close(role.member);
    } finally {
      leaveOffice(this.#options.path, role);
    }
  }

  // ---- questions --------------------------------------------------------------------------------------------------------

  #send(pending: Pending): void {
    if (pending.known) return;
    const { question } = pending;
    if (this.#transaction === "lost") {
      if (question.ask === "execute" || question.ask === "end") pending.known = failed(transactionLost());
      else if (question.ask !== "apply") this.#transaction = "none"; // heartbeats go on beside it
      if (question.ask === "abandon") pending.known = nothing;
      if (pending.known) return;
    }
    const role = this.#role;
    if (role.kind === "writing") {
      pending.asked++;
      role.hub.ask(role.chair, question);
    } else if (role.kind === "following") {
      pending.asked++;
      if (!role.link.ask(question))
        pending.known = failed(Fault.create("commit.too-large", "what was to be sent to the writer has more than 64 MiB", "Split the work."));
    }
  }

  /** What is known already goes out when nothing before it waits. */
  #flush(): void {
    for (let first = this.#pending[0]; first?.known; first = this.#pending[0]) {
      this.#pending.shift();
      (first.answered ?? this.#options.answer)(first.known);
    }
  }

  #answered(answer: Answer): void {
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

  #changed(change: Change): void {
    this.#heard(change.n);
    this.#options.notice({ change });
  }

  // ---- finding a writer -------------------------------------------------------------------------------------------------

  /** `opening`: a fault that lasts ends it. Later it goes on, because the fleet may be mended while its processes run. */
  async #seek(opening: boolean): Promise<void> {
    const { clock, random } = this.#options;
    for (let tries = 0; this.#role.kind === "seeking"; tries++) {
      let met: InTheWay | undefined;
      try {
        met = await this.#try(this.#role);
      } catch (error) {
        const fault = this.#faultOf(error);
        met = { fault, certain: !passing.has(fault.code) || (fault.details["alone"] === true && tries > triesUntilAlone) };
        if (opening && met.certain) throw fault;
      }
      if (this.#role.kind !== "seeking") return;
      if (met && clock.monotonicMs() - this.#role.sinceMs >= (met.certain ? patienceMs : unsurePatienceMs)) {
        if (opening) throw met.fault;
        this.#complain(met.fault);
      }
      await sleep(clock, (tries < 50 ? tryEveryMs : trySlowlyEveryMs) * (0.5 + random.next()));
    }
  }

  #faultOf(error: unknown): Fault {
    if (error instanceof LaneHeld) return error.fault;
    if (error instanceof Superseded) return inUse(this.#options.path); // before it had opened its door
    const fault = openFault(this.#options.path, error);
    return Fault.is(fault) ? fault : toFault(toFailure(fault));
  }

  /** One try. Answers what was in the way, unless the role has changed. */
  async #try(seeking: Role & { kind: "seeking" }): Promise<InTheWay | undefined> {
    const { path, clock } = this.#options;
    const free = tryOwnership(path);
    if (free) {
      try {
        return await this.#takeOffice(undefined);
      } finally {
        free.release();
      }
    }
    const note = readNote(path);
    // Between its lock and its note, or an older version's.
    if (!note) return { fault: inUse(path), certain: false };
    if (note.socket === undefined) throw inUse(path);
    const met = seeking.lostTerm === note.term ? "silent" : await this.#follow(note);
    // Once its term could not be ended it may go on at any time: then it is asked again.
    seeking.lostTerm = undefined;
    if (this.#role !== seeking) return undefined;
    const fault = met === "absent" ? unreachable(path, note) : writerStopped(note);
    if (met !== "silent" && clock.monotonicMs() - seeking.lookMs < silenceMs) return { fault, certain: false };
    // Its lock says that it lives, and no silence of its own that it has stopped: it may be that only this process does not see its socket.
    if (met === "absent" && termOf(path) === note.term) return { fault, certain: true };
    return this.#supersede(note, seeking);
  }

  async #follow(note: WriterNote): Promise<"silent" | "absent" | undefined> {
    const { durability, clock } = this.#options;
    let following: Role | undefined;
    const link = await connect(
      note,
      { session: this.#session, durability, knows: this.#knows },
      clock,
      {
        answer: (answer) => this.#role === following && this.#answered(answer),
        change: (change) => this.#role === following && this.#changed(change),
        ended: (how) => this.#role === following && this.#lost(how === "silent" ? note.term : undefined),
      },
      () => this.#pending.length > 0,
    );
    if (link === undefined || typeof link === "string") return link;
    if (this.#role.kind !== "seeking") link.close();
    else {
      following = { kind: "following", link, term: note.term };
      this.#begin(following, link.epoch);
    }
    return undefined;
  }

  /** Ends the term of a writer that does not answer, unless it is inside a transaction: then its commit may still come. */
  async #supersede(note: WriterNote, seeking: Role & { kind: "seeking" }): Promise<InTheWay | undefined> {
    try {
      await this.#takeOffice(Math.max(note.term, seeking.ended));
      return undefined;
    } catch (error) {
      if (error instanceof TermOver) {
        // Somebody else has ended it, and is about to write: unless no note of it comes, as of one that stops right there.
        if (error.term > seeking.ended) seeking.lookMs = this.#options.clock.monotonicMs();
        seeking.ended = error.term;
        return { fault: writerStopped(note), certain: false };
      }
      if (error instanceof LaneHeld) return { fault: writerStopped(note), certain: true };
      throw error;
    }
  }

  /** Begins a term, after the one that is to be `ended` if that is given, and writes. */
  async #takeOffice(ended: number | undefined): Promise<undefined> {
    const { path, durability, clock } = this.#options;
    let lane: Lane | undefined;
    let door: Door | undefined;
    const { db, term, ownership } = this.#elected(ended);
    try {
      const flushes = timedFlushes(clock);
      lane = openLane({ open: openingWith(db, () => openForWriting(path, durability)), seam: flushes.seam, term, keepsClaims: true });
      const session = this.#session;
      const hub = new Hub({ lane, clock, superseded: () => this.#superseded(), isGone: (of) => isGone(of, session), flushedMs: flushes.tookMs });
      const member: Member = {
        session,
        near: true,
        answer: (answer) => this.#answered(answer),
        notice: (change) => this.#changed(change),
      };
      const chair = hub.join(member, this.#knows);
      hub.expect();
      const secret = this.#secret();
      let note: WriterNote = { pid: process.pid, term };
      try {
        const { epoch } = lane;
        const at = await withSocket(path, term, (socket) => openDoor({ socket, secret, hub, clock, durability, epoch }));
        door = at.opened;
        note = { ...note, socket: at.socket, secret: secret.toString("hex") };
      } catch (error) {
        note = { ...note, alone: `it could not open a socket (${(error as Error).message})` };
      }
      const written = note;
      // A successor may have written its own by now, which must stay.
      lane.inTerm(() => {
        removeSocket(path);
        writeNote(path, written);
      });
      if (this.#role.kind !== "seeking" || hub.isOver) throw inUse(path);
      this.#begin({ kind: "writing", lane, hub, chair, member, door, ownership }, lane.epoch);
      return undefined;
    } catch (error) {
      if (lane) leaveOffice(path, { lane, door, ownership });
      else {
        db.close();
        ownership.release();
      }
      throw error;
    }
  }

  /** Throws `LaneHeld` where the write lock is not to be had, `TermOver` when somebody else has ended that term. */
  #elected(ended: number | undefined): { readonly db: DatabaseSync; readonly term: number; readonly ownership: Ownership } {
    const { path, durability } = this.#options;
    let db: DatabaseSync | undefined;
    try {
      db = openForWriting(path, durability);
      const begun = beginTerm(db, path, ended);
      if (!begun) throw new TermOver(readTerm(db));
      return { db, ...begun };
    } catch (error) {
      db?.close();
      const fault = openFault(path, error);
      throw Fault.is(fault, "store.in-use") ? new LaneHeld(fault) : error;
    }
  }

  #secret(): Buffer {
    const words = Uint32Array.from({ length: secretBytes / 4 }, () => this.#options.random.uint32());
    return Buffer.from(words.buffer);
  }

  /** There is a writer again: it is asked everything that waits. */
  #begin(role: Role, epoch: number): void {
    this.#role = role;
    this.#epoch = epoch;
    this.#refusing = undefined;
    if (this.#heardOf !== undefined) this.#options.notice({ missedSince: this.#heardOf });
    for (const pending of this.#pending.filter(({ known }) => !known)) this.#send(pending);
    this.#flush();
  }

  // ---- losing one -------------------------------------------------------------------------------------------------------

  #superseded(): void {
    const role = this.#role;
    if (role.kind !== "writing") return;
    leaveOffice(this.#options.path, role);
    this.#lost(undefined);
  }

  /** `silentTerm`: the writer is there and does not answer. */
  #lost(silentTerm: number | undefined): void {
    this.#role = seekingSince(this.#options.clock.monotonicMs(), silentTerm);
    const open = this.#transaction === "open";
    if (open) this.#transaction = "lost";
    this.#pending = this.#pending.map((pending) => (pending.known || pending.asked === 0 ? pending : this.#afterLoss(pending)));
    this.#flush();
    void this.#seek(false);
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
        if (!question.commit) return { ...pending, known: failed(unknownEnd()) };
        const resolve = packOperations([{ kind: "resolve", id: unpackOne(question.commit).id }]);
        return { question: { ask: "apply", packed: resolve, nowMs: this.#options.clock.wallMs() }, asked: 0, meaning: (answer) => this.#endOf(answer) };
      }
      default:
        return pending.asked >= writersPerQuestionMax ? { ...pending, known: failed(unknownBatch()) } : pending;
    }
  }

  /** What became of a transaction's commit, as its end would have answered. */
  #endOf(answer: Answer): Answer {
    if (!("packed" in answer)) return answer;
    const { results, n } = unpackReply(answer.packed, this.#epoch);
    const outcome = results[0] as CommitOutcome;
    return outcome.ok ? { answer: { outcome, queues: [], n } satisfies TransactionEnd } : failed(transactionLost());
  }

  /** Callers have waited long enough. What was asked may still be done: its answer will find nobody. */
  #complain(fault: Fault): void {
    this.#refusing = fault;
    this.#transaction = this.#transaction === "open" ? "lost" : this.#transaction;
    for (const pending of this.#pending)
      pending.known ??= pending.question.ask === "abandon" ? nothing : failed(pending.asked > 0 ? afterAsking(pending.question, fault) : fault);
    this.#flush();
  }
}

/** Somebody stays inside a transaction on the file. */
class LaneHeld extends Error {
  readonly fault: Fault;
  constructor(fault: Fault) {
    super(fault.message);
    this.fault = fault;
  }
}
/** It is this one now. */
class TermOver extends Error {
  readonly term: number;
  constructor(term: number) {
    super(`the term is ${term}`);
    this.term = term;
  }
}

const seekingSince = (nowMs: number, lostTerm: number | undefined): Role & { kind: "seeking" } => ({
  kind: "seeking",
  sinceMs: nowMs,
  lookMs: nowMs,
  lostTerm,
  ended: 0,
});

interface Office {
  readonly lane: Lane;
  readonly door: Door | undefined;
  readonly ownership: Ownership;
}

/** The note goes while it is certainly this writer's; one that stays (of a superseded writer, on a full disk) names a socket where nobody listens. */
function leaveOffice(path: string, { lane, door, ownership }: Office): void {
  const steps = [() => lane.inTerm(() => removeNote(path)), () => lane.close(), () => ownership.release(), () => door?.close()];
  for (const step of steps) {
    try {
      step();
    } catch {
      // The others let go all the same.
    }
  }
}

/** The transactions of a lane, with the time that their flushes took together. */
function timedFlushes(clock: Clock): { readonly seam: (db: DatabaseSync) => TransactionSeam; readonly tookMs: () => number } {
  let tookMs = 0;
  return {
    tookMs: () => tookMs,
    seam(db) {
      const [begin, commit, rollback] = [db.prepare("begin immediate"), db.prepare("commit"), db.prepare("rollback")];
      return {
        begin: () => void begin.run(),
        commit() {
          const fromMs = clock.monotonicMs();
          commit.run();
          tookMs += clock.monotonicMs() - fromMs;
        },
        rollback: () => void rollback.run(),
      };
    },
  };
}

const nothing: Answer = { answer: undefined };

function writerStopped(note: WriterNote): Fault {
  return Fault.create(
    "store.writer-stopped",
    `process ${note.pid}, which writes the store, does not answer, and may be inside a transaction`,
    `Let process ${note.pid} go on (kill -CONT), or end it; the others then go on by themselves. What was on its way may still be applied: the same commit may be submitted again.`,
    { details: { pid: note.pid } },
  );
}

function unreachable(path: string, note: WriterNote): Fault {
  return Fault.create(
    "store.in-use",
    `${path} is open in process ${note.pid}, whose socket ${note.socket} is not there: its name was removed, or it lies in a directory that only that process sees under this name`,
    "Where processes have a directory for temporary files each (systemd's PrivateTmp, containers), give the file a path of at most 80 bytes, so that the socket lies beside it, or set TMPDIR of all of them to one directory they share.",
    { details: { path, pid: note.pid, socket: note.socket } },
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
function afterAsking(question: Question, fault: Fault): Fault {
  const hasCommit = question.ask === "apply" && unpackOperations(question.packed).some(({ kind }) => kind === "commit");
  if (!hasCommit || fault.code === "store.writer-stopped") return fault;
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

const unknownEnd = () =>
  Fault.create(
    "commit.unknown",
    "the process that wrote the store ended while this transaction did; it carried no commit by whose id that could be found out",
    "Look at what it wrote, or give it a commit.",
  );
const unknownBatch = () =>
  Fault.create(
    "commit.unknown",
    `${writersPerQuestionMax} writers ended while they had this commit`,
    "See why they ended. Ask again with `resolve`, or submit the same commit again.",
  );

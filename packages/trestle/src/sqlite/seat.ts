/**
 * A process's place at a store's file, in its writer thread: it finds out who writes, becomes the writer when there is none, and tells the main
 * thread where to ask (client.ts). Of the process's questions it passes on those to its own lane, and asks those of its heartbeats.
 *
 * States:
 *   seeking    at first, and whenever the writer is lost. Tries the lock, then the socket that the note names, again and again, in a few
 *              milliseconds; each try leads to writing or following. After `patienceMs` the main thread hears what is in the way.
 *   writing    got the lock, or ended the term of a writer that does not answer; has raised the term, opened the lane and its door. Left when a
 *              transaction finds another term (superseded), or by `close`.
 *   following  connected to the writer. Left when the connection ends, or the writer is silent, to this thread or to the main thread.
 *   closed     final.
 *
 * What heartbeats ask fails while there is no writer, or with the one that is lost: they ask again by themselves.
 */
import type { DatabaseSync } from "node:sqlite";
import { Fault, sleep, type Clock, type Random } from "../kernel/index.ts";
import type { Place, ToSeat } from "./client.ts";
import { openFault, openForWriting, openingWith, type Durability } from "./connection.ts";
import { openDoor, secretBytes, type Door } from "./door.ts";
import { Hub, type Member } from "./hub.ts";
import { openLane, type Lane, type TransactionSeam } from "./lane.ts";
import { connect, type Link } from "./link.ts";
import { toFailure, toFault } from "./operation.ts";
import { beginTerm, inUse, tryOwnership, type Ownership } from "./ownership.ts";
import { failed, patienceMs, type Answer, type Question } from "./questions.ts";
import { isGone } from "./session.ts";
import { readTerm, Superseded, termOf } from "./term.ts";
import { readNote, removeNote, removeSockets, withSocket, writeNote, type WriterNote } from "./writer-note.ts";
import type { Notice } from "./writer.ts";

export interface SeatOptions {
  readonly path: string;
  readonly durability: Durability;
  readonly session: string;
  readonly clock: Clock;
  readonly random: Random;
  /** To the main thread: answers and changes from its own lane, and where the writer is. */
  say(message: Answer | Notice | { readonly place: Place }): void;
}

type Answered = (answer: Answer) => void;

type Role =
  /** `sinceMs`: callers wait. `lookMs`: so long it is known who should write, and does not answer; `ended`: of the newest term that was found. */
  | { readonly kind: "seeking"; readonly sinceMs: number; lookMs: number; lostTerm: number | undefined; ended: number }
  /** `since`: the newest commit when its term began; `main`: the main thread's chair, when it has taken it; `beats`: that of the heartbeats. */
  | (Office & { readonly kind: "writing"; readonly hub: Hub; readonly term: number; readonly since: number; main: Chair | undefined; readonly beats: Chair })
  | { readonly kind: "following"; readonly link: Link; readonly term: number }
  | { readonly kind: "closed" };
type Chair = ReturnType<Hub["join"]>;

/** Why a try led nowhere; certain, or perhaps over in a moment. */
interface InTheWay {
  readonly fault: Fault;
  readonly certain: boolean;
}

/** A writer that cannot be reached for so long is superseded if it is outside a transaction. */
const silenceMs = 1_000;
/** The same (`patienceMs`) while others may only be settling who writes. */
const unsurePatienceMs = 10_000;
const tryEveryMs = 4;
const trySlowlyEveryMs = 50;

/** Another process may be about to open its door, or to let go; any other fault while opening is the caller's to mend. */
const passing = new Set(["store.in-use", "store.writer-stopped"]);
/** A note that says "alone" is believed after so many tries: before, it may be left over from somebody who is gone. */
const triesUntilAlone = 10;

export class Seat {
  readonly #options: SeatOptions;
  #role: Role;
  /** Heartbeats that wait for an answer, in the order of their questions. */
  #beating: Answered[] = [];

  constructor(options: SeatOptions) {
    this.#options = options;
    this.#role = seekingSince(options.clock.monotonicMs(), undefined);
  }

  /** Resolves when there is a writer, this process or another. Rejects with what keeps it from the store. */
  async open(): Promise<void> {
    await this.#seek(true);
  }

  /** From the main thread. One that took no chair in this term asks nobody: it hears that the term was lost, and asks again. */
  ask(question: Question | ToSeat): void {
    const role = this.#role;
    if (question.ask === "silent") {
      if (role.kind !== "following" || role.term !== question.term) return;
      role.link.drop();
      return this.#lost(role.term);
    }
    if (role.kind !== "writing") return;
    if (question.ask === "join") {
      if (role.term !== question.term) return;
      role.main = role.hub.join(this.#member({ near: true, answer: this.#options.say }), question.knows);
      const missedSince = question.heardOf ?? role.since;
      if (missedSince < role.lane.n) this.#options.say({ missedSince });
    } else if (role.main) role.hub.ask(role.main, question);
  }

  /** From a heartbeat. */
  beat(question: Question, answered: Answered): void {
    const role = this.#role;
    if (role.kind !== "writing" && role.kind !== "following") return answered(nobodyWrites());
    this.#beating.push(answered);
    if (role.kind === "writing") role.hub.ask(role.beats, question);
    else role.link.ask(question);
  }

  close(): void {
    const role = this.#role;
    this.#role = { kind: "closed" };
    if (role.kind === "following") role.link.close();
    if (role.kind !== "writing") return;
    try {
      role.hub.close(role.beats.member);
    } finally {
      leaveOffice(this.#options.path, role);
    }
  }

  #member({ near, answer }: { readonly near: boolean; readonly answer: (answer: Answer) => void }): Member {
    return { session: this.#options.session, near, listens: near, answer, notice: (change) => this.#options.say({ change }) };
  }

  #beatAnswered(answer: Answer): void {
    this.#beating.shift()?.(answer);
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
        this.#options.say({ place: { at: "nowhere", refused: toFailure(met.fault) } });
      }
      await sleep(clock, (tries < 50 ? tryEveryMs : trySlowlyEveryMs) * (0.5 + random.next()));
    }
  }

  #faultOf(error: unknown): Fault {
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
        const unelected = await this.#takeOffice(undefined);
        return unelected && "held" in unelected ? { fault: unelected.held, certain: false } : undefined;
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
    const { session, durability, clock } = this.#options;
    let following: Role | undefined;
    const link = await connect(
      note,
      { session, durability, listens: false },
      clock,
      {
        answer: (answer) => this.#role === following && this.#beatAnswered(answer),
        change: () => undefined,
        ended: (how) => this.#role === following && this.#lost(how === "silent" ? note.term : undefined),
      },
      () => this.#beating.length > 0,
    );
    if (link === undefined || typeof link === "string") return link;
    if (this.#role.kind !== "seeking") link.close();
    else {
      this.#role = following = { kind: "following", link, term: note.term };
      this.#options.say({ place: { at: "there", note } });
    }
    return undefined;
  }

  /** Ends the term of a writer that does not answer, unless it is inside a transaction: then its commit may still come. */
  async #supersede(note: WriterNote, seeking: Role & { kind: "seeking" }): Promise<InTheWay | undefined> {
    const unelected = await this.#takeOffice(Math.max(note.term, seeking.ended));
    if (!unelected) return undefined;
    if ("newer" in unelected) {
      // Somebody else has ended it, and is about to write: unless no note of it comes, as of one that stops right there.
      if (unelected.newer > seeking.ended) seeking.lookMs = this.#options.clock.monotonicMs();
      seeking.ended = unelected.newer;
    }
    return { fault: writerStopped(note), certain: "held" in unelected };
  }

  /** Begins a term, after the one that is to be `ended` if that is given, and writes. Answers why there is none. */
  async #takeOffice(ended: number | undefined): Promise<Unelected | undefined> {
    const { path, session, durability, clock } = this.#options;
    let lane: Lane | undefined;
    let door: Door | undefined;
    const elected = this.#elect(ended);
    if (!("db" in elected)) return elected;
    const { db, term, ownership } = elected;
    try {
      const flushes = timedFlushes(clock);
      lane = openLane({ open: openingWith(db, () => openForWriting(path, durability)), seam: flushes.seam, term, keepsClaims: true });
      const hub = new Hub({ lane, clock, superseded: () => this.#superseded(), isGone: (of) => isGone(of, session), flushedMs: flushes.tookMs });
      const beats = hub.join(this.#member({ near: false, answer: (answer) => this.#beatAnswered(answer) }));
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
      const [written, since] = [note, lane.n];
      // A successor may have written its own by now, which must stay.
      lane.inTerm(() => {
        removeSockets(path, written.socket);
        writeNote(path, written);
      });
      if (this.#role.kind !== "seeking" || hub.isOver) throw inUse(path);
      this.#role = { kind: "writing", lane, hub, term, since, main: undefined, beats, door, ownership };
      this.#options.say({ place: { at: "here", term, epoch: lane.epoch } });
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

  #elect(ended: number | undefined): { readonly db: DatabaseSync; readonly term: number; readonly ownership: Ownership } | Unelected {
    const { path, durability } = this.#options;
    let db: DatabaseSync | undefined;
    try {
      db = openForWriting(path, durability);
      const begun = beginTerm(db, path, ended);
      if (begun) return { db, ...begun };
      const newer = readTerm(db);
      db.close();
      return { newer };
    } catch (error) {
      db?.close();
      const fault = openFault(path, error);
      if (Fault.is(fault, "store.in-use")) return { held: fault };
      throw error;
    }
  }

  #secret(): Buffer {
    const words = Uint32Array.from({ length: secretBytes / 4 }, () => this.#options.random.uint32());
    return Buffer.from(words.buffer);
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
    for (const answered of this.#beating.splice(0)) answered(nobodyWrites());
    this.#options.say({ place: { at: "nowhere" } });
    void this.#seek(false);
  }
}

/** Why a term could not be begun: somebody stays inside a transaction on the file, or has begun a newer one than was to be ended. */
type Unelected = { readonly held: Fault } | { readonly newer: number };

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

/** For heartbeats alone. */
const nobodyWrites = (): Answer => failed(new Error("nobody writes the store just now"));

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

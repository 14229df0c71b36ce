/**
 * The model follows what is seen: it keeps every state that PostgreSQL may be in after that, and when none is left, what was seen is not allowed. Left to
 * choice are: who of several waiters comes first, whom a deadlock ends, which serializable transaction is refused beyond what must be, and how much of what
 * was not durable, or not on the standby, is lost.
 *
 * It moves from rest to rest: a step is sent while every session has answered or waits, and what is seen is what they look like when that is so again.
 */
import { breaksOrder, mayBeRefused } from "./serializable.ts";
import { attempt, noteStatement } from "./statement.ts";
import {
  copyOf,
  endTransaction,
  fingerprint,
  initialState,
  isActive,
  sessionOf,
  transactionOf,
  undo,
  visibleRows,
  type Session,
  type State,
  type Transaction,
} from "./state.ts";
import { describeAnswer, describeStep, inOrder, sqlStates, type Answer, type Statement, type Step } from "./step.ts";

/** At rest, after a step: what sessions answered since it was sent, and which of them wait for a lock. In words: `a: x=1; b waits`. */
export type Look = string;

export function lookOf(answers: Readonly<Record<string, Answer>>, waiting: readonly string[]): Look {
  const said = Object.keys(answers)
    .sort()
    .map((name) => `${name}: ${describeAnswer(answers[name] as Answer)}`);
  return [...said, ...[...waiting].sort().map((name) => `${name} waits`)].join("; ");
}

export class PostgresModel {
  #states: readonly State[];
  #choices = 1;

  /** `rows`: by key, committed and on every disk. */
  constructor(rows: Readonly<Record<string, number>>) {
    this.#states = [initialState(rows)];
  }

  /** In so many states may the server be. */
  get states(): number {
    return this.#states.length;
  }

  /** So many looks were allowed when it last saw one. */
  get choices(): number {
    return this.#choices;
  }

  /** The step was sent and this was seen. Answers why it may not be, or nothing. */
  saw(session: string, step: Step, look: Look): string | undefined {
    return this.#keep(
      `${session}: ${describeStep(step)}`,
      this.#states.flatMap((state) => after(state, session, step)),
      look,
    );
  }

  /** Every look that `saw` would allow. */
  expected(session: string, step: Step): readonly Look[] {
    return [...new Set(this.#states.flatMap((state) => after(state, session, step)).map(lookAt))].sort();
  }

  /**
   * The connection of this session broke. With a step: it was sent, and nobody heard what became of it. A commit may have happened; what waited or
   * was never sent has not. The look is what the others show then.
   */
  disconnected(session: string, step?: Step, look: Look = ""): string | undefined {
    const next = this.#states
      .flatMap((state) => [state, ...(step === undefined ? [] : after(state, session, step))])
      .flatMap((before) => {
        const state = copyOf(before);
        state.answers.delete(session);
        leave(state, sessionOf(state, session));
        return settled(state);
      });
    return this.#keep(`${session} was cut off`, next, look);
  }

  /** Every process of the server died, and it recovered from its disk: the last commits are gone, as far as nothing after them had to be on the disk. */
  crashed(): void {
    this.#cutTo((state) => state.durable);
  }

  /** The standby took over: it has what the primary committed, up to some commit. */
  failedOver(): void {
    this.#cutTo((state) => state.onStandby);
  }

  /** The standby had caught up: it has everything that has committed. */
  replicated(): void {
    this.#replace(this.#states.map((state) => ({ ...copyOf(state), onStandby: state.commits })));
  }

  /** A read on the standby: it shows the table as it was at some commit, and never an earlier one than before. */
  sawOnStandby(rows: Answer): string | undefined {
    const next = this.#states.flatMap((state) =>
      range(state.onStandby, state.commits).map((onStandby) => {
        const one = copyOf({ ...state, onStandby });
        one.answers = new Map([["standby", { kind: "rows", rows: inOrder(visibleRows(one, one.rows.keys(), -1, onStandby)) }]]);
        return one;
      }),
    );
    return this.#keep("a scan of the standby", next, lookOf({ standby: rows }, []));
  }

  #keep(what: string, next: readonly State[], look: Look): string | undefined {
    const allowed = new Set(next.map(lookAt));
    this.#choices = allowed.size;
    if (!allowed.has(look)) return `after ${what}\n  seen:    ${look}\n  allowed: ${[...allowed].sort().join("\n           ")}`;
    this.#replace(next.filter((state) => lookAt(state) === look));
    return undefined;
  }

  #replace(states: readonly State[]): void {
    const distinct = new Map<string, State>();
    for (const state of states) {
      state.answers = new Map();
      distinct.set(fingerprint(state), state);
    }
    this.#states = [...distinct.values()];
  }

  #cutTo(leastOf: (state: State) => number): void {
    this.#replace(
      this.#states.flatMap((state) =>
        range(leastOf(state), state.commits).map((kept) => {
          const next = copyOf(state);
          for (const session of next.sessions.values()) leave(next, session);
          for (const lost of next.transactions.filter(({ status, endedAt }) => status === "committed" && (endedAt as number) > kept)) {
            lost.status = "rolled back";
            undo(next, lost.id);
          }
          return Object.assign(next, { commits: kept, durable: kept, onStandby: Math.min(next.onStandby, kept) });
        }),
      ),
    );
  }
}

const range = (from: number, to: number): readonly number[] => Array.from({ length: to - from + 1 }, (_, at) => from + at);

function lookAt({ answers, sessions }: State): Look {
  return lookOf(
    Object.fromEntries(answers),
    [...sessions].filter(([, { running }]) => running !== undefined).map(([name]) => name),
  );
}

/** Every state of rest that a step may lead to. */
function after(before: State, name: string, step: Step): readonly State[] {
  const state = copyOf(before);
  const session = sessionOf(state, name);
  const { transaction: id } = session;
  if (session.running) throw new Error(`${name} waits: it cannot be asked anything`);
  if (step.kind === "begin") {
    if (id !== undefined) throw new Error(`${name} is in a transaction already`);
    session.transaction = state.transactions.length;
    state.transactions.push({
      id: session.transaction,
      session: name,
      level: step.level,
      asynchronous: step.asynchronous === true,
      status: "active",
      snapshot: undefined,
      endedAt: undefined,
      reads: new Set(),
      writes: false,
    });
    return [answered(state, name, { kind: "begun" })];
  }
  if (id === undefined) throw new Error(`${name} is in no transaction`);
  const transaction = transactionOf(state, id);
  if (step.kind === "rollback" || (step.kind === "commit" && session.failed)) {
    leave(state, session);
    return settled(answered(state, name, { kind: "rolled back" }));
  }
  if (step.kind === "commit") return committed(state, name, transaction);
  if (session.failed) return [answered(state, name, { kind: "error", code: sqlStates.inFailedTransaction })];
  const snapshot = transaction.level === "read committed" ? state.commits : (transaction.snapshot ??= state.commits);
  session.running = { statement: step, snapshot, waitsFor: undefined, since: state.waits++ };
  return tried(state, name).flatMap((next) => settled(next));
}

function answered(state: State, name: string, answer: Answer): State {
  state.answers.set(name, answer);
  return state;
}

/** Its transaction, if it is in one, is rolled back. */
function leave(state: State, session: Session): void {
  const { transaction: id } = session;
  if (isActive(state, id)) endTransaction(state, transactionOf(state, id), "rolled back");
  Object.assign(session, { transaction: undefined, failed: false, running: undefined });
}

function failed(state: State, name: string, code: string): State {
  const session = sessionOf(state, name);
  endTransaction(state, transactionOf(state, session.transaction as number), "rolled back");
  session.failed = true;
  session.running = undefined;
  return answered(state, name, { kind: "error", code });
}

function committed(state: State, name: string, transaction: Transaction): readonly State[] {
  const isJudged = transaction.level === "serializable";
  const outcomes: State[] = [];
  if (isJudged && mayBeRefused(state, transaction)) {
    const refused = failed(copyOf(state), name, sqlStates.serializationFailure);
    // An error of COMMIT ends the transaction for the session too.
    Object.assign(sessionOf(refused, name), { transaction: undefined, failed: false });
    outcomes.push(refused);
  }
  if (!isJudged || !breaksOrder(state, transaction)) {
    endTransaction(state, transaction, "committed");
    sessionOf(state, name).transaction = undefined;
    outcomes.push(answered(state, name, { kind: "committed" }));
  }
  return outcomes.flatMap((next) => settled(next));
}

/** The running statement of this session, now: it answers, fails, or waits. */
function tried(state: State, name: string): readonly State[] {
  const session = sessionOf(state, name);
  const { statement, snapshot, waitsFor } = session.running as NonNullable<Session["running"]>;
  const transaction = transactionOf(state, session.transaction as number);
  noteStatement(transaction, statement);
  const refused = transaction.level === "serializable" && mayBeRefused(state, transaction) ? [failed(copyOf(state), name, sqlStates.serializationFailure)] : [];
  const result = attempt(state, transaction, { statement, snapshot, hasWaited: waitsFor !== undefined });
  if (result.kind === "waits") {
    (session.running as NonNullable<Session["running"]>).waitsFor = result.waitsFor;
    return [...refused, state];
  }
  if (result.answer.kind === "error") return [...refused, failed(state, name, result.answer.code)];
  session.running = undefined;
  return [...refused, answered(state, name, result.answer)];
}

/** Whoever can go on does, in every order; then deadlocks end, by any of those who are in one. */
function settled(state: State): readonly State[] {
  const waiting = [...state.sessions].filter(([, { running }]) => running !== undefined).map(([name]) => name);
  const free = waiting.filter((name) => !isActive(state, sessionOf(state, name).running?.waitsFor));
  const next =
    free.length > 0
      ? free.flatMap((name) => tried(copyOf(state), name))
      : waiting.filter((name) => isDeadlocked(state, name)).map((name) => failed(copyOf(state), name, sqlStates.deadlock));
  if (next.length === 0) return [state];
  const distinct = new Map(next.flatMap((one) => settled(one)).map((one) => [fingerprint(one), one]));
  return [...distinct.values()];
}

/** Does it wait, over others, for itself? Who waits for a row waits for those too who waited for it before. */
function isDeadlocked(state: State, name: string): boolean {
  const visited = new Set<string>();
  const waitsFor = (one: string): readonly string[] => {
    const { running } = sessionOf(state, one);
    if (!running || running.waitsFor === undefined) return [];
    const key = keyOf(running.statement);
    const earlier = [...state.sessions].filter(
      ([, { running: other }]) => other !== undefined && other.since < running.since && other.waitsFor === running.waitsFor && keyOf(other.statement) === key,
    );
    return [transactionOf(state, running.waitsFor).session, ...earlier.map(([other]) => other)];
  };
  const leadsBack = (from: string): boolean =>
    waitsFor(from).some((next) => {
      if (next === name) return true;
      if (visited.has(next)) return false;
      visited.add(next);
      return leadsBack(next);
    });
  return leadsBack(name);
}

const keyOf = (statement: Statement): string | undefined => ("key" in statement ? statement.key : undefined);

/**
 * Asking an operation, whichever door the question came through. A plain route is one run of its handler. An idempotent one is run once
 * per key, and its answer is a write of the same commit as its effect (FINDINGS F12), so that there is never one without the other.
 *
 * The states of a key, kept as a token:
 * - *absent*. The handler runs; its one commit expects the token to be absent and writes it as done. Of two processes that run at once one
 *   loses by that expectation, and repeats the winner's answer. A fault stores nothing: the key is free again.
 * - *running*: entered by the first recovery point, in the commit that states the intent to call; with it goes a job, due when the lease
 *   is over, that finishes the request if nobody else does. Every run from here on goes by the journal, which no two runs can both move.
 *   While the lease holds, others get 409 (or wait); after it, whoever asks goes on under the same invocation id, so under the same keys
 *   for foreign systems. A fault ends the lease at once and keeps the journal.
 * - *done*: the answer, a refusal included. Repeated byte for byte for `keepFor`; another payload is a 422.
 */
import {
  decodeJournal,
  execute,
  journalKey,
  type Component,
  type Conclusion,
  type Invocation,
  type Journal,
  type NodeServices,
  type Principal,
  checkTenant,
} from "../component/index.ts";
import { degradedHeader } from "../degradation/index.ts";
import { deadlineExceeded, Fault, remainingMs, sleep, type Clock } from "../kernel/index.ts";
import type { Expectation, StoreKey, Write } from "../store/index.ts";
import { completionPayload, completionQueue } from "./completion-payload.ts";
import { answerOnLadder, ladderOf, markedAnswer } from "./degraded.ts";
import { decodeToken, encodeToken, fingerprintOf, tokenKeyOf, type Token } from "./idempotency-key.ts";
import { answer, Arrived, check, type Answered, type Operation, type Raw } from "./operation.ts";
import { wireOf, type StoredAnswer } from "./reply-wire.ts";
import type { ServiceState } from "./state.ts";

export interface Question {
  readonly raw: Raw;
  readonly tenant: string | undefined;
  readonly principal: Principal | undefined;
  /** Whose idempotency key it is. */
  readonly scope: string;
  readonly key: string | undefined;
  /** Path and query, and the body, as they came: for the fingerprint, and for whoever has to finish the request. */
  readonly target: string;
  readonly text: string;
  /** What else of the request its answer may depend on, where that is asked for. */
  readonly variant?: string | undefined;
  readonly signal?: AbortSignal | undefined;
  /** Seen at the start of a run. */
  readonly onRun?: (invocation: string) => void;
  /** Told of a run that failed behind a recovery point: its fault says what has kept it from an answer, and the request will be finished all the same. */
  readonly onUnfinished?: () => void;
  /** Told of a handler that goes on without its caller. */
  readonly outlived?: ((running: Promise<unknown>) => void) | undefined;
}

export type Outcome =
  { readonly kind: "answer"; readonly answer: StoredAnswer; readonly replayed: boolean } | { readonly kind: "response"; readonly response: Response };

export interface Served {
  readonly operation: Operation;
  readonly component: Component;
  readonly node: NodeServices;
  readonly state: ServiceState;
}

const answerBytesMax = 524_288;

/** Beyond the handler's own time: for its last commit. Leases of requests are told by the store's clock: this machine's may be wrong, and then nobody would finish what it began. */
const leaseGraceMs = 1_000;
const lookAgainMs = 100;
const roundsMax = 64;

/** Faults: those of `check`, those of the handler, `idempotency.in-flight`, `idempotency.key-reused`. */
export async function invoke(served: Served, question: Question): Promise<Outcome> {
  const { operation, state } = served;
  checkTenant(question.tenant);
  state.begin();
  try {
    const arrived = await check(operation, question.raw);
    const ladder = ladderOf(served.node, operation);
    if (!ladder) return await invokeBy(operation, served, question, arrived);
    return await answerOnLadder(ladder, served, question, {
      whole: () => invokeBy(operation, served, question, arrived),
      partial: (instead) => invokeBy(instead, served, question, arrived),
    });
  } finally {
    state.end();
  }
}

/** By the operation's own handler, or by another one `instead`; what others have begun or answered under the key is theirs. */
function invokeBy(instead: Operation, served: Served, question: Question, arrived: Arrived): Promise<Outcome> {
  return instead.idempotent && question.key !== undefined
    ? invokeOnce(served, question, arrived, question.key, { ...served, operation: instead })
    : invokePlainly({ ...served, operation: instead }, question, arrived);
}

async function invokePlainly(served: Served, question: Question, arrived: Arrived): Promise<Outcome> {
  const { operation, component, node } = served;
  const id = node.ids.next();
  question.onRun?.(id);
  const ended = await execute<Answered>({
    node,
    component,
    operation: operation.name,
    mode: operation.mode,
    uses: operation.uses,
    id,
    tenant: question.tenant,
    principal: question.principal,
    timeoutMs: timeLeftMs(served),
    signal: question.signal,
    consistent: operation.consistent,
    accepted: Arrived.acceptedBy(operation.body, arrived),
    outlived: question.outlived,
    run: (uses, context) => answer(operation, arrived, uses, context),
    conclude: conclusionOf,
  });
  if (ended.kind === "failed") throw ended.fault;
  if (ended.kind === "lost")
    throw Fault.create("commit.conflict", `${operation.title} could not commit: what it rests on is over; nothing of it was written`, "Ask again.");
  return ended.answer.kind === "response"
    ? { kind: "response", response: ended.answer.response }
    : { kind: "answer", answer: wireOf(ended.answer), replayed: false };
}

/** An answer commits, a refusal discards; so does a Response that says it went wrong. */
function conclusionOf(answered: Answered): Conclusion {
  if (answered.kind === "refused") return { keep: false, end: "refused" };
  if (answered.kind === "response" && answered.response.status >= 400) return { keep: false, end: "refused" };
  return { keep: true, end: "ok" };
}

// ---- once per key ---------------------------------------------------------------------------------------------------

type Stored = Exclude<Answered, { readonly kind: "response" }> | { readonly kind: "stored"; readonly answer: StoredAnswer };

async function invokeOnce(served: Served, question: Question, arrived: Arrived, key: string, first: Served): Promise<Outcome> {
  const { operation, node, state } = served;
  const tokenKey = tokenKeyOf(operation.title, question.tenant, question.scope, key);
  const fingerprint = fingerprintOf(operation.method, question.target, question.text);
  const untilMs = node.clock.monotonicMs() + timeLeftMs(served);
  for (let round = 0; round < roundsMax; round++) {
    const known = state.running.get(tokenKey);
    if (known) {
      if (known.fingerprint !== fingerprint) throw keyReused(operation);
      if (operation.idempotent?.whenInFlight === "conflict") throw inFlight(operation);
      await endOf(known.ended, node.clock, leftUntil(untilMs, served));
      continue;
    }
    const running = state.enter(tokenKey, fingerprint);
    try {
      const row = await node.store.read.token(tokenKey);
      const token = row && decodeToken(row.value);
      if (token && token.fingerprint !== fingerprint) throw keyReused(operation);
      if (token?.kind === "done") return { kind: "answer", answer: token.answer, replayed: true };
      const outcome =
        token && row
          ? token.untilMs > node.storeClock.earliestMs()
            ? undefined
            : await resume(served, { question, arrived, tokenKey, token, version: row.version })
          : await runFirst(first, question, arrived, tokenKey, fingerprint);
      if (outcome) return outcome;
    } finally {
      state.leave(tokenKey, running);
    }
    // Somebody else has it: another process that runs it now, or that answered between our look and our commit.
    const row = await node.store.read.token(tokenKey);
    if (row && decodeToken(row.value).kind === "running") {
      if (operation.idempotent?.whenInFlight === "conflict") throw inFlight(operation);
      await sleep(node.clock, Math.min(lookAgainMs, leftUntil(untilMs, served)));
    }
  }
  throw inFlight(operation);
}

function runFirst(served: Served, question: Question, arrived: Arrived, tokenKey: StoreKey, fingerprint: string): Promise<Outcome | undefined> {
  const { operation, node } = served;
  const id = node.ids.next();
  question.onRun?.(id);
  const absent: Expectation = { kind: "token", key: tokenKey, version: 0 };
  const running = (untilMs: number) => tokenWrite(served, tokenKey, { kind: "running", fingerprint, invocation: id, untilMs });
  return run(served, {
    question,
    arrived,
    id,
    journal: undefined,
    guard(first) {
      if (!first) return nothingMore;
      const untilMs = Math.ceil(node.storeClock.latestMs()) + operation.timeoutMs + leaseGraceMs;
      return {
        expects: [absent],
        writes: [
          running(untilMs),
          {
            kind: "enqueue",
            job: {
              id,
              queue: completionQueue(operation.service),
              payload: completionPayload(served, question, tokenKey, fingerprint, id),
              dueAtMs: untilMs,
              priority: 1,
            },
          },
        ],
      };
    },
    conclude(answered, invocation) {
      const done = tokenWrite(served, tokenKey, { kind: "done", fingerprint, answer: answered });
      return invocation.journal ? { writes: [done, { kind: "cancel", job: id }] } : { writes: [done], expects: [absent] };
    },
    // Before its first recovery point a fault leaves nothing behind, and the key is free.
    fail: (_fault, invocation) =>
      invocation.journal ? { keep: false, end: "fault", journal: "save", writes: [running(Math.floor(node.storeClock.earliestMs()))] } : undefined,
  });
}
const nothingMore = { expects: [], writes: [] };

interface Interrupted {
  readonly question: Question;
  readonly arrived: Arrived;
  readonly tokenKey: StoreKey;
  readonly token: Extract<Token, { readonly kind: "running" }>;
  readonly version: number;
}
/** How a resumed run ends beside its token: the completion job is cancelled by a caller, finished or tried again by its worker. */
export interface Ending {
  readonly whenDone: readonly Write[];
  whenFailed(fault: unknown, invocation: Invocation): readonly Write[];
  readonly attempt: number;
}

/** Goes on with a request whose run has ended without an answer. `undefined`: somebody else does. */
export async function resume(served: Served, interrupted: Interrupted, ending?: Ending): Promise<Outcome | undefined> {
  const { operation, node } = served;
  const { question, arrived, tokenKey, token, version } = interrupted;
  const taken: Token = { ...token, untilMs: Math.ceil(node.storeClock.latestMs()) + operation.timeoutMs + leaseGraceMs };
  const takeOver = await node.lane.submit({
    id: node.ids.next(),
    expects: [{ kind: "token", key: tokenKey, version }],
    writes: [tokenWrite(served, tokenKey, taken)],
  });
  if (!takeOver.ok) return undefined;
  const [record] = await node.store.read.records([journalKey(token.invocation)]);
  if (!record) return undefined; // answered in between
  question.onRun?.(token.invocation);
  return run(served, {
    question,
    arrived,
    id: token.invocation,
    attempt: ending?.attempt ?? 2,
    journal: decodeJournal(record.value, record.version),
    guard: () => nothingMore,
    conclude: (answered) => ({
      writes: [
        tokenWrite(served, tokenKey, { kind: "done", fingerprint: token.fingerprint, answer: answered }),
        ...(ending?.whenDone ?? [{ kind: "cancel", job: token.invocation } as const]),
      ],
    }),
    fail: (fault, invocation) => ({
      keep: false,
      end: "fault",
      journal: "save",
      writes: [tokenWrite(served, tokenKey, { ...token, untilMs: Math.floor(node.storeClock.earliestMs()) }), ...(ending?.whenFailed(fault, invocation) ?? [])],
    }),
  });
}

interface Run {
  readonly question: Question;
  readonly arrived: Arrived;
  readonly id: string;
  readonly attempt?: number;
  readonly journal: Journal | undefined;
  guard(first: boolean): { readonly expects: readonly Expectation[]; readonly writes: readonly Write[] };
  conclude(answered: StoredAnswer, invocation: Invocation): Pick<Conclusion, "writes" | "expects">;
  fail(fault: unknown, invocation: Invocation): Conclusion | undefined;
}

async function run(served: Served, { question, arrived, id, attempt, journal, guard, conclude, fail }: Run): Promise<Outcome | undefined> {
  const { operation, component, node } = served;
  let latest: Invocation | undefined;
  const ended = await execute<{ readonly answered: Stored; readonly stored: StoredAnswer }>({
    node,
    component,
    operation: operation.name,
    mode: operation.mode,
    uses: operation.uses,
    id,
    attempt: attempt ?? 1,
    tenant: question.tenant,
    principal: question.principal,
    timeoutMs: timeLeftMs(served),
    journal,
    guard,
    accepted: Arrived.acceptedBy(operation.body, arrived),
    outlived: question.outlived,
    run: (uses, context, invocation) => {
      latest = invocation;
      const answered = answer(operation, arrived, uses, context);
      return answered instanceof Promise ? answered.then((settled) => kept(operation, settled)) : kept(operation, answered);
    },
    conclude({ answered, stored }, invocation) {
      const refused = answered.kind === "refused" || stored.status >= 400;
      return { keep: !refused, end: refused ? "refused" : "ok", ...conclude(stored, invocation) };
    },
    fail,
  }).catch((fault: unknown) => ({ kind: "failed", fault }) as const);
  if (ended.kind === "lost") return undefined;
  if (ended.kind === "failed") {
    if (latest?.journal) question.onUnfinished?.();
    throw ended.fault;
  }
  return { kind: "answer", answer: ended.answer.stored, replayed: false };
}

/** The answer as it will be stored: a Response is read to its end, within a bound. */
function kept(
  operation: Operation,
  answered: Answered,
): { readonly answered: Stored; readonly stored: StoredAnswer } | Promise<{ readonly answered: Stored; readonly stored: StoredAnswer }> {
  if (answered.kind === "response") return keptResponse(operation, answered.response);
  const stored = operation.rung ? markedAnswer(wireOf(answered), operation.rung) : wireOf(answered);
  if (typeof stored.body === "string" && stored.body.length > answerBytesMax) throw answerTooLarge(operation);
  return { answered, stored };
}

async function keptResponse(operation: Operation, response: Response): Promise<{ readonly answered: Stored; readonly stored: StoredAnswer }> {
  const chunks: Uint8Array[] = [];
  let sizeBytes = 0;
  if (response.body) {
    for await (const chunk of response.body as ReadableStream<Uint8Array>) {
      sizeBytes += chunk.byteLength;
      if (sizeBytes > answerBytesMax) throw answerTooLarge(operation);
      chunks.push(chunk);
    }
  }
  const stored: StoredAnswer = {
    status: response.status,
    headers: { ...Object.fromEntries(response.headers), ...(operation.rung && { [degradedHeader]: operation.rung }) },
    body: response.body ? Buffer.concat(chunks, sizeBytes) : undefined,
    refused: false,
  };
  return { answered: { kind: "stored", answer: stored }, stored };
}

// ---- parts ------------------------------------------------------------------------------------------------------------

function tokenWrite({ operation }: Served, key: StoreKey, token: Token): Write {
  return { kind: "token", key, value: encodeToken(token), keepForMs: operation.idempotent?.keepForMs ?? 86_400_000 };
}

function timeLeftMs({ operation, node }: Served): number {
  const leftMs = Math.min(operation.timeoutMs, remainingMs(node.clock));
  if (leftMs <= 0) throw deadlineExceeded(0, "call");
  return leftMs;
}

function leftUntil(untilMs: number, { node }: Served): number {
  const leftMs = untilMs - node.clock.monotonicMs();
  if (leftMs <= 0) throw deadlineExceeded(0, "wait for another request with the same key");
  return leftMs;
}

async function endOf(ended: Promise<void>, clock: Clock, withinMs: number): Promise<void> {
  const bound = new AbortController();
  await Promise.race([ended, sleep(clock, withinMs, bound.signal).catch(() => undefined)]);
  bound.abort();
}

function inFlight({ title }: Operation): Fault {
  return Fault.create(
    "idempotency.in-flight",
    `a request of ${title} with this Idempotency-Key is being worked on`,
    "Ask again in a moment, with the same key.",
  );
}
function keyReused({ title }: Operation): Fault {
  return Fault.create(
    "idempotency.key-reused",
    `this Idempotency-Key was used for another request of ${title}`,
    "Use a new key for a new request; send the same request with the same key.",
  );
}
function answerTooLarge({ title }: Operation): Fault {
  return Fault.create(
    "idempotency.answer-too-large",
    `the answer of ${title} has more than ${answerBytesMax} bytes, which is what is kept under an idempotency key`,
    "Answer an id, and let callers get the rest.",
  );
}

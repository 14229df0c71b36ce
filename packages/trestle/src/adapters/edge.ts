/**
 * Where requests come in, for any HTTP framework: what a caller said of its time, priority, trace and correlation becomes the context that everything below reads,
 * and a request that is too many is answered before it costs anything.
 *
 *   limits → guard → the framework's handlers, in the context, until the answer has gone out (`leave`)
 *
 * The limits take from all of them or from none, and get back what a guard then declines.
 */
import {
  contextOfHeaders,
  currentContext,
  durationMs,
  emptyContext,
  Fault,
  inContext,
  oneOf,
  systemClock,
  systemRandom,
  uuidv7Ids,
  type AmbientContext,
  type Clock,
  type Duration,
  type Random,
} from "../kernel/index.ts";
import { assertCost, rateLimitFields, type Decision, type RateLimit } from "../limits/index.ts";
import { pipeline, type Policy } from "../resilience/index.ts";
import { assertFunctions, guardOfOne } from "./guard.ts";
import { problemOf, type ProblemAnswer } from "./problem.ts";

export interface EdgeLimit<Request> {
  /** Names it in the `RateLimit` fields, and no other one of this edge: a letter, then letters, digits, `-`, `_` or `.`. */
  readonly name: string;
  readonly limit: RateLimit;
  /** Whose requests are counted together: an address, an API key, `() => ""` for everyone's. */
  readonly key: (request: Request, context: AmbientContext) => string;
  /** What a request takes, at most what the limit has at once. Default 1. */
  readonly cost?: number;
}

export interface EdgeOptions<Request> {
  /** The most time a request has; a caller can ask for less. Default: what the caller says, else no bound. */
  readonly deadline?: Duration;
  /** Who asks, for fairness below: nothing that a caller can make up. */
  readonly tenant?: (request: Request) => string | undefined;
  /** Of a request whose caller says nothing of it, or is not believed. Default `normal`. */
  readonly priority?: (request: Request) => AmbientContext["priority"];
  /** `trusted`: callers are our own, and their `trestle-priority: high` counts; others can only lower theirs. Default `foreign`. */
  readonly callers?: "trusted" | "foreign";
  readonly limits?: readonly EdgeLimit<Request>[];
  /** What a request has to pass: a `bulkhead`, or a pipeline that ends in one. It holds its place until the answer has gone out. Without `retry` and `hedge`: a handler runs once. */
  readonly guard?: Policy<string>;
  /** Default: the system's. */
  readonly clock?: Clock;
  /** Of the correlation ids of those who bring none. Default: the system's. */
  readonly random?: Random;
}

export type Passage =
  | {
      readonly ok: true;
      readonly context: AmbientContext;
      /** For the answer. */
      readonly headers: Readonly<Record<string, string>>;
      /** The answer has gone out. Twice is once. */
      leave(): void;
    }
  | { readonly ok: false; readonly answer: ProblemAnswer };

export interface Edge<Request> {
  /** Throws the reason of `signal` when the caller goes away while it waits, and what `tenant`, `priority` and `key` throw. */
  enter(request: Request, fields: { get(name: string): string | null }, signal: AbortSignal): Promise<Passage>;
}

/** Faults: `adapters.bad-limit-name`, `adapters.bad-guard`, `pipeline.not-a-policy`, `option.out-of-range`, `quantity.not-a-duration`. */
export function edge<Request>(given: EdgeOptions<Request>): Edge<Request> {
  const options = (given as EdgeOptions<Request> | null | undefined) ?? {}; // each of them may be left out
  const { clock = systemClock, limits = [], tenant, priority } = options;
  const asked = {
    ...(tenant !== undefined && { tenant }),
    ...(priority !== undefined && { priority }),
    "clock.monotonicMs": (clock as Clock | null)?.monotonicMs,
  };
  assertFunctions(asked, "edge");
  const trusted = oneOf(options.callers ?? "foreign", "edge.callers", ["trusted", "foreign"]) === "trusted";
  const boundMs = options.deadline === undefined ? Infinity : durationMs(options.deadline, "edge.deadline");
  const guard = options.guard === undefined ? pipeline({ clock }) : guardOfOne(options.guard, "edge.guard");
  const ids = uuidv7Ids(clock, options.random ?? systemRandom);
  checkLimits(limits);

  const contextOf = (request: Request, fields: { get(name: string): string | null }, signal: AbortSignal): AmbientContext => {
    const nowMs = clock.monotonicMs();
    const told = contextOfHeaders(fields, { nowMs, trusted }) ?? {};
    const deadlineMs = Math.min(nowMs + boundMs, told.deadlineMs ?? Infinity);
    return {
      ...emptyContext,
      priority: priority?.(request) ?? "normal",
      ...told,
      correlation: told.correlation ?? ids.next(),
      tenant: tenant?.(request),
      deadlineMs: deadlineMs < Infinity ? deadlineMs : undefined,
      signal,
    };
  };

  return {
    async enter(request, fields, signal) {
      const context = contextOf(request, fields, signal);
      const taken = takeFrom(limits, request, context);
      const headers = limitHeaders(taken);
      const late = taken.find(({ decision }) => !decision.ok);
      if (late) return { ok: false, answer: problemOf(limitExceeded(taken), headers) as ProblemAnswer };
      try {
        return await passing(guard, context, headers);
      } catch (thrown) {
        for (const { of, key } of taken) of.limit.giveBack(key, of.cost ?? 1);
        const answer = signal.aborted ? undefined : problemOf(thrown, headers);
        if (!answer) throw thrown;
        return { ok: false, answer };
      }
    },
  };
}

/** What a request would find out too late, or callers never: of two limits with one name they could read only one. */
function checkLimits(limits: readonly EdgeLimit<never>[]): void {
  if (!Array.isArray(limits))
    throw Fault.create("option.out-of-range", `edge.limits must be a list, got ${typeof limits}`, "Give it a list of limits, or leave it out.");
  const names = new Set<string>();
  for (const [nth, each] of limits.entries()) {
    const option = `edge.limits[${nth}]`;
    const { name, limit, key, cost = 1 } = (each as EdgeLimit<never> | null | undefined) ?? ({} as EdgeLimit<never>);
    const isName = typeof name === "string" && /^[a-z][\w.-]*$/i.test(name);
    if (!isName || names.has(name))
      throw Fault.create(
        "adapters.bad-limit-name",
        `${option}: ${isName ? "another limit of this edge has its name," : "its name begins with a letter and has letters, digits, -, _ and . only, got"} ${JSON.stringify(name)}`,
        "Name each limit after whose requests it counts.",
      );
    names.add(name);
    const { decide, look, giveBack } = (limit as RateLimit | null | undefined) ?? ({} as Partial<RateLimit>);
    assertFunctions({ "limit.decide": decide, "limit.look": look, "limit.giveBack": giveBack, key }, option);
    assertCost(cost, limit.limit, `${option}: cost`);
    limit.look("", cost); // where windows are counted, costs are whole
  }
}

/** Resolves as soon as the guard lets it pass; to the guard the operation goes on until `leave`. */
function passing(guard: Policy<string>, context: AmbientContext, headers: Readonly<Record<string, string>>): Promise<Passage> {
  return new Promise((resolve, reject) => {
    const operation = () => new Promise<void>((leave) => resolve({ ok: true, context: currentContext(), headers, leave }));
    // What comes of it after it has passed (its time is over, its caller went away) is told by the context's signal.
    void inContext(context, () => guard(operation).catch(reject));
  });
}

interface Taken<Request> {
  readonly of: EdgeLimit<Request>;
  readonly key: string;
  readonly decision: Decision;
}

/** From all of them or from none. */
function takeFrom<Request>(limits: readonly EdgeLimit<Request>[], request: Request, context: AmbientContext): readonly Taken<Request>[] {
  const taken: Taken<Request>[] = [];
  let refused = false;
  for (const of of limits) {
    const key = of.key(request, context);
    const decision = refused ? of.limit.look(key, of.cost ?? 1) : of.limit.decide(key, of.cost ?? 1);
    if (!refused && !decision.ok) {
      refused = true;
      for (const { of: earlier, key: itsKey } of taken) earlier.limit.giveBack(itsKey, earlier.cost ?? 1);
    }
    taken.push({ of, key, decision });
  }
  return taken;
}

function limitHeaders(taken: readonly Taken<never>[] | readonly Taken<unknown>[]): Record<string, string> {
  return rateLimitFields(taken.map(({ of: { name, limit, cost = 1 }, key, decision }) => ({ name, limit, key, cost, decision })));
}

function limitExceeded(taken: readonly Taken<never>[] | readonly Taken<unknown>[]): Fault {
  const { of, decision } = [...taken].reduce((a, b) => (b.decision.retryAfterMs > a.decision.retryAfterMs ? b : a));
  return Fault.create(
    "request.limit-exceeded",
    `the limit ${of.name} is ${of.limit.limit} at once`,
    `Ask again in ${Math.max(1, Math.ceil(decision.retryAfterMs / 1_000))} s.`,
    { details: { retryAfterMs: decision.retryAfterMs } },
  );
}

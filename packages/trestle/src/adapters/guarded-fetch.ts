/**
 * `fetch` under a policy. An answer that speaks against the other side (5xx, 408, 425, 429) is a failure to the policy, so that it is retried and counted, and
 * still an answer to the caller: when nothing better comes, the last one is returned as `fetch` would return it. Every other answer of the call is cancelled, so
 * that no socket waits for somebody to read it: those of attempts that failed when the next one begins, those of hedges that lost when the call is over.
 */
import { contextHeaders, currentContext, systemClock, withContext, type Clock } from "../kernel/index.ts";
import type { Attempt, Policy } from "../resilience/index.ts";
import { AnsweredBadly, answerBehind, idempotentMethods, speaksAgainst } from "./answered-badly.ts";
import { toldIfUnsendable } from "./unsendable.ts";
import { assertFunctions, guardOf } from "./guard.ts";

export type Fetch = (input: string | URL | Request, init?: RequestInit) => Promise<Response>;

export interface GuardedFetchOptions {
  /** What asks; default Node's `fetch`. */
  readonly fetch?: Fetch;
  /** Whose breaker, whose turn in a fair line; default the URL's origin. */
  readonly key?: (url: URL) => string;
  /** Whether the other side is told of deadline, priority, correlation, trace and repetition (`trestle-…` and `traceparent` fields). Default `true`; `false` for those whom it does not concern. */
  readonly tellsContext?: boolean;
  /** By which a `Retry-After` that is a date is read. Default: the system's. */
  readonly clock?: Clock;
}

/**
 * `fetch` under `guard`: `guardedFetch(pipeline(deadline("3s"), retry(), timeout("1s"), breaker({ per: "key" })))`.
 *
 * A request may be repeated when its method is idempotent (RFC 9110, 9.2.2) or it has an `Idempotency-Key`; others only after failures that show that nothing was
 * done (`failureOf`), and one whose body is a stream never. `Retry-After` of 429 and 503 is kept to. Limits of time and places hold until the answer's head is
 * there; reading its body is the caller's, whose signal still ends it.
 *
 * Throws what `fetch` throws and the policy's faults. What it refuses to send at all, to a blocked port or by a scheme that it does not know, is the caller's mistake: it is not
 * repeated, counts against nobody, and has the `code` `UND_ERR_INVALID_ARG`. A gate that declines a repetition does not hide an answer that came before: that one is returned.
 */
export function guardedFetch(guard: Policy<string>, options: GuardedFetchOptions = {}): Fetch {
  const { fetch: ask = fetch, key = ({ origin }) => origin, tellsContext = true, clock = systemClock } = options;
  guardOf(guard, "guardedFetch");
  assertFunctions({ fetch: ask, key, "clock.wallMs": (clock as Clock | null)?.wallMs }, "guardedFetch");
  return async (input, init = {}) => {
    const request = input instanceof Request ? input : undefined;
    const url = new URL(request ? request.url : (input as string | URL));
    const given = new Headers(init.headers ?? request?.headers);
    const method = (init.method ?? request?.method ?? "GET").toUpperCase();
    const callerSignal = init.signal ?? request?.signal;
    const once = isStream(init.body) || (init.body === undefined && request !== undefined && request.body !== null);
    const outer = currentContext();
    const answers = new Answers();

    const attempt = async ({ attempt: nth, hedge, remainingMs, signal }: Attempt): Promise<Response> => {
      if (hedge === 0) answers.cancelAll();
      const headers = new Headers(given);
      if (tellsContext) {
        for (const [name, value] of Object.entries(contextHeaders(outer, { remainingMs, attempt: nth }))) if (!headers.has(name)) headers.set(name, value);
      }
      let response: Response;
      try {
        response = await ask(input, { ...init, headers, signal: callerSignal ? AbortSignal.any([signal, callerSignal]) : signal });
      } catch (thrown) {
        throw toldIfUnsendable(thrown, url);
      }
      answers.add(response);
      if (!speaksAgainst(response.status)) return response;
      throw new AnsweredBadly(response, response.status, response.headers.get("retry-after"), clock);
    };
    const how = {
      key: key(url),
      idempotent: idempotentMethods.has(method) || given.has("idempotency-key"),
      ...(callerSignal && { signal: callerSignal }),
    };
    try {
      const response = await (once ? withContext({ repeated: true }, () => guard(attempt, how)) : guard(attempt, how));
      answers.closeFor(response);
      return response;
    } catch (thrown) {
      const answered = answerBehind<Response>(thrown);
      answers.closeFor(answered);
      if (answered) return answered;
      throw thrown;
    }
  };
}

/** The answers of one call that nobody has read. */
class Answers {
  #unread: Response[] = [];
  #closed = false;

  add(response: Response): void {
    if (this.#closed) cancel(response);
    else this.#unread.push(response);
  }

  cancelAll(): void {
    for (const response of this.#unread.splice(0)) cancel(response);
  }

  /** The call is over, and `response` is its answer. */
  closeFor(response: Response | undefined): void {
    this.#closed = true;
    this.#unread = this.#unread.filter((each) => each !== response);
    this.cancelAll();
  }
}

function cancel(response: Response): void {
  // A body that somebody has read already, or whose connection broke, needs no cancelling.
  if (response.body && !response.body.locked) response.body.cancel().catch(() => undefined);
}

function isStream(body: unknown): boolean {
  return typeof body === "object" && body !== null && (body instanceof ReadableStream || (Symbol.asyncIterator in body && !(body instanceof Blob)));
}

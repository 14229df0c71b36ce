/**
 * undici under a policy, as one of its interceptors: `new Agent().compose(guardedDispatch(policy))` guards `request`, `stream`, `pipeline`, undici's `fetch` and
 * whatever else dispatches through it (undici 7 and 8).
 *
 * One request is one call, each time it is sent one attempt. An attempt is
 *   asked       until the head of an answer is there: what fails before may be repeated;
 *   answering   from a head that is the caller's on: nothing is repeated any more, what fails is the caller's to see, and still counts;
 *   held        when its answer speaks against the other side (5xx, 408, 425, 429): a failure to the policy, kept for the caller until something better comes;
 *   dropped     when the next attempt begins, or the call is over with another answer.
 */
import { contextHeaders, currentContext, oneOf, systemClock, withContext, type AmbientContext, type Clock } from "../kernel/index.ts";
import type { Attempt, Policy } from "../resilience/index.ts";
import { AnsweredBadly, answerBehind, idempotentMethods, speaksAgainst } from "./answered-badly.ts";
import { assertFunctions, guardOf } from "./guard.ts";

/** What is used of undici's `DispatchOptions`. */
export interface DispatchRequest {
  readonly origin?: string | URL;
  readonly path: string;
  readonly method: string;
  readonly headers?: unknown;
  readonly body?: unknown;
  readonly idempotent?: boolean;
}
/** undici's `DispatchController`. */
export interface DispatchControllerLike {
  readonly aborted: boolean;
  readonly paused: boolean;
  readonly reason: Error | null;
  rawHeaders?: unknown;
  rawTrailers?: unknown;
  abort(reason: Error): void;
  pause(): void;
  resume(): void;
}
/** undici's `DispatchHandler`. */
export interface DispatchHandlerLike {
  onRequestStart?(controller: DispatchControllerLike, context: unknown): void;
  onRequestUpgrade?(controller: DispatchControllerLike, status: number, headers: DispatchFields, socket: { destroy(): unknown }): void;
  onResponseStart?(controller: DispatchControllerLike, status: number, headers: DispatchFields, message?: string): void;
  onResponseData?(controller: DispatchControllerLike, chunk: Uint8Array): void;
  onResponseEnd?(controller: DispatchControllerLike, trailers: DispatchFields): void;
  onResponseError?(controller: DispatchControllerLike, error: Error): void;
  onResponseStarted?(): void;
  onBodySent?(chunk: Uint8Array): void;
  onRequestSent?(): void;
}
export type DispatchFields = Readonly<Record<string, string | string[] | undefined>>;
type Dispatch = (request: DispatchRequest, handler: DispatchHandlerLike) => boolean;
/** undici's `Dispatch`, whose own types say more of requests and handlers than is used here. */
export type DispatchLike = (request: never, handler: never) => boolean;

export interface GuardedDispatchOptions {
  /** Whose breaker, whose turn in a fair line; default the request's origin. */
  readonly key?: (request: DispatchRequest) => string;
  /** Whether the other side is told of deadline, priority, correlation, trace and repetition. Default `true`. */
  readonly tellsContext?: boolean;
  /**
   * What a call lasts until. `body`, the default: a place is held, and time counts, until the answer has been read, by a caller that reads slowly too. `head`: what streams for long, and the
   * reading of it is bounded by undici's `bodyTimeout` alone.
   */
  readonly until?: "head" | "body";
  /** By which a `Retry-After` that is a date is read. Default: the system's. */
  readonly clock?: Clock;
}

/** Of an answer that is held, so much is read at once, so that its connection is free for the next attempt. */
const heldBytesMax = 65_536;

/**
 * An interceptor: `new Pool(origin).compose(guardedDispatch(pipeline(deadline("3s"), retry(), timeout("1s"), breaker({ per: "key" }), bulkhead({ running: 32 }))))`. Compose it last, outermost:
 * what stands inside of it is done for each attempt.
 *
 * A request may be repeated when undici is told so (`idempotent`), its method is idempotent (RFC 9110, 9.2.2) or it has an `Idempotency-Key`; others only after failures that show that nothing
 * was done (`failureOf`); one whose body can be read only once never, and none whose answer the caller has begun to see. `Retry-After` of 429 and 503 is kept to.
 *
 * Fails with what undici fails with and the policy's faults. A gate that declines a repetition does not hide an answer that came before: that one is the caller's.
 */
export function guardedDispatch(guard: Policy<string>, options: GuardedDispatchOptions = {}): <D extends DispatchLike>(dispatch: D) => D {
  const given: Given = {
    guard: guardOf(guard, "guardedDispatch"),
    key: options.key ?? (({ origin }) => (typeof origin === "object" ? origin.origin : (origin ?? ""))),
    tellsContext: options.tellsContext ?? true,
    until: oneOf(options.until ?? "body", "guardedDispatch.until", ["head", "body"]),
    clock: options.clock ?? systemClock,
  };
  assertFunctions({ key: given.key, "clock.wallMs": given.clock.wallMs }, "guardedDispatch");
  const around =
    (dispatch: Dispatch): Dispatch =>
    (request, handler) => {
      void new Exchange(given, dispatch, request, handler).run();
      return true;
    };
  return around as unknown as <D extends DispatchLike>(dispatch: D) => D;
}

type Given = Required<GuardedDispatchOptions> & { readonly guard: Policy<string> };

/** One request, and to whoever asked the controller of whichever attempt answers it. */
class Exchange implements DispatchControllerLike {
  readonly #given: Given;
  readonly #dispatch: Dispatch;
  readonly #request: DispatchRequest;
  readonly #fields: readonly unknown[];
  readonly #leaves = new AbortController();
  readonly #context: AmbientContext = currentContext();
  readonly #how: { readonly key: string; readonly signal: AbortSignal; idempotent: boolean };
  /** Told once, before there is an attempt: it gets what the attempt was told that answers (where it was redirected). */
  readonly #told: object = {};
  readonly handler: DispatchHandlerLike;
  #answering: Sent | undefined;
  #held: Sent[] = [];
  #isOver = false;
  #isPaused = false;

  constructor(given: Given, dispatch: Dispatch, request: DispatchRequest, handler: DispatchHandlerLike) {
    this.#given = given;
    this.#dispatch = dispatch;
    this.#request = request;
    this.#fields = flat(request.headers);
    this.handler = handler;
    const { signal } = this.#context;
    const { method, idempotent = idempotentMethods.has(method) || this.#says("idempotency-key") } = request;
    this.#how = { key: given.key(request), signal: signal ? AbortSignal.any([this.#leaves.signal, signal]) : this.#leaves.signal, idempotent };
  }

  async run(): Promise<void> {
    const { guard } = this.#given;
    const { body } = this.#request;
    const how = this.#how;
    const ask = (attempt: Attempt) => this.#ask(attempt);
    try {
      // Whoever asked can leave before anything is sent: it waits for a place, or between two attempts.
      this.handler.onRequestStart?.(this, this.#told);
      await (isRepeatable(body) ? guard(ask, how) : withContext({ repeated: true }, () => guard(ask, how)));
      this.#dropHeld();
    } catch (thrown) {
      const held = answerBehind<Sent>(thrown);
      this.#dropHeld(held);
      if (held && !this.answering && !this.#leaves.signal.aborted) held.handOn();
      else this.fail(thrown as Error);
    }
  }

  #ask({ attempt, hedge, remainingMs, signal }: Attempt): Promise<void> {
    if (this.answering) return this.answering.ended; // a hedge that comes while the answer is read
    if (hedge === 0) this.#dropHeld();
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const sent = new Sent(this, this.#given, signal, promise, resolve, reject);
    const told = this.#given.tellsContext ? Object.entries(contextHeaders(this.#context, { remainingMs, attempt })) : [];
    const headers = [...this.#fields, ...told.filter(([name]) => !this.#says(name)).flat()];
    signal.addEventListener("abort", () => sent.abort(signal.reason as Error), { once: true });
    this.#dispatch({ ...this.#request, headers }, sent);
    return promise;
  }

  #says(name: string): boolean {
    return this.#fields.some((field, at) => at % 2 === 0 && String(field).toLowerCase() === name);
  }

  get answering(): Sent | undefined {
    return this.#answering;
  }

  /** From here on it is the caller's, who cannot be told another answer. */
  claim(sent: Sent): boolean {
    this.#answering ??= sent;
    this.#how.idempotent = false;
    if (this.#answering !== sent) return false;
    Object.assign(this.#told, sent.told);
    return true;
  }

  hold(sent: Sent): void {
    this.#held.push(sent);
  }

  #dropHeld(but?: Sent): void {
    for (const sent of this.#held.splice(0)) if (sent !== but) sent.drop();
  }

  fail(error: Error): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.handler.onResponseError?.(this, error);
  }

  end(trailers: DispatchFields): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.handler.onResponseEnd?.(this, trailers);
  }

  // ---- the controller -------------------------------------------------------------------------------------------------

  abort(reason: Error): void {
    if (this.#isOver) return; // undici's own readers end what has ended
    this.#leaves.abort(reason);
    this.answering?.abort(reason); // the call may be over, and the answer not
  }
  pause(): void {
    this.#isPaused = true;
    this.answering?.controller?.pause();
  }
  resume(): void {
    this.#isPaused = false;
    this.answering?.controller?.resume();
  }
  get paused(): boolean {
    return this.#isPaused;
  }
  get aborted(): boolean {
    return this.#leaves.signal.aborted;
  }
  get reason(): Error | null {
    return (this.#leaves.signal.reason as Error | undefined) ?? null;
  }
  get rawHeaders(): unknown {
    return this.answering?.controller?.rawHeaders ?? null;
  }
  get rawTrailers(): unknown {
    return this.answering?.controller?.rawTrailers ?? null;
  }
}

/** What is kept of an answer that speaks against the other side. */
interface Held {
  readonly head: readonly [status: number, headers: DispatchFields, message: string | undefined];
  readonly chunks: Uint8Array[];
  bytes: number;
  ended: DispatchFields | undefined;
  broken: Error | undefined;
}

/** One attempt. */
class Sent implements DispatchHandlerLike {
  readonly #exchange: Exchange;
  readonly #given: Given;
  readonly #signal: AbortSignal;
  readonly ended: Promise<void>;
  readonly #resolve: () => void;
  readonly #reject: (error: Error) => void;
  controller: DispatchControllerLike | undefined;
  told: unknown;
  #held: Held | undefined;
  #isDropped = false;

  constructor(exchange: Exchange, given: Given, signal: AbortSignal, ended: Promise<void>, resolve: () => void, reject: (error: Error) => void) {
    this.#exchange = exchange;
    this.#given = given;
    this.#signal = signal;
    this.ended = ended;
    this.#resolve = resolve;
    this.#reject = reject;
  }

  get #isAnswering(): boolean {
    return this.#exchange.answering === this;
  }

  /** Before undici has begun with it, it is aborted when it does: there is no other way to tell it. */
  abort(reason: Error): void {
    this.controller?.abort(reason);
  }

  drop(): void {
    this.#isDropped = true;
    if (!this.#held?.ended) this.abort(new Error("another attempt was made"));
  }

  onRequestStart(controller: DispatchControllerLike, context: unknown): void {
    this.controller = controller;
    this.told = context;
    if (this.#signal.aborted) controller.abort(this.#signal.reason as Error);
  }

  onRequestUpgrade(_controller: DispatchControllerLike, status: number, headers: DispatchFields, socket: { destroy(): unknown }): void {
    if (!this.#exchange.claim(this)) return void socket.destroy();
    this.#exchange.handler.onRequestUpgrade?.(this.#exchange, status, headers, socket);
    this.#resolve();
  }

  onResponseStart(controller: DispatchControllerLike, status: number, headers: DispatchFields, message?: string): void {
    const { handler } = this.#exchange;
    if (status < 200) return this.#exchange.answering ? undefined : handler.onResponseStart?.(this.#exchange, status, headers, message);
    if (speaksAgainst(status) && !this.#exchange.answering) {
      this.#held = { head: [status, headers, message], chunks: [], bytes: 0, ended: undefined, broken: undefined };
      this.#exchange.hold(this);
      return this.#reject(new AnsweredBadly(this, status, headers["retry-after"] as string | undefined, this.#given.clock));
    }
    if (!this.#exchange.claim(this)) return controller.abort(new Error("another attempt has answered"));
    handler.onResponseStart?.(this.#exchange, status, headers, message);
    if (this.#given.until === "head") this.#resolve();
  }

  onResponseData(controller: DispatchControllerLike, chunk: Uint8Array): void {
    if (this.#held) {
      if (this.#isDropped) return;
      this.#held.chunks.push(chunk);
      this.#held.bytes += chunk.length;
      if (this.#held.bytes > heldBytesMax) controller.pause();
    } else if (this.#isAnswering) this.#exchange.handler.onResponseData?.(this.#exchange, chunk);
  }

  onResponseEnd(_controller: DispatchControllerLike, trailers: DispatchFields): void {
    if (this.#held) this.#held.ended = trailers;
    else if (this.#isAnswering) {
      this.#exchange.end(trailers);
      this.#resolve();
    }
  }

  onResponseError(_controller: DispatchControllerLike | null, error: Error): void {
    if (this.#held) {
      this.#held.broken = error;
      return;
    }
    if (this.#isAnswering) this.#exchange.fail(error);
    this.#reject(error);
  }

  onResponseStarted(): void {
    if (!this.#exchange.answering) this.#exchange.handler.onResponseStarted?.();
  }
  onBodySent(chunk: Uint8Array): void {
    this.#exchange.handler.onBodySent?.(chunk);
  }
  onRequestSent(): void {
    this.#exchange.handler.onRequestSent?.();
  }

  /** Nothing better came: what is held is the caller's, and the rest of it as it comes. */
  handOn(): void {
    const exchange = this.#exchange;
    const { handler } = exchange;
    const { head, chunks, ended, broken } = this.#held as Held;
    this.#held = undefined;
    exchange.claim(this);
    try {
      handler.onResponseStart?.(exchange, ...head);
      for (const chunk of chunks) if (!exchange.aborted) handler.onResponseData?.(exchange, chunk);
      if (exchange.reason)
        exchange.fail(exchange.reason); // what has ended cannot be aborted: undici says nothing
      else if (broken) exchange.fail(broken);
      else if (ended) exchange.end(ended);
      else if (!exchange.paused) this.controller?.resume();
    } catch (thrown) {
      this.abort(thrown as Error);
      exchange.fail(thrown as Error);
    }
  }
}

/** Names and values in turn, of whatever undici takes. */
function flat(headers: unknown): readonly unknown[] {
  if (Array.isArray(headers)) return headers;
  if (typeof headers !== "object" || headers === null) return [];
  return [...(Symbol.iterator in headers ? (headers as Iterable<readonly [string, unknown]>) : Object.entries(headers))].flat(1);
}

/** What can be sent again. A stream, and what yields its parts one after the other, can be read once. */
function isRepeatable(body: unknown): boolean {
  return (
    typeof body !== "object" ||
    body === null ||
    ArrayBuffer.isView(body) ||
    body instanceof ArrayBuffer ||
    body instanceof Blob ||
    (body as { readonly [Symbol.toStringTag]?: unknown })[Symbol.toStringTag] === "FormData"
  );
}

/**
 * The other side as one node sees it: its address, its breaker, its retry budget, and what each failure means.
 *
 * The outcome of a mutation is *unknown* as soon as one attempt may have reached the other side and none was answered: an attempt that
 * timed out, was reset, or got a 5xx. That a later attempt, of this run or a later one, found the door shut does not make it known. Only an answer does.
 */
import { parseOrFault, type NodeServices } from "../component/index.ts";
import { currentContext, Fault, withContext } from "../kernel/index.ts";
import {
  breaker,
  budget,
  bulkhead,
  failureOf,
  hedge,
  pipeline,
  retry,
  timeout,
  type Attempt,
  type Breaker,
  type BreakerState,
  type Bulkhead,
  type EndedAttempt,
  type Policy,
  type Refusal,
} from "../resilience/index.ts";
import { secretText, settingValue } from "../setting/index.ts";
import type { DeclaredOperation } from "./external.ts";
import { Health, type HealthRules } from "./health.ts";
import { policyFor } from "./policy.ts";
import { assertUrl, type Rules } from "./rules.ts";
import { wire, type Wire } from "./wire.ts";

/** Asking again could help. An attempt whose call is over has no time left for another. */
function isRetryable(fault: unknown): boolean {
  return (
    Fault.is(fault, "external.unreachable") ||
    Fault.is(fault, "external.outcome-unknown") ||
    Fault.is(fault, "response.contradicts") || // the next attempt may ask a third
    (Fault.is(fault, "deadline.exceeded") && fault.details["scope"] === "attempt") ||
    isLater(fault)
  );
}

export class Side {
  readonly #rules: Rules;
  readonly #node: NodeServices;
  readonly #breaker: Breaker | undefined;
  readonly #bulkhead: Bulkhead | undefined;
  readonly #guarded: Policy<string>;
  /** As `#guarded`, of queries that are hedged, by their names: what is usual for one is long for another. */
  readonly #hedged = new Map<string, Policy<string>>();
  /** As `#guarded`, without retries, and past the line for a place and the gates of the policy: who has to wait is not down. */
  readonly #once: Policy<string>;
  readonly health: Health | undefined;

  constructor(rules: Rules, node: NodeServices, table: Readonly<Record<string, DeclaredOperation>>) {
    this.#rules = rules;
    this.#node = node;
    const { clock, random } = node;
    const { name, timeoutMs, attempts, budgetShare } = rules;
    const parts: Policy<string>[] = [timeout(timeoutMs)];
    if (rules.breaker) {
      const { failureRate, cooldownMs, slowerThanMs } = rules.breaker;
      this.#breaker = breaker({
        clock,
        name,
        cooldown: cooldownMs,
        ...(failureRate !== undefined && { failureRate }),
        ...(slowerThanMs !== undefined && { slowerThan: slowerThanMs }),
        onChange: (from, to) => this.#broke(from, to),
      });
      parts.push(this.#breaker);
    }
    const unwell = (fault: unknown) => !Fault.is(fault, "external.refused");
    const how = { name, clock, random, unwell, onAttempt: (ended: EndedAttempt) => this.#ended(ended) };
    this.#once = pipeline(how, ...parts);
    if (rules.concurrency !== undefined) {
      const { concurrency } = rules;
      const line = concurrency === "adaptive" ? {} : { waiting: { from: 2 * concurrency, most: 3 * concurrency }, codel: true };
      this.#bulkhead = bulkhead({ clock, random, name: `external "${name}"`, running: concurrency, order: "fair", ...line });
      node.observer.bounded?.(name, this.#bulkhead);
      parts.push(this.#bulkhead);
    }
    if (rules.policy) parts.push(policyFor(rules.policy, { name: `external "${name}"`, clock, random }));
    const additional = budget({ clock, share: budgetShare });
    const again = retry({ attempts, budget: additional, when: isRetryable });
    this.#guarded = attempts > 1 ? pipeline(how, again, ...parts) : pipeline(how, ...parts);
    if (rules.hedge)
      for (const [operation, { changes }] of Object.entries(table))
        // Around all the rest: each try has its own time, its turn with the breaker and its place. The budget hears of the call from the retry, also where that makes one attempt.
        if (!changes) this.#hedged.set(operation, pipeline(how, again, hedge({ ...rules.hedge, budget: additional }), ...parts));
    const asked = rules.health && table[rules.health.operation];
    if (rules.health && asked) this.health = new Health(name, rules.health, node, (signal) => this.#check(rules.health as HealthRules, asked, signal));
  }

  get breaker(): Breaker | undefined {
    return this.#breaker;
  }
  get bulkhead(): Bulkhead | undefined {
    return this.#bulkhead;
  }

  async #check({ operation, input }: HealthRules, declaration: DeclaredOperation, signal: AbortSignal): Promise<void> {
    const { call } = this.#code(operation, declaration);
    const answer = await this.#attempts(operation, (wires) => call(input, wires), this.#node.ids.next(), signal, this.#once);
    await this.#parsed(operation, declaration.returns, answer);
  }

  /** A question that changes nothing. Faults: `external.unreachable`, `external.refused`, `external.answer-invalid`, and the policy's. */
  ask(operation: string, declaration: DeclaredOperation, input: unknown, key: string, signal: AbortSignal | undefined): Promise<unknown> {
    const { call } = this.#code(operation, declaration);
    return this.#observed(operation, async () =>
      this.#parsed(operation, declaration.returns, await this.#askWith(operation, (wires) => call(input, wires), key, signal)),
    );
  }

  /** A call that may change something. `resumed`: it may have been made already. */
  change(operation: string, declaration: DeclaredOperation, input: unknown, key: string, signal: AbortSignal | undefined, resumed: boolean): Promise<unknown> {
    return this.#observed(operation, async () => {
      const { returns } = declaration;
      const { call, lookup } = this.#code(operation, declaration);
      const known = async () => (lookup ? this.#askWith(operation, (wires) => lookup(input, wires), key, signal) : undefined);
      if (resumed && lookup) {
        const answer = await known().catch((cause: unknown) => {
          throw this.#unknown(operation, cause, "whether it was called before could not be asked");
        });
        if (answer !== undefined) return this.#parsed(operation, returns, answer);
      }
      let answer: unknown;
      try {
        answer = await this.#call(operation, (wires) => call(input, wires), key, signal, resumed);
      } catch (fault) {
        if (!lookup || !this.isUnknown(fault)) throw fault;
        // Nothing known there is no proof: the call may still be on its way.
        const found = await known().catch(() => undefined);
        if (found === undefined) throw fault;
        answer = found;
      }
      return this.#parsed(operation, returns, answer);
    });
  }

  /** What is run for an operation: its own code, or what stands in for the system it talks to. */
  #code(operation: string, { call, lookup, changes }: DeclaredOperation): Pick<DeclaredOperation, "call" | "lookup"> {
    const { outside } = this.#node;
    if (!outside) return { call, lookup };
    const asked = (input: unknown, { key, signal }: Wire) => ({ external: this.#rules.name, operation, input, key, signal, changes });
    return {
      call: (input, wires) => outside.call(asked(input, wires)),
      lookup: lookup && ((input, wires) => outside.lookup(asked(input, wires))),
    };
  }

  /** Whether this fault leaves open if the other side has acted. */
  isUnknown(fault: unknown): boolean {
    return Fault.is(fault, "external.outcome-unknown") || Fault.is(fault, "external.answer-invalid") || Fault.is(fault, "response.contradicts");
  }

  async #call(operation: string, run: (wires: Wire) => Promise<unknown>, key: string, signal: AbortSignal | undefined, resumed: boolean): Promise<unknown> {
    // Attempts that may have reached them: every one, until it has failed in a way that says otherwise. What an earlier run has left open stays so.
    let reached = resumed ? 1 : 0;
    // What they said last. A gate may decline with any code: only what comes from them tells what they did.
    let said: unknown;
    try {
      return await this.#attempts(
        operation,
        async (wires) => {
          reached += 1;
          try {
            return await run(wires);
          } catch (thrown) {
            const fault = this.#told(operation, thrown);
            if (!this.isUnknown(fault)) reached -= 1;
            said = fault;
            throw fault;
          }
        },
        key,
        signal,
      );
    } catch (fault) {
      const definite = Fault.is(fault, "external.refused") && !isLater(fault);
      if (fault === said && (definite || this.isUnknown(fault))) throw fault;
      if (reached > 0) throw this.#unknown(operation, fault, resumed ? "it may have acted on an earlier call" : "it may have acted on it");
      throw this.#notSent(operation, fault);
    }
  }

  async #askWith(operation: string, run: (wires: Wire) => Promise<unknown>, key: string, signal: AbortSignal | undefined): Promise<unknown> {
    try {
      return await this.#attempts(
        operation,
        async (wires) => {
          try {
            return await run(wires);
          } catch (thrown) {
            throw this.#told(operation, thrown);
          }
        },
        key,
        signal,
      );
    } catch (fault) {
      if (Fault.is(fault, "external.outcome-unknown"))
        throw Fault.create(
          "external.unreachable",
          `external "${this.#rules.name}", ${operation}: no answer: ${fault.message}`,
          "Check that it runs and that its url is right.",
          { cause: fault, details: fault.details },
        );
      throw fault;
    }
  }

  #attempts(
    operation: string,
    run: (wires: Wire) => Promise<unknown>,
    key: string,
    signal: AbortSignal | undefined,
    guarded = this.#hedged.get(operation) ?? this.#guarded,
  ): Promise<unknown> {
    const who = `external "${this.#rules.name}", ${operation}`;
    const context = currentContext();
    let tries = 0;
    const attempt = (made: Attempt) => {
      const { signal, remainingMs, hedge } = made;
      const asked = run(wire({ who, url: () => this.#url(), auth: this.#auth, key, signal, remainingMs, attempt: ++tries, context }));
      return hedge === 0 ? asked : this.#counted(asked, signal);
    };
    return guarded(attempt, signal ? { signal } : {});
  }

  /** An additional try of a hedge; it has won when it is answered and its signal has not aborted, as that of those who lose does. */
  async #counted(asked: Promise<unknown>, signal: AbortSignal): Promise<unknown> {
    let won = false;
    try {
      const answer = await asked;
      won = !signal.aborted;
      return answer;
    } finally {
      this.#node.observer.hedged?.(this.#rules.name, won);
    }
  }

  /** Each attempt that failed is counted by what its failure means; a success that took too long is a failure of time. */
  #ended({ outcome, error, durationMs: tookMs }: EndedAttempt): void {
    const slowerThanMs = this.#rules.breaker?.slowerThanMs ?? Infinity;
    const { observer } = this.#node;
    if (outcome === "declined") observer.declined?.(this.#rules.name, reasonOf(error as Fault));
    else if (outcome === "failed" || outcome === "timed-out") observer.failed?.(this.#rules.name, failureOf(error).kind);
    else if (outcome === "succeeded" && tookMs > slowerThanMs) observer.failed?.(this.#rules.name, "timing");
  }

  #broke(from: BreakerState["kind"], to: BreakerState["kind"]): void {
    const { name } = this.#rules;
    this.#node.observer.broke?.(name, from, to);
    const log = this.#node.log(name, { traceparent: undefined, tenant: undefined });
    if (to === "open") log.warn("too many calls failed or were slow: no more are made until a probe succeeds", { from, to });
    else log.info("the breaker has changed", { from, to });
  }

  async #parsed(operation: string, returns: DeclaredOperation["returns"], answer: unknown): Promise<unknown> {
    try {
      return await parseOrFault(returns, answer, `the answer of external "${this.#rules.name}", ${operation},`);
    } catch (cause) {
      this.#node.observer.failed?.(this.#rules.name, "response");
      throw Fault.create("external.answer-invalid", (cause as Error).message, "Correct `returns`, or what the call makes of the answer.", { cause });
    }
  }

  /** What user code threw: ours says what it means, anything else may have happened after the call. */
  #told(operation: string, thrown: unknown): unknown {
    if (Fault.is(thrown)) return thrown;
    return Fault.create(
      "external.outcome-unknown",
      `external "${this.#rules.name}", ${operation} threw: ${thrown instanceof Error ? thrown.message : String(thrown)}; it may have acted on the call`,
      "Throw a fault that says what is known: external.refused, external.unreachable.",
      { cause: thrown },
    );
  }

  #unknown(operation: string, cause: unknown, why: string): Fault {
    return Fault.create(
      "external.outcome-unknown",
      `external "${this.#rules.name}", ${operation}: ${why} (${cause instanceof Error ? cause.message : String(cause)})`,
      "Ask it what became of the call before doing anything else, or call again with the same key.",
      { cause, details: Fault.is(cause) ? cause.details : {} },
    );
  }

  #notSent(operation: string, cause: unknown): unknown {
    if (!Fault.is(cause) || cause.code === "external.unreachable" || cause.code === "external.refused") return cause;
    return Fault.create("external.unreachable", `external "${this.#rules.name}", ${operation} was not called: ${cause.message}`, cause.remedy, {
      cause,
      details: cause.details,
    });
  }

  readonly #auth = (): string | undefined => this.#rules.auth && secretText(this.#rules.auth, this.#node);

  #url(): string {
    const { url, name } = this.#rules;
    if (url === undefined)
      throw Fault.create(
        "external.no-url",
        `external "${name}" has no url, so wire.get and its like have nowhere to go`,
        "Give it a `url`, or use only your own client in its calls.",
      );
    if (typeof url === "string") return url;
    const value = settingValue(url, this.#node);
    assertUrl(value, `external "${name}": url, from setting ${url.name},`);
    return value;
  }

  async #observed(operation: string, run: () => Promise<unknown>): Promise<unknown> {
    const { observer, clock } = this.#node;
    const { name } = this.#rules;
    const startedMs = clock.monotonicMs();
    const caller = currentContext().component;
    const ended = (end: "ok" | "refused" | "fault"): void => {
      const tookMs = clock.monotonicMs() - startedMs;
      observer.invoked(name, operation, end, tookMs, 1);
      if (caller !== undefined) observer.called?.(caller, name, end, tookMs);
    };
    const span = observer.span(`${name} ${operation}`, { "trestle.kind": "external", "trestle.component": name });
    try {
      const answer = await (span ? withContext({ traceparent: span.traceparent }, run) : run());
      span?.end();
      ended("ok");
      return answer;
    } catch (fault) {
      span?.end(fault);
      ended(Fault.is(fault, "external.refused") ? "refused" : "fault");
      throw fault;
    }
  }
}

/** Why a gate has declined. */
function reasonOf(fault: Fault): Refusal | "breaker-open" | `${string}.${string}` {
  if (Fault.is(fault, "bulkhead.full")) return fault.details["reason"] as Refusal;
  return Fault.is(fault, "breaker.open") ? "breaker-open" : (fault.code as `${string}.${string}`);
}

/** Refused for now: nothing was done, and asking again may help. */
function isLater(fault: unknown): boolean {
  return Fault.is(fault, "external.refused") && [408, 425, 429].includes(fault.details["status"] as number);
}

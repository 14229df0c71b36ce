/** Triggers: what brings a route down, each with its own memory. It holds from the value at which it is entered until the lower one at which it is left. */
import { Outcomes } from "./outcomes.ts";
import type { BurnRules, TriggerRules } from "./policies.ts";

/** What is known of the world around. `undefined`: nothing, and then nothing is wrong. One that throws says nothing either: what is to keep a route answering must not be what it fails of. */
export interface Signals {
  /** Of the breaker before an external system. */
  breaker?(external: string): "closed" | "half-open" | "open" | undefined;
  /** What the health check of an external system found last. */
  health?(external: string): "up" | "down" | undefined;
  /** How full it is, 0 to 1. */
  saturation?(name: string): number | undefined;
  /** How many requests of a service have asked to be admitted in the latest ten seconds, and how many of them were declined. */
  admission?(service: string): Admitted | undefined;
}
export interface Admitted {
  readonly asked: number;
  readonly declined: number;
}

export class Trigger {
  readonly rules: TriggerRules;
  readonly #burn: BurnRate | undefined;
  #toldOfThrown = false;
  /** It asks for its rung, as of the last look. */
  holds = false;
  /** In words, as of the last look at which it held. */
  why = "";

  constructor(rules: TriggerRules) {
    this.rules = rules;
    this.#burn = rules.kind === "burn" ? new BurnRate(rules) : undefined;
  }

  /** How one answer of the whole handler came out. */
  record(nowMs: number, failed: boolean, tookMs: number): void {
    this.#burn?.record(nowMs, failed, tookMs);
  }

  look(nowMs: number, signals: Signals): void {
    try {
      this.#ask(nowMs, signals);
    } catch (thrown) {
      this.holds = false;
      const { kind, of } = this.rules;
      if (!this.#toldOfThrown)
        process.emitWarning(`degradation: the ${kind} of ${of} threw, and counts as not known: ${String(thrown)}`, { code: "TRESTLE_SIGNAL" });
      this.#toldOfThrown = true;
    }
  }

  #ask(nowMs: number, signals: Signals): void {
    const { rules } = this;
    switch (rules.kind) {
      case "breaker": {
        const state = signals.breaker?.(rules.of);
        this.holds = state === "open" || (this.holds && state === "half-open");
        this.why = `the breaker of ${rules.of} is ${state}`;
        return;
      }
      case "health":
        this.holds = signals.health?.(rules.of) === "down";
        this.why = `${rules.of} is down`;
        return;
      case "saturation": {
        const value = signals.saturation?.(rules.of) ?? 0;
        this.holds = value >= (this.holds ? rules.leave : rules.enter); // NaN is neither
        this.why = `${rules.of} is ${Math.round(value * 100)} % full`;
        return;
      }
      case "admission": {
        const { asked = 0, declined = 0 } = signals.admission?.(rules.of) ?? {};
        const share = asked === 0 ? 0 : declined / asked;
        this.holds = this.holds ? share >= rules.leave : asked >= rules.calls && share >= rules.enter;
        this.why = `${rules.of} declines ${Math.round(share * 100)} % of its requests`;
        return;
      }
      case "burn": {
        const burn = this.#burn as BurnRate;
        this.holds = this.holds ? burn.short(nowMs) >= rules.leave : burn.enters(nowMs);
        this.why = `the budget of ${rules.of} is spent ${burn.short(nowMs).toFixed(1)} times too fast`;
      }
    }
  }
}

/** How many times faster than allowed a budget is spent, over two windows. */
class BurnRate {
  readonly #rules: BurnRules;
  readonly #short: Outcomes;
  readonly #long: Outcomes;

  constructor(rules: BurnRules) {
    this.#rules = rules;
    this.#short = new Outcomes(rules.shortMs);
    this.#long = new Outcomes(rules.longMs);
  }

  record(nowMs: number, failed: boolean, tookMs: number): void {
    const bad = this.#rules.of === "errors" ? failed : failed || tookMs > this.#rules.slowerThanMs;
    this.#short.add(nowMs, bad);
    this.#long.add(nowMs, bad);
  }

  short(nowMs: number): number {
    return this.#rate(this.#short, nowMs);
  }

  enters(nowMs: number): boolean {
    const { calls, enter } = this.#rules;
    return this.#short.at(nowMs).calls >= calls && this.short(nowMs) >= enter && this.#rate(this.#long, nowMs) >= enter;
  }

  #rate(window: Outcomes, nowMs: number): number {
    const { calls, bad } = window.at(nowMs);
    return calls === 0 ? 0 : bad / calls / this.#rules.budget;
  }
}

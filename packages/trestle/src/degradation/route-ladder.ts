/**
 * The ladder of one route: on which rung it stands, and what answers a request there.
 *
 * It stands on one rung of its ladder. At most every 100 ms a request looks at the triggers:
 * - *down*: to the lowest rung that a trigger asks for, at once, past those between.
 * - *up*: to the next rung, when for `dwell` no look has found a trigger that asks for this one or a lower one. So a route that was three rungs down is whole again
 *   after three dwells, and one that is brought down again on its way goes no further.
 * - *held* by hand or by the file: on that rung, whatever is seen. Released, it stays there until it has dwelt.
 *
 * A rung that has nothing for a request (no stale answer, no handler of its own) hands it to the next one below; when there is none, what failed first is thrown. Below full one
 * request in `probe` is answered by the whole handler: otherwise nobody would see that what it needs is there again, and no breaker would be closed. And whatever the
 * rung, a request whose whole handler fails is answered from below (as `stale-if-error`, RFC 5861, 4): the first calls that find a dependency gone are not lost.
 */
import { Fault } from "../kernel/index.ts";
import { levelOf, type Rung, type RouteRules } from "./policies.ts";
import { Trigger, type Signals } from "./trigger.ts";

/** One change of rung. */
export interface RungChange {
  readonly route: string;
  readonly from: Rung;
  readonly to: Rung;
  /** In words. */
  readonly why: string;
  /** In dark mode it changes no answer. */
  readonly mode: "dark" | "enforce";
}

/** As it stands. */
export interface RouteState {
  readonly route: string;
  readonly mode: "dark" | "enforce";
  readonly ladder: readonly Rung[];
  readonly rung: Rung;
  /** For how long it has stood there. */
  readonly forMs: number;
  /** Of its last change, in words. Empty: it has not changed. */
  readonly why: string;
  /** Who holds it there. */
  readonly held: "by hand" | "by the file" | undefined;
}

/** What answers on each rung. `undefined`, given or answered: nothing, go on below. */
export interface Answers<T> {
  full(): T | Promise<T>;
  readonly stale?: (() => T | undefined) | undefined;
  readonly partial?: (() => T | Promise<T>) | undefined;
  readonly static?: (() => T) | undefined;
}
export interface AnswerOptions {
  /** Whether a failure of the whole handler counts against the route. Default: each does. */
  readonly counts?: (thrown: unknown) => boolean;
  /** Whether another rung may answer after this failure of the whole handler. Default: when it counts. */
  readonly insteadOf?: (thrown: unknown) => boolean;
}
export interface AnsweredBy<T> {
  readonly value: T;
  readonly rung: Rung;
}

export interface LadderPlace {
  readonly signals: Signals;
  nowMs(): number;
  changed(change: RungChange): void;
  answered(route: string, rung: Rung): void;
}

const lookEveryMs = 100;

export class RouteLadder {
  readonly #place: LadderPlace;
  #rules: RouteRules;
  #triggers: readonly Trigger[];
  #rung: Rung = "full";
  #sinceMs: number;
  /** When something last asked for this rung or a lower one. */
  #askedMs: number;
  #lookedMs = -Infinity;
  #probedMs = -Infinity;
  #why = "";
  #byHand: Rung | undefined;

  constructor(rules: RouteRules, place: LadderPlace) {
    this.#rules = rules;
    this.#place = place;
    this.#triggers = rules.triggers.map((trigger) => new Trigger(trigger));
    this.#sinceMs = this.#askedMs = place.nowMs();
  }

  get rules(): RouteRules {
    return this.#rules;
  }

  /** Other rules, from now on. Triggers that are the same keep what they know; the rung stays if there still is one, else it is the next better one. */
  follow(rules: RouteRules): void {
    const before = new Map(this.#triggers.map((trigger) => [trigger.rules.text, trigger]));
    this.#rules = rules;
    this.#triggers = rules.triggers.map((trigger) => before.get(trigger.text) ?? new Trigger(trigger));
    this.#lookedMs = -Infinity;
    const nearest = rules.ladder.findLast((rung) => levelOf(rung) <= levelOf(this.#rung)) as Rung;
    if (nearest !== this.#rung) this.#go(nearest, "its ladder has changed", this.#place.nowMs());
  }

  /** Whoever asks by hand is asked again with every change of rules: a rung that is not of the ladder holds nothing. */
  hold(rung: Rung | undefined): void {
    this.#byHand = rung;
    this.#lookedMs = -Infinity;
    this.#look(this.#place.nowMs());
  }

  get #held(): Rung | undefined {
    return this.#byHand !== undefined && this.#rules.ladder.includes(this.#byHand) ? this.#byHand : this.#rules.hold;
  }

  /** Looks, if it is time to. */
  get rung(): Rung {
    this.#look(this.#place.nowMs());
    return this.#rung;
  }

  get state(): RouteState {
    const { rung } = this;
    const { route, mode, ladder } = this.#rules;
    const held = this.#held;
    return {
      route,
      mode,
      ladder,
      rung,
      forMs: this.#place.nowMs() - this.#sinceMs,
      why: this.#why,
      held: held === undefined ? undefined : held === this.#byHand ? "by hand" : "by the file",
    };
  }

  /** Answers one request on the rung on which the route stands. Fault: `degradation.unavailable`, and whatever the answers throw. */
  async answer<T>(answers: Answers<T>, options: AnswerOptions = {}): Promise<AnsweredBy<T>> {
    const nowMs = this.#place.nowMs();
    this.#look(nowMs);
    const rung = this.#rules.mode === "dark" ? "full" : this.#rung;
    if (rung !== "full" && !this.#probes(nowMs)) return this.#below(rung, answers);
    try {
      return { value: await this.#whole(answers, options, nowMs), rung: "full" };
    } catch (thrown) {
      const { counts = always, insteadOf = counts } = options;
      if (this.#rules.mode === "dark" || this.#held === "full" || !insteadOf(thrown)) throw thrown;
      const [, next] = this.#rules.ladder;
      return this.#below(rung === "full" ? (next as Rung) : rung, answers, { thrown });
    }
  }

  async #whole<T>(answers: Answers<T>, { counts = always }: AnswerOptions, startedMs: number): Promise<T> {
    let failed = false;
    try {
      return await answers.full();
    } catch (thrown) {
      failed = counts(thrown);
      throw thrown;
    } finally {
      const nowMs = this.#place.nowMs();
      for (const trigger of this.#triggers) trigger.record(nowMs, failed, nowMs - startedMs);
    }
  }

  async #below<T>(from: Rung, answers: Answers<T>, failed?: { readonly thrown: unknown }): Promise<AnsweredBy<T>> {
    const { ladder, route, probeMs } = this.#rules;
    let first = failed;
    for (const rung of ladder.slice(ladder.indexOf(from))) {
      if (rung === "full" || rung === "unavailable") continue;
      try {
        const value = await answers[rung]?.();
        if (value === undefined) continue;
        this.#place.answered(route, rung);
        return { value, rung };
      } catch (thrown) {
        first ??= { thrown };
      }
    }
    if (first) throw first.thrown;
    this.#place.answered(route, "unavailable");
    throw Fault.create("degradation.unavailable", `${route} is not answered now: ${this.#why}`, "Ask again later.", {
      details: { route, headers: { "retry-after": String(Math.ceil(probeMs / 1_000)), [degradedHeader]: "unavailable" } },
    });
  }

  #probes(nowMs: number): boolean {
    if (this.#held !== undefined || nowMs - this.#probedMs < this.#rules.probeMs) return false;
    this.#probedMs = nowMs;
    return true;
  }

  #look(nowMs: number): void {
    if (nowMs - this.#lookedMs < lookEveryMs) return;
    this.#lookedMs = nowMs;
    let asked: Trigger | undefined;
    for (const trigger of this.#triggers) {
      trigger.look(nowMs, this.#place.signals);
      if (trigger.holds && (!asked || levelOf(trigger.rules.serve) > levelOf(asked.rules.serve))) asked = trigger;
    }
    const held = this.#held;
    if (held !== undefined) {
      this.#askedMs = nowMs;
      if (held !== this.#rung) this.#go(held, held === this.#byHand ? "held by hand" : "held by the file", nowMs);
      return;
    }
    const [at, to] = [levelOf(this.#rung), asked ? levelOf(asked.rules.serve) : 0];
    if (asked && to >= at) this.#askedMs = nowMs;
    if (asked && to > at) this.#go(asked.rules.serve, asked.why, nowMs);
    else if (to < at && nowMs - this.#askedMs >= this.#rules.dwellMs) {
      const { ladder } = this.#rules;
      this.#go(ladder[ladder.indexOf(this.#rung) - 1] as Rung, `nothing has asked for ${this.#rung} for ${this.#rules.dwellMs} ms`, nowMs);
      this.#askedMs = nowMs;
    }
  }

  #go(to: Rung, why: string, nowMs: number): void {
    const change = { route: this.#rules.route, from: this.#rung, to, why, mode: this.#rules.mode };
    // The next probe is a whole interval away: what has just failed is not asked again at once.
    if (levelOf(to) > levelOf(this.#rung)) this.#probedMs = nowMs;
    [this.#rung, this.#sinceMs, this.#why] = [to, nowMs, why];
    this.#place.changed(change);
  }
}

/** Says, with an answer, that it is not the whole one, and what it is instead. */
export const degradedHeader = "trestle-degraded";
const always = () => true;

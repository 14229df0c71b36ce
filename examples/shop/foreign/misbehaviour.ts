/**
 * How a foreign system misbehaves, on request. Every fate is drawn from a seed, so a run can be repeated, and half of the
 * bad ones strike before the effect and half after it: whoever asks cannot tell which, and that is the point.
 */

export interface Stub {
  /** Milliseconds before every answer, 0 to 60,000. Default 0. */
  readonly latencyMs: number;
  /** Share of requests answered with 500, 0 to 1, before or after the effect. Default 0. */
  readonly failRate: number;
  /** Share of requests that are accepted and never answered, before or after the effect; `true` is all. Default `false`. */
  readonly hang: boolean | number;
  /** Starts the sequence of fates again. Default 1. */
  readonly seed: number;
}

/** What happens to one request. `before`: the effect does not take place. `after`: it does, and nobody is told. */
export type Fate = "answer" | "fail-before" | "fail-after" | "hang-before" | "hang-after";

export type Checked<T> = { readonly ok: true; readonly value: T } | { readonly ok: false; readonly problem: string };

export const wellBehaved: Stub = { latencyMs: 0, failRate: 0, hang: false, seed: 1 };

export interface Misbehaviour<S extends Stub> {
  readonly stub: S;
  nextFate(): Fate;
}

export function misbehaviour<S extends Stub>(stub: S): Misbehaviour<S> {
  const chance = seededChance(stub.seed);
  const hangRate = typeof stub.hang === "boolean" ? Number(stub.hang) : stub.hang;

  return {
    stub,
    nextFate() {
      const drawn = chance();
      const moment = chance() < 0.5 ? "before" : "after";
      if (drawn < hangRate) return `hang-${moment}`;
      if (drawn < hangRate + (1 - hangRate) * stub.failRate) return `fail-${moment}`;
      return "answer";
    },
  };
}

/** The whole stub from a request's body: what is left out returns to its default. `more` checks the options of one system. */
export function parseStub<More extends object>(
  body: unknown,
  more: { readonly [K in keyof More]: (value: unknown) => Checked<More[K]> },
): Checked<Stub & Partial<More>> {
  if (typeof body !== "object" || body === null || Array.isArray(body))
    return { ok: false, problem: 'the body must be a JSON object such as {"latencyMs":50,"failRate":0.1,"hang":false}' };
  const checks: { readonly [name: string]: (value: unknown) => Checked<unknown> } = { ...stubChecks, ...more };
  const stub: Record<string, unknown> = { ...wellBehaved };

  for (const [name, value] of Object.entries(body)) {
    const check = Object.hasOwn(checks, name) ? checks[name] : undefined;
    if (!check) return { ok: false, problem: `\`${name}\` is no option of the stub; there are ${Object.keys(checks).join(", ")}` };
    const checked = check(value);
    if (!checked.ok) return { ok: false, problem: `\`${name}\` ${checked.problem}, not ${JSON.stringify(value)}` };
    stub[name] = checked.value;
  }
  return { ok: true, value: stub as unknown as Stub & Partial<More> };
}

export function numberWithin(min: number, max: number): (value: unknown) => Checked<number> {
  return (value) =>
    typeof value === "number" && value >= min && value <= max ? { ok: true, value } : { ok: false, problem: `must be a number from ${min} to ${max}` };
}

export function trueOrFalse(value: unknown): Checked<boolean> {
  return typeof value === "boolean" ? { ok: true, value } : { ok: false, problem: "must be true or false" };
}

/** A share of the keys, not of the requests: asking again with one key meets the same answer. */
export function drawnByKey(key: string, share: number): boolean {
  let hash = 0x811c9dc5;
  for (let index = 0; index < key.length; index++) hash = Math.imul(hash ^ key.charCodeAt(index), 0x01000193);
  return seededChance(hash >>> 0)() < share;
}

const stubChecks = {
  latencyMs: numberWithin(0, 60_000),
  failRate: numberWithin(0, 1),
  hang: (value: unknown): Checked<boolean | number> => {
    if (typeof value === "boolean") return { ok: true, value };
    const share = numberWithin(0, 1)(value);
    return share.ok ? share : { ok: false, problem: "must be true, false or a share from 0 to 1" };
  },
  seed: (value: unknown): Checked<number> => (Number.isSafeInteger(value) ? { ok: true, value: Number(value) } : { ok: false, problem: "must be an integer" }),
};

/** mulberry32 (Tommy Ettinger): 32 bits of state are enough to pick fates. */
export function seededChance(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296;
  };
}

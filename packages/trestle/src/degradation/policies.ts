/**
 * Policies: when a route answers with less, as data. Read once into rules, in which everything is required; what is wrong is told all at once, each with its place.
 * Numbers of burn rates after "Alerting on SLOs", The Site Reliability Workbook, chapter 5: two windows must burn, so that neither a second of failures nor an hour-old one counts.
 */
import { durationMs, Fault, type Duration, type Percent } from "../kernel/index.ts";
import { flawsOf, seen, type Flaw } from "./schema-check.ts";

/**
 * What a route answers with, best first. `full`: its handler. `stale`: the last good answer to the same request. `partial`: another handler that does without what fails.
 * `static`: one value for everybody. `unavailable`: 503.
 */
export const rungs = ["full", "stale", "partial", "static", "unavailable"] as const;
export type Rung = (typeof rungs)[number];

/** How far down it is: 0 for `full` to 4 for `unavailable`. */
export const levelOf = (rung: Rung): number => rungs.indexOf(rung);

/** The content of a `degradation-policies.yaml`; policies.schema.json describes each member. */
export interface Policies {
  readonly $schema?: string;
  readonly version: 1;
  /** `dark` (default) decides and reports, and changes no answer. */
  readonly mode?: "dark" | "enforce";
  /** By the name of the operation: `shop.placeOrder`. */
  readonly routes: { readonly [route: string]: RoutePolicy };
}
export interface RoutePolicy {
  /** Default: that of the file. */
  readonly mode?: "dark" | "enforce";
  /** The rungs of this route, best first, beginning with `full`. */
  readonly ladder: readonly Rung[];
  /** A rung is left upwards, for the next one, when nothing has held the route there for so long. Default 10s, at most 1h. */
  readonly dwell?: Duration;
  /** Below `full` one request in so long is answered by the whole handler. Default 1s, from 10ms to 1h. */
  readonly probe?: Duration;
  /** By hand: stays on this rung whatever is seen. */
  readonly hold?: Rung;
  /** 1 to 20; the lowest rung that any of them asks for is served. Left out only where `hold` says which rung it is. */
  readonly when?: readonly Trigger[];
}
export type Trigger = { readonly serve: Exclude<Rung, "full"> } & (
  | { /** An external, from its breaker's opening until it is closed. */ readonly breaker: string }
  | { /** An external, while its health check says down. */ readonly health: string }
  | {
      /** What is full: `event-loop`, an external with `concurrency`, or what the app names. */
      readonly saturation: string;
      /** From here on, above 0 to 1. */
      readonly enter: number;
      /** Until it is below, above 0; default 0.8 of `enter`. */
      readonly leave?: number;
    }
  | {
      /** A service with `admission`, by the share of its requests of the latest ten seconds that were declined. */
      readonly admission: string;
      /** From here on, above 0 to 1; default 0.05. */
      readonly enter?: number;
      /** Until it is below, above 0; default 0.01. */
      readonly leave?: number;
      /** Fewer requests say nothing. Default 20. */
      readonly calls?: number;
    }
  | ({ readonly burn: "errors" } & Burn)
  | ({ readonly burn: "latency"; /** What counts as slow. */ readonly slowerThan: Duration } & Burn)
);
export interface Burn {
  /** The share of answers that must be good: `99.9%`. */
  readonly objective: Percent;
  /** A short and a long one; both must burn. Default 30s and 5m, from 1s to 1d. */
  readonly windows?: readonly [Duration, Duration];
  /** Fewer answers in the short window say nothing. Default 20. */
  readonly calls?: number;
  /** In multiples of the rate at which the budget lasts exactly, above 0; default 10. */
  readonly enter?: number;
  /** Of the short window: until it is below, above 0; default 1. */
  readonly leave?: number;
}

// ---- as rules -----------------------------------------------------------------------------------------------------------

export interface RouteRules {
  readonly route: string;
  readonly mode: "dark" | "enforce";
  readonly ladder: readonly Rung[];
  readonly dwellMs: number;
  readonly probeMs: number;
  readonly hold: Rung | undefined;
  readonly triggers: readonly TriggerRules[];
}
export type TriggerRules = { readonly serve: Rung; /** Equal for equal triggers. */ readonly text: string } & (
  | { readonly kind: "breaker" | "health"; readonly of: string }
  | { readonly kind: "saturation"; readonly of: string; readonly enter: number; readonly leave: number }
  | { readonly kind: "admission"; readonly of: string; readonly enter: number; readonly leave: number; readonly calls: number }
  | BurnRules
);
export interface BurnRules {
  readonly kind: "burn";
  readonly of: "errors" | "latency";
  /** The share of answers that may be bad. */
  readonly budget: number;
  readonly slowerThanMs: number;
  readonly shortMs: number;
  readonly longMs: number;
  readonly calls: number;
  readonly enter: number;
  readonly leave: number;
}

/** Where something stands in the text that it was read from, for people: `line 12, column 5`. */
export type PlaceOf = (path: Flaw["path"]) => string | undefined;

/**
 * Fault: `degradation.bad-policy`; its message has the first flaw (place, option, rule, value), `details.flaws` all of them.
 * `known`: further flaws, of who knows more than the policies say of themselves.
 */
export function rulesOf(
  given: unknown,
  from = "policies",
  placeOf: PlaceOf = () => undefined,
  known: (rules: readonly RouteRules[]) => readonly Flaw[] = () => [],
): readonly RouteRules[] {
  const misshapen = flawsOf(given);
  if (misshapen.length > 0) throw badPolicy(from, misshapen, placeOf);
  const flaws: Flaw[] = [];
  const { mode = "dark", routes } = given as Policies;
  const rules = Object.entries(routes).map(([route, policy]) => routeRules(route, policy, mode, flaws));
  flaws.push(...known(rules));
  if (flaws.length > 0) throw badPolicy(from, flaws, placeOf);
  return rules;
}

export function badPolicy(from: string, flaws: readonly Flaw[], placeOf: PlaceOf): Fault {
  const told = flaws.map(({ path, rule }) => {
    const place = placeOf(path);
    return { option: nameOf(path), rule, ...(place === undefined ? {} : { place }), text: `${place === undefined ? "" : `${place}: `}${nameOf(path)} ${rule}` };
  });
  const more = told.length > 1 ? ` (and ${told.length - 1} more)` : "";
  return Fault.create(
    "degradation.bad-policy",
    `${from}: ${told[0]?.text ?? "is empty"}${more}`,
    "Mend the file; `trestle check` says all that is wrong with it.",
    {
      details: { from, flaws: told.map(({ text }) => text) },
    },
  );
}

/** `routes."shop.catalogue".when[0].enter` */
function nameOf(path: Flaw["path"]): string {
  return (
    path.map((key, at) => (typeof key === "number" ? `[${key}]` : `${at === 0 ? "" : "."}${/^\$?\w+$/.test(key) ? key : JSON.stringify(key)}`)).join("") ||
    "the whole"
  );
}

function routeRules(route: string, policy: RoutePolicy, mode: "dark" | "enforce", flaws: Flaw[]): RouteRules {
  const path = ["routes", route] as const;
  const wrong = (member: string, rule: string) => void flaws.push({ path: [...path, member], rule });
  const { ladder, hold } = policy;
  if (ladder[0] !== "full" || ladder.some((rung, at) => at > 0 && levelOf(rung) <= levelOf(ladder[at - 1] as Rung)))
    wrong("ladder", `must begin with full and go down in the order ${rungs.join(", ")}, each once, got ${seen(ladder)}`);
  if (hold !== undefined && !ladder.includes(hold)) wrong("hold", `must be a rung of the ladder (${ladder.join(", ")}), got ${hold}`);
  const ms = (member: "dwell" | "probe", otherwise: Duration, least: number) => {
    const value = durationMs(policy[member] ?? otherwise, member);
    if (value < least || value > 3_600_000) wrong(member, `must be from ${least}ms to 1h, got ${seen(policy[member])}`);
    return value;
  };
  return {
    route,
    mode: policy.mode ?? mode,
    ladder,
    dwellMs: ms("dwell", "10s", 0),
    probeMs: ms("probe", "1s", 10),
    hold,
    triggers: (policy.when ?? []).map((trigger, at) => triggerRules(trigger as AnyTrigger, ladder, [...path, "when", at], flaws)),
  };
}

/** As the schema lets it pass. */
interface AnyTrigger {
  readonly serve: Rung;
  readonly breaker?: string;
  readonly health?: string;
  readonly saturation?: string;
  readonly admission?: string;
  readonly burn?: "errors" | "latency";
  readonly objective?: Percent;
  readonly slowerThan?: Duration;
  readonly windows?: readonly [Duration, Duration];
  readonly calls?: number;
  readonly enter?: number;
  readonly leave?: number;
}
/** What each trigger says beside what it looks at and `serve`. */
const members = {
  breaker: [],
  health: [],
  saturation: ["enter", "leave"],
  admission: ["enter", "leave", "calls"],
  errors: ["enter", "leave", "calls", "objective", "windows"],
  latency: ["enter", "leave", "calls", "objective", "windows", "slowerThan"],
} as const;
const allMembers = members.latency;

function triggerRules(trigger: AnyTrigger, ladder: readonly Rung[], path: Flaw["path"], flaws: Flaw[]): TriggerRules {
  const wrong = (member: string, rule: string) => void flaws.push({ path: [...path, member], rule });
  const { serve, burn, objective, slowerThan, calls = 20 } = trigger;
  if (serve === "full" || !ladder.includes(serve)) wrong("serve", `must be a rung of the ladder below full (${ladder.slice(1).join(", ")}), got ${serve}`);
  const looksAt = (["breaker", "health", "saturation", "admission"] as const).find((name) => trigger[name] !== undefined);
  const kind = burn ?? (looksAt as NonNullable<typeof looksAt>);
  for (const member of allMembers)
    if (trigger[member] !== undefined && !(members[kind] as readonly string[]).includes(member))
      wrong(member, `says nothing for ${burn === undefined ? kind : `burn: ${burn}`}`);
  const base = { serve, text: JSON.stringify(trigger) };
  if (kind === "breaker" || kind === "health") return { ...base, kind, of: trigger[kind] as string };

  const enter = trigger.enter ?? (kind === "saturation" ? undefined : kind === "admission" ? 0.05 : 10);
  const leave = trigger.leave ?? (kind === "saturation" ? 0.8 * (enter ?? 1) : Math.min(kind === "admission" ? 0.01 : 1, enter as number));
  if (enter === undefined) wrong("enter", "must be above 0, got nothing");
  else if (leave > enter) wrong("leave", `must be at most enter (${enter}), got ${leave}`);
  if (kind === "saturation") return { ...base, kind, of: trigger[kind] as string, enter: enter ?? 1, leave };
  if (kind === "admission") return { ...base, kind, of: trigger[kind] as string, enter: enter as number, leave, calls };

  const budget = 1 - Number((objective ?? "0%").slice(0, -1)) / 100;
  if (objective === undefined || !(budget > 0 && budget < 1)) wrong("objective", `must be above 0% and below 100%, got ${seen(objective)}`);
  if (kind === "latency" && slowerThan === undefined) wrong("slowerThan", "must be given for burn: latency");
  const [shortMs, longMs] = (trigger.windows ?? ["30s", "5m"]).map((window) => durationMs(window, "windows")) as [number, number];
  if (shortMs < 1_000 || longMs > 86_400_000 || shortMs >= longMs)
    wrong("windows", `must be a short and a longer one, from 1s to 1d, got ${seen(trigger.windows)}`);
  return {
    ...base,
    kind: "burn",
    of: kind,
    budget,
    slowerThanMs: slowerThan === undefined ? Infinity : durationMs(slowerThan, "slowerThan"),
    shortMs,
    longMs,
    calls,
    enter: enter as number,
    leave,
  };
}

/**
 * Limits of a route: token buckets (trestle/limits) per caller, tenant, address or for everyone, of this process or of the fleet.
 *
 * A request takes from all that stand over it, those of its service and then its own, and passes when all admit it. When one refuses, what the others gave is given
 * back, so a refusal costs nobody anything. A limit with `dryRun` is asked and counted, and refuses nobody.
 */
import { Fault, type Rate } from "../kernel/index.ts";
import { assertCost, bucketRule, fleetLimitOf, fleetRule, rateLimitFields, TokenBuckets, type Across, type Decision, type RateLimit } from "../limits/index.ts";
import type { NodeServices } from "../component/index.ts";
import type { Peer } from "./routes.ts";

export type Limit = LimitRate & Across;
export interface LimitRate {
  /** `caller`: who is known by a principal, else the address. */
  readonly per: "caller" | "tenant" | "address" | "everyone";
  readonly rate: Rate;
  /** How many may come at once; default: what the rate allows in one second, at least 1. */
  readonly burst?: number;
  /** What a request takes, from 1e-6 to `burst`; default 1. */
  readonly cost?: number;
  /** Asked and counted, refuses nobody: to see what a limit would do (`trestle_limit_decisions_total`, decision `would-refuse`). */
  readonly dryRun?: boolean;
  /** For so many keys at once there is room in this process; default 100,000. */
  readonly keys?: number;
}

/** One limit, checked. Who shares a rule on a node shares its buckets. */
export interface LimitRule {
  /** Names it in headers and metrics: `caller`, `caller-2`, `service-tenant`. */
  readonly name: string;
  readonly per: LimitRate["per"];
  readonly rate: Rate;
  readonly cost: number;
  readonly dryRun: boolean;
  readonly make: (node: NodeServices) => Buckets;
}
/** Of a process or of a fleet, which may have to be asked. */
export type Buckets = Pick<RateLimit, "limit" | "windowMs" | "forgotten" | "look" | "giveBack"> & {
  decide(key: string, cost?: number): Decision | Promise<Decision>;
};

/** `owner`: the service, and for a route its name behind a dot. Those who share it share the buckets of a fleet. */
export function limitRules(limits: Limit | readonly Limit[] | undefined, option: string, whose: "route" | "service", owner = ""): readonly LimitRule[] {
  const all: readonly Limit[] = limits === undefined ? [] : Array.isArray(limits) ? (limits as readonly Limit[]) : [limits as Limit];
  const names = new Map<string, number>();
  return all.map(({ per, rate, burst, cost = 1, dryRun = false, keys, ...across }, nth) => {
    if (!["caller", "tenant", "address", "everyone"].includes(per))
      throw Fault.create(
        "limits.bad-partition",
        `${option}: per must be "caller", "tenant", "address" or "everyone", got ${JSON.stringify(per)}`,
        "Say whose requests are counted together.",
      );
    const base = whose === "service" ? `service-${per}` : per;
    const before = names.get(base) ?? 0;
    names.set(base, before + 1);
    const of = all.length > 1 ? `${option}[${nth}]` : option;
    const rule = bucketRule({ rate, burst, keys }, of);
    assertCost(cost, rule.burst, `${of}: cost`);
    const name = before === 0 ? base : `${base}-${before + 1}`;
    const fleet = fleetRule(across as Across, rule, of, `${owner} ${name}`);
    const make: LimitRule["make"] = (node) =>
      fleet ? fleetLimitOf(node, fleet, { component: owner.split(".")[0] as string, limit: name }) : new TokenBuckets(rule, node.clock, node.random);
    return { name, per, rate, cost, dryRun, make };
  });
}

/** A rule and its buckets on one node. */
export class KeptLimit {
  readonly rule: LimitRule;
  readonly buckets: Buckets;

  constructor(rule: LimitRule, node: NodeServices) {
    this.rule = rule;
    this.buckets = rule.make(node);
  }

  /** Whose requests are counted together with this peer's. */
  keyOf({ address, tenant, principal }: Peer): string {
    const { per } = this.rule;
    if (per === "everyone") return "";
    if (per === "tenant") return tenant ?? "";
    return per === "caller" && principal ? `${principal.kind} ${principal.id}` : `address ${address ?? "unknown"}`;
  }
}

export interface Limited {
  readonly limit: KeptLimit;
  readonly decision: Decision;
}

/** Takes from all of them or from none, in their order. Throws the refusal that has to be waited for longest. */
export function takeFromLimits(limits: readonly KeptLimit[], peer: Peer, title: string, told: Told): Taken | Promise<Taken> {
  return new Taking(limits, peer, title, told).from(0);
}
export interface Taken {
  /** What each that may refuse said. */
  readonly said: readonly Limited[];
  /** What is declined afterwards costs nobody anything, limits in a dry run neither. */
  giveBack(): void;
}
type Told = (limit: KeptLimit, decision: LimitDecision, forgotten: number) => void;

class Taking implements Taken {
  readonly #limits: readonly KeptLimit[];
  readonly #peer: Peer;
  readonly #title: string;
  readonly #told: Told;
  readonly said: Limited[] = [];
  readonly #took: KeptLimit[] = [];
  #refused = false;

  constructor(limits: readonly KeptLimit[], peer: Peer, title: string, told: Told) {
    this.#limits = limits;
    this.#peer = peer;
    this.#title = title;
    this.#told = told;
  }

  /** At once, as far as nobody has to be asked. */
  from(first: number): this | Promise<this> {
    for (let at = first; at < this.#limits.length; at++) {
      const limit = this.#limits[at] as KeptLimit;
      const { buckets, rule } = limit;
      const before = buckets.forgotten;
      const key = limit.keyOf(this.#peer);
      // After a refusal the others are only asked how long they would make the caller wait.
      const decision = this.#refused ? buckets.look(key, rule.cost) : buckets.decide(key, rule.cost);
      if (decision instanceof Promise)
        return decision.then((decided) => {
          this.#decided(limit, decided, 0);
          return this.from(at + 1);
        });
      this.#decided(limit, decision, buckets.forgotten - before);
    }
    if (this.#refused) throw limitExceeded(this.#title, this.said, this.#peer);
    for (const { limit } of this.said) this.#told(limit, "admitted", 0);
    return this;
  }

  giveBack(): void {
    for (const limit of this.#took.splice(0)) limit.buckets.giveBack(limit.keyOf(this.#peer), limit.rule.cost);
  }

  #decided(limit: KeptLimit, decision: Decision, forgotten: number): void {
    const { rule } = limit;
    if (!this.#refused && decision.ok) this.#took.push(limit);
    if (rule.dryRun) {
      if (!this.#refused) this.#told(limit, decision.ok ? "admitted" : "would-refuse", forgotten);
      return;
    }
    this.said.push({ limit, decision });
    if (this.#refused || decision.ok) return;
    this.#refused = true;
    this.#told(limit, "refused", forgotten);
    this.giveBack();
  }
}

export type LimitDecision = "admitted" | "refused" | "would-refuse";

/** The fields of trestle/limits. Addresses are not told. */
export function limitHeaders(taken: readonly Limited[], peer: Peer): Record<string, string> {
  return rateLimitFields(
    taken.map(({ limit, decision }) => {
      const { name, per, cost } = limit.rule;
      const partition = per === "tenant" ? peer.tenant : per === "caller" ? peer.principal?.id : undefined;
      return { name, limit: limit.buckets, key: limit.keyOf(peer), cost, decision, partition };
    }),
  );
}

function limitExceeded(operation: string, taken: readonly Limited[], peer: Peer): Fault {
  const longest = taken.reduce((a, b) => (b.decision.retryAfterMs > a.decision.retryAfterMs ? b : a));
  const { rule, buckets } = longest.limit;
  const seconds = Math.max(1, Math.ceil(longest.decision.retryAfterMs / 1_000));
  return Fault.create(
    "request.limit-exceeded",
    `${operation} takes ${rule.rate} requests per ${rule.per === "everyone" ? "service" : rule.per}, ${Math.floor(buckets.limit / rule.cost)} at once`,
    `Ask again in ${seconds} s.`,
    { details: { headers: { ...limitHeaders(taken, peer), "retry-after": String(seconds) } } },
  );
}

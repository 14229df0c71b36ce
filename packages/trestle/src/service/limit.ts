/**
 * Limits of a route: token buckets (trestle/limits) per caller, tenant, address or for everyone, kept in this process.
 *
 * A request takes from all that stand over it, those of its service and then its own, and passes when all admit it. When one refuses, what the others gave is given
 * back, so a refusal costs nobody anything. A limit with `dryRun` is asked and counted, and refuses nobody.
 */
import { Fault, type Rate } from "../kernel/index.ts";
import { assertCost, bucketRule, rateLimit, type Decision, type RateLimit } from "../limits/index.ts";
import type { NodeServices } from "../component/index.ts";
import type { Peer } from "./routes.ts";

export interface Limit {
  /** `caller`: who is known by a principal, else the address. */
  readonly per: "caller" | "tenant" | "address" | "everyone";
  readonly rate: Rate;
  /** How many may come at once; default: what the rate allows in one second, at least 1. */
  readonly burst?: number;
  /** What a request takes, from 1e-6 to `burst`; default 1. */
  readonly cost?: number;
  /** Asked and counted, refuses nobody: to see what a limit would do (`trestle_limit_decisions_total`, decision `would-refuse`). */
  readonly dryRun?: boolean;
  /** For so many keys at once there is room; default 100,000. */
  readonly keys?: number;
}

/** One limit, checked. Who shares a rule on a node shares its buckets. */
export interface LimitRule {
  /** Names it in headers and metrics: `caller`, `caller-2`, `service-tenant`. */
  readonly name: string;
  readonly per: Limit["per"];
  readonly rate: Rate;
  readonly cost: number;
  readonly dryRun: boolean;
  readonly make: (node: Pick<NodeServices, "clock" | "random">) => RateLimit;
}

export function limitRules(limits: Limit | readonly Limit[] | undefined, option: string, whose: "route" | "service"): readonly LimitRule[] {
  const all: readonly Limit[] = limits === undefined ? [] : Array.isArray(limits) ? (limits as readonly Limit[]) : [limits as Limit];
  const names = new Map<string, number>();
  return all.map(({ per, rate, burst, cost = 1, dryRun = false, keys }, nth) => {
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
    const make: LimitRule["make"] = ({ clock, random }) => rateLimit({ rate, burst: rule.burst, keys: rule.keys, clock, random });
    return { name: before === 0 ? base : `${base}-${before + 1}`, per, rate, cost, dryRun, make };
  });
}

/** A rule and its buckets on one node. */
export class KeptLimit {
  readonly rule: LimitRule;
  readonly buckets: RateLimit;

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

/** Takes from all of them or from none. Answers what each that may refuse said; throws the refusal that has to be waited for longest. */
export function takeFromLimits(
  limits: readonly KeptLimit[],
  peer: Peer,
  title: string,
  told: (limit: KeptLimit, decision: LimitDecision, forgotten: number) => void,
): readonly Limited[] {
  const taken: Limited[] = [];
  const took: KeptLimit[] = [];
  let refused = false;
  for (const limit of limits) {
    const { buckets, rule } = limit;
    const before = buckets.forgotten;
    const key = limit.keyOf(peer);
    // After a refusal the others are only asked how long they would make the caller wait.
    const decision = refused ? buckets.look(key, rule.cost) : buckets.decide(key, rule.cost);
    const forgotten = buckets.forgotten - before;
    if (!refused && decision.ok) took.push(limit);
    if (rule.dryRun) {
      if (!refused) told(limit, decision.ok ? "admitted" : "would-refuse", forgotten);
      continue;
    }
    taken.push({ limit, decision });
    if (refused || decision.ok) continue;
    refused = true;
    told(limit, "refused", forgotten);
    for (const earlier of took) earlier.buckets.giveBack(earlier.keyOf(peer), earlier.rule.cost);
  }
  if (!refused) for (const { limit } of taken) told(limit, "admitted", 0);
  else throw limitExceeded(title, taken, peer);
  return taken;
}

export type LimitDecision = "admitted" | "refused" | "would-refuse";

/**
 * The fields of draft-ietf-httpapi-ratelimit-headers-10: quota (`q`) of requests (`qu`) in a window (`w`, seconds) for a partition (`pk`), what is left of it (`r`), and when all of
 * it is there again (`t`). Addresses are not told.
 */
export function limitHeaders(taken: readonly Limited[], peer: Peer): Record<string, string> {
  if (taken.length === 0) return {};
  const policies = taken.map(({ limit: { rule, buckets } }) => {
    const partition = rule.per === "tenant" ? peer.tenant : rule.per === "caller" ? peer.principal?.id : undefined;
    const pk = partition === undefined ? "" : `;pk=:${Buffer.from(partition).toString("base64")}:`;
    return `"${rule.name}";q=${Math.floor(buckets.limit / rule.cost)};w=${Math.max(1, Math.ceil(buckets.windowMs / 1_000))};qu="requests"${pk}`;
  });
  const states = taken.map(
    ({ limit: { rule }, decision }) => `"${rule.name}";r=${Math.floor(decision.left / rule.cost)};t=${Math.ceil(decision.resetMs / 1_000)}`,
  );
  return { "ratelimit-policy": policies.join(", "), ratelimit: states.join(", ") };
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

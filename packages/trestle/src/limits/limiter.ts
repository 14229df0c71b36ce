/**
 * limiter: how often, per key, for handlers that decide what to count: logins per user, mails per receiver, imports per tenant and cost.
 *
 * What is taken stays taken when the handler fails or refuses (a wrong password counts), and is taken once however often a conflict runs the handler again. Across this
 * process or the fleet: see the README.
 */
import {
  declareComponent,
  keyText,
  refuse,
  type Annotations,
  type Component,
  type Invocation,
  type NodeServices,
  type Out,
  type Refused,
  type Schema,
  type Usable,
} from "../component/index.ts";
import type { Rate } from "../kernel/index.ts";
import { assertCost, bucketRule, givenTo } from "./checks.ts";
import { fleetRule, type Across } from "./across.ts";
import { fleetLimitOf } from "./fleet.ts";
import { TokenBuckets, type Decision, type RateLimit } from "./rate-limit.ts";

export type LimiterSpec<K extends Schema> = LimiterRate<K> & Across;
export interface LimiterRate<K extends Schema> extends Annotations {
  readonly key: K;
  /** `"5/m"`, from 1e-9 to 1e9 a second. */
  readonly rate: Rate;
  /** How many may come at once, from 1 to 1e9; default: what the rate allows in one second, at least 1. */
  readonly burst?: number;
  /** For so many keys in use at once there is room in this process; default 100,000. */
  readonly keys?: number;
}

/** A limiter for handlers, and by `node.open` or `open` for everybody else. */
export function limiter<K extends Schema<any, string | number>>(name: string, spec: LimiterSpec<K>): Limiter<Out<K>> {
  const { key: _key, rate, burst, keys, across, whenUnreachable, exactness, within, ...annotations } = givenTo(spec);
  const rule = bucketRule({ rate, burst, keys }, `limiter "${name}"`);
  const fleet = fleetRule({ across, whenUnreachable, exactness, within } as Across, rule, `limiter "${name}"`, name);
  const kept = (node: NodeServices): Kept =>
    node.local(component, () => (fleet ? fleetLimitOf(node, fleet, { component: name, limit: name }) : new TokenBuckets(rule, node.clock, node.random)));
  const component = declareComponent<Limiter<Out<K>>>("limiter", name, {
    annotations,
    uses: {},
    edge: "call",
    role: "any",
    bind: (invocation) => new BoundLimiter(name, kept(invocation.node), invocation),
    live: (node) => ({ take: (key: unknown, cost?: number) => take(name, kept(node), node, undefined, key, cost) }),
  });
  return component;
}

export interface Limiter<Key> extends Component<"limiter">, Usable<LimiterHandle<Key>> {}

export interface LimiterHandle<Key> {
  /** Takes `cost` (from 1e-6 to `burst`, default 1) or nothing. A tenant's keys are its own. Not inside of `node.transaction` across a fleet that counts in the store: it has the store to itself. Faults: `option.out-of-range`, `component.bad-key`. */
  take(key: Key, cost?: number): Promise<Took>;
}

export type Took = { readonly ok: true; readonly left: number } | OverLimit;
export interface OverLimit extends Refused<"over-limit"> {
  readonly retryAfterMs: number;
}

type Kept = Pick<RateLimit, "limit" | "forgotten"> & { decide(key: string, cost: number): Decision | Promise<Decision> };

class BoundLimiter implements LimiterHandle<string | number> {
  readonly #name: string;
  readonly #kept: Kept;
  readonly #invocation: Invocation;

  constructor(name: string, kept: Kept, invocation: Invocation) {
    this.#name = name;
    this.#kept = kept;
    this.#invocation = invocation;
  }

  async take(key: string | number, cost?: number): Promise<Took> {
    const invocation = this.#invocation;
    const took = await invocation.once(`${this.#name}.take ${keyText(key, this.#name)}`, () =>
      take(this.#name, this.#kept, invocation.node, invocation.tenant, key, cost),
    );
    return took.ok ? took : invocation.watchRefusal(took, `${this.#name}.take`);
  }
}

async function take(name: string, kept: Kept, node: NodeServices, tenant: string | undefined, key: unknown, cost = 1): Promise<Took> {
  const text = keyText(key, name);
  assertCost(cost, kept.limit, `limiter "${name}": cost`);
  const before = kept.forgotten;
  const { ok, left, retryAfterMs } = await kept.decide(tenant === undefined ? `/${text}` : `${encodeURIComponent(tenant)}/${text}`, cost);
  node.observer.limited?.(name, "take", name, ok ? "admitted" : "refused", kept.forgotten - before);
  return ok ? { ok, left } : refuse("over-limit", { retryAfterMs });
}

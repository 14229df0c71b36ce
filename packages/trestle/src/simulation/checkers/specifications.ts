/** Ready specifications. Each call has a `kind`; values are plain JSON. */
import { json, same } from "./history.ts";
import type { Specification } from "./specification.ts";
import { decideUniqueRegister } from "./unique-register.ts";

export type RegisterCall =
  { readonly kind: "read" } | { readonly kind: "write"; readonly value: unknown } | { readonly kind: "cas"; readonly from: unknown; readonly to: unknown };

/**
 * One value: `read` answers it, `write` sets it, `cas` (compare and set) answers whether it was `from` and is now `to`.
 * Where there is no `cas` and no value is written twice, it is decided in O(n log n) (see unique-register.ts), however many callers there are:
 * let every write have a value of its own.
 */
export function register(initial: unknown = null): Specification<unknown, RegisterCall, unknown> {
  return {
    name: "register",
    initial,
    step(value, { call, outcome, result }) {
      if (call.kind === "write") return [call.value];
      if (call.kind === "read") return outcome === "unknown" || same(value, result) ? [value] : [];
      if (outcome === "ok" && result === false) return same(value, call.from) ? [] : [value];
      return same(value, call.from) ? [call.to] : []; // of unknown outcome: without effect it need not be
    },
    observes: ({ call, result }) => call.kind === "read" || (call.kind === "cas" && result === false),
    effect: ({ call }) => JSON.stringify(call),
    decide: (operations) => decideUniqueRegister(operations, initial),
  };
}

export type CounterCall = { readonly kind: "read" } | { readonly kind: "add"; readonly amount: number };

/** A number: `read` answers it; `add` answers the sum, or nothing. */
export function counter(initial = 0): Specification<number, CounterCall, number> {
  return {
    name: "counter",
    initial,
    step(sum, { call, result }) {
      const next = call.kind === "add" ? sum + call.amount : sum;
      return result === undefined || result === next ? [next] : [];
    },
    observes: ({ call }) => call.kind === "read" || call.amount === 0,
    effect: ({ call }) => JSON.stringify(call),
  };
}

export type Member = string | number;
export type SetCall =
  | { readonly kind: "add"; readonly member: Member }
  | { readonly kind: "remove"; readonly member: Member }
  | { readonly kind: "has"; readonly member: Member }
  | { readonly kind: "members" };

/**
 * A set: `has` answers whether it is in; `add` and `remove` whether they changed something, or nothing; `members` answers all, in any order.
 * Without `members` each member is an object of its own, which is searched far faster: give the specification
 * `key: ({ key, call }) => JSON.stringify([key, call.member])`.
 */
export function set(initial: readonly Member[] = []): Specification<readonly Member[], SetCall, boolean | readonly Member[]> {
  const ordered = (members: readonly Member[]) => members.toSorted((a, b) => (order(a) < order(b) ? -1 : 1));
  const order = (member: Member) => `${typeof member} ${member}`;
  return {
    name: "set",
    initial: ordered(initial),
    step(members, { call, result }) {
      if (call.kind === "members")
        return result === undefined || (Array.isArray(result) && same(ordered(result as readonly Member[]), members)) ? [members] : [];
      const isIn = members.includes(call.member);
      if (call.kind === "has") return result === undefined || result === isIn ? [members] : [];
      const changes = isIn === (call.kind === "remove");
      if (result !== undefined && result !== changes) return [];
      if (!changes) return [members];
      return [isIn ? members.filter((member) => member !== call.member) : ordered([...members, call.member])];
    },
    observes: ({ call, result }) => call.kind === "has" || call.kind === "members" || result === false,
    effect: ({ call }) => JSON.stringify(call),
  };
}

export type QueueCall = { readonly kind: "enqueue"; readonly value: unknown } | { readonly kind: "dequeue" };

/** First in, first out: `dequeue` answers the oldest value, or `null` when there is none. */
export function fifoQueue(initial: readonly unknown[] = []): Specification<readonly unknown[], QueueCall, unknown> {
  return {
    name: "queue",
    initial,
    step(values, { call, outcome, result }) {
      if (call.kind === "enqueue") return [[...values, call.value]];
      if (outcome === "ok" && result === null) return values.length === 0 ? [values] : [];
      return values.length > 0 && (outcome === "unknown" || same(values[0], result)) ? [values.slice(1)] : [];
    },
    observes: ({ call, result }) => call.kind === "dequeue" && result === null,
    effect: ({ call }) => JSON.stringify(call),
  };
}

export type MutexCall = { readonly kind: "acquire" } | { readonly kind: "release" };

/** At most one process holds it. Both answer whether they did; no answer counts as `true`. A release by a process that does not hold it answers `false`. */
export function mutex(): Specification<string | number | null, MutexCall, boolean> {
  return {
    name: "mutex",
    initial: null,
    step(holder, { process, call, result }) {
      const may = call.kind === "acquire" ? holder === null : holder === process;
      if (result === false) return may ? [] : [holder];
      return may ? [call.kind === "acquire" ? process : null] : [];
    },
    observes: ({ result }) => result === false,
    describe: (holder) => (holder === null ? "held by nobody" : `held by process ${holder}`),
  };
}

export type LeaseCall =
  | { readonly kind: "acquire" }
  | { readonly kind: "renew"; readonly fence: number }
  | { readonly kind: "release"; readonly fence: number }
  /** An effect that is carried out under this fence, where the fence is checked. */
  | { readonly kind: "use"; readonly fence: number };

/** `holder` is 0 when nobody holds it. `used` is the highest fence under which something was done. */
export interface LeaseState {
  readonly holder: number;
  readonly issued: number;
  readonly used: number;
}

/**
 * A lease with fencing (M. Kleppmann, "How to do distributed locking", 2016). `acquire` answers a fence, or `null` while another one holds it;
 * the others answer whether they did. A term may end at any time, because time is no part of the specification: what is held to is that fences rise, that
 * only the last one renews and releases, and that nothing is done under a fence after something was done under a later one.
 * `fencedBy: "issuer"` asks for more: that nothing is done under a fence once a later one was issued, as where lease and effect share a store.
 */
export function lease({ fencedBy = "resource" }: { readonly fencedBy?: "resource" | "issuer" } = {}): Specification<
  LeaseState,
  LeaseCall,
  number | null | boolean
> {
  return {
    name: "lease",
    initial: { holder: 0, issued: 0, used: 0 },
    step(state, { call, outcome, result }) {
      const { holder, issued, used } = state;
      const known = outcome === "ok";
      if (call.kind === "acquire") {
        if (known && result === null) return holder === 0 ? [] : [state];
        const fence = known ? (result as number) : issued + 1;
        return fence > issued ? [{ holder: fence, issued: fence, used }] : [];
      }
      const { fence } = call;
      if (call.kind === "use") {
        if (known && result === false) return [state]; // its term may have ended
        return fence >= (fencedBy === "issuer" ? issued : used) && fence <= issued ? [{ holder, issued, used: Math.max(used, fence) }] : [];
      }
      const ended = { holder: holder === fence ? 0 : holder, issued, used };
      if (known && result === false) return [ended];
      return holder === fence ? [call.kind === "release" ? ended : state] : [];
    },
    observes: ({ call, outcome, result }) =>
      call.kind === "use" ? result === false : call.kind === "acquire" ? result === null : call.kind === "renew" && outcome === "ok" && result !== false,
    effect: ({ call }) => JSON.stringify(call),
    identity: ({ holder, issued, used }) => `${holder} ${issued} ${used}`,
    describe: ({ holder, issued, used }) => `${holder === 0 ? "held by nobody" : `held under fence ${holder}`}, ${issued} issued, ${used} used`,
  };
}

/** How a specification's state reads. */
export function stateInWords<State>(specification: Specification<State, never, never>, state: State): string {
  return specification.describe?.(state) ?? json(state);
}

/**
 * Admission of a service's requests on one node: how many are worked on at once, who waits for a place and who is declined, before the body is read and before anything of it is done. The places are a bulkhead's
 * (trestle/resilience): priority first, then fair turns by tenant.
 *
 * A request holds its place, from before its body is read, until its handler has ended, though nobody may wait for it any more; a stream until it is open. A body that is not there within 100 ms gives the place back while it is
 * read, and stands in the line again then: who sends slowly holds none, as behind a proxy that buffers (nginx's `proxy_request_buffering`), and yet who is declined at the door need not send. As many are read so as
 * may be worked on and wait; the next one is declined, and its connection closed, which frees what had come of it. What a handler asks of a service of the same process by its typed client takes no place: its request has one.
 */
import { Overdue, type Component, type NodeServices } from "../component/index.ts";
import { Outcomes, type Admitted } from "../degradation/index.ts";
import { currentContext, durationMs, Fault, integerWithin, sharedWheel, type Clock, type Duration } from "../kernel/index.ts";
import { bulkhead, type Answer, type Bulkhead, type BulkheadOptions, type Leave, type Refusal } from "../resilience/index.ts";
import type { Served } from "./invoke.ts";
import type { ArrivedRequest, Peer } from "./routes.ts";

export interface Admission {
  /** How many requests are worked on at once, 1 to 1,000,000; `"adaptive"`, or bounds for it: as many as this process and what is behind it work on. Default `"adaptive"`. */
  readonly running?: BulkheadOptions["running"];
  /** How many may wait; `{ from, most }`: above `from` ever more of those who come are declined. Default: from two to three times those that are worked on. */
  readonly waiting?: BulkheadOptions["waiting"];
  /** The longest wait; default 1s. A request's own deadline holds too. */
  readonly wait?: Duration;
  /** Who is next among those of one priority. Default `fair`: by tenant where it is known, else by principal, else by address. */
  readonly order?: BulkheadOptions["order"];
  /** Whether those who have waited too long in a line that stands are declined. Default `true`. */
  readonly codel?: BulkheadOptions["codel"];
}

/** Why a request was declined: as a bulkhead says it, or that its caller left while it waited. */
export type Declined = Refusal | "left";

/** An admission, checked. */
export interface AdmissionRule {
  readonly waitMs: number;
  /** How many may wait; `undefined`: as a bulkhead has it by itself, three for each place. */
  readonly waitingMost: number | undefined;
  readonly places: (node?: Pick<NodeServices, "clock" | "random">) => Bulkhead;
}

export function admissionRule(admission: Admission | undefined, service: string): AdmissionRule | undefined {
  if (!admission) return undefined;
  const { running = "adaptive", waiting, wait, order = "fair", codel = true } = admission;
  // A bulkhead may only count, and admission bounds.
  if (typeof running === "number") integerWithin(running, `service "${service}": admission.running`, { least: 1, most: 1_000_000 });
  const line = waiting ?? (typeof running === "number" ? { from: 2 * running, most: 3 * running } : undefined);
  const rule: AdmissionRule = {
    waitingMost: typeof line === "number" ? line : line?.most,
    waitMs: wait === undefined ? 1_000 : durationMs(wait, `service "${service}": admission.wait`),
    places: (node) => bulkhead({ name: `admission of service "${service}"`, running, ...(line !== undefined && { waiting: line }), order, codel, ...node }),
  };
  rule.places(); // what is wrong with its numbers is said where they are declared
  return rule;
}

/** What degradation looks at (`admission: <service>`). */
const latestMs = 10_000;

/** The places of one service on one node, and what is told of them. */
export class AdmissionGate {
  /** Bodies that are read without a place. */
  unplaced = 0;
  readonly #places: Bulkhead;
  readonly #rule: AdmissionRule;
  readonly #component: string;
  readonly #node: NodeServices;
  readonly #latest = new Outcomes(latestMs);
  readonly #overdue: Overdue;

  constructor(rule: AdmissionRule, component: Component, node: NodeServices) {
    this.#places = rule.places({ clock: node.clock, random: node.random });
    this.#rule = rule;
    this.#component = component.name;
    this.#node = node;
    const places = this.#places;
    const overdue = (this.#overdue = new Overdue(node, component.name, () => places.running));
    node.observer.admits?.(component.name, () => ({ running: places.inFlight, places: places.running, waiting: places.waiting, overdue: overdue.handlers }));
  }

  /** Of the latest ten seconds. Who left while it waited was not declined. */
  get latest(): Admitted {
    const { calls, bad } = this.#latest.at(this.#node.clock.monotonicMs());
    return { asked: calls, declined: bad };
  }

  get unplacedMost(): number {
    const { running } = this.#places;
    return running + (this.#rule.waitingMost ?? 3 * running);
  }

  /** A place, in the context of the request; `declined` is told when it gets none, now or later. Faults: `request.not-admitted`, `request.share-exceeded`. */
  async enter(served: Served, request: ArrivedRequest, peer: Peer, declined: () => void): Promise<AdmittedRequest> {
    const asked = { served, request, peer, declined };
    return new AdmittedRequest(this, asked, await this.place(asked), this.#node.clock);
  }

  async place(asked: AtTheGate): Promise<Leave> {
    try {
      return await this.#places.acquire({ key: keyOf(asked.peer), waitMs: this.#rule.waitMs, signal: asked.request.signal });
    } catch (thrown) {
      const reason = Fault.is(thrown, "bulkhead.full") ? (thrown.details["reason"] as Refusal) : Fault.is(thrown, "deadline.exceeded") ? "late" : "left";
      throw this.declined(asked, reason, Fault.is(thrown) ? (thrown.details["retryAfterMs"] as number | undefined) : undefined);
    }
  }

  /** Once for each request. */
  decided(decision: "admitted" | Declined): void {
    if (decision !== "left") this.#latest.add(this.#node.clock.monotonicMs(), decision !== "admitted");
    this.#node.observer.admission?.(this.#component, currentContext().priority, decision);
  }

  /** This handler goes on, and holds its place until it has ended, if ever. */
  goesOn({ served, peer }: AtTheGate, running: Promise<unknown>): void {
    this.#overdue.add(served.operation.title, { tenant: peer.tenant }, running);
  }

  declined({ served, declined }: AtTheGate, reason: Declined | "slow", retryAfterMs = 1_000): Fault {
    declined();
    const told = reason === "slow" ? "full" : reason;
    this.decided(told);
    const { title } = served.operation;
    const { priority } = currentContext();
    const seconds = Math.max(1, Math.ceil(retryAfterMs / 1_000));
    const headers = { "retry-after": String(seconds), ...(reason === "slow" && { connection: "close" }) };
    const details = { reason: told, retryAfterMs, headers, facts: { reason: told, priority, retryAfterMs } };
    const remedy = `Nothing was done. Ask again in ${seconds} s.`;
    const { inFlight, running, waiting } = this.#places;
    const overdue = this.#overdue.handlers === 0 ? "" : `, ${this.#overdue.handlers} of them though nobody waits for them any more`;
    const load = `${inFlight} of ${running} are worked on${overdue}, ${waiting} wait`;
    if (reason === "share")
      return Fault.create("request.share-exceeded", `${title} takes no more of this caller's requests now: more of its wait than of others (${load})`, remedy, {
        details,
      });
    return Fault.create("request.not-admitted", `${title} takes no more requests now: ${why[reason]} (${load})`, remedy, { details });
  }
}

interface AtTheGate {
  readonly served: Served;
  readonly request: ArrivedRequest;
  readonly peer: Peer;
  readonly declined: () => void;
}

/** A request that was admitted, and its place. It is counted when it is known whether it is declined after all. */
export class AdmittedRequest {
  readonly #gate: AdmissionGate;
  readonly #asked: AtTheGate;
  readonly #clock: Clock;
  #leave: Leave;
  #isCounted = false;
  #goesOn: Promise<unknown> | undefined;

  constructor(gate: AdmissionGate, asked: AtTheGate, leave: Leave, clock: Clock) {
    this.#gate = gate;
    this.#asked = asked;
    this.#leave = leave;
    this.#clock = clock;
    if (!asked.served.operation.body) this.#count();
  }

  /** What comes slowly is read without a place, and stands in the line again. Faults: those of `enter`. */
  async reading<T>(read: () => Promise<T>): Promise<T> {
    const gate = this.#gate;
    let isSlow = false;
    const tooMany = Promise.withResolvers<typeof cut>();
    const slow = sharedWheel(this.#clock).after(promptBodyMs, () => {
      isSlow = true;
      this.#leave("unheard");
      if (++gate.unplaced > gate.unplacedMost) tooMany.resolve(cut);
    });
    const value = await Promise.race([read(), tooMany.promise]).finally(() => {
      slow.cancel();
      if (isSlow) gate.unplaced--;
    });
    this.#isCounted = isSlow; // by what declines it
    if (value === cut) throw gate.declined(this.#asked, "slow");
    if (isSlow) this.#leave = await gate.place(this.#asked);
    this.#isCounted = false;
    this.#count();
    return value;
  }

  #count(): void {
    if (!this.#isCounted) this.#gate.decided("admitted");
    this.#isCounted = true;
  }

  /** A handler goes on without its caller, and holds the place. */
  readonly outlived = (running: Promise<unknown>): void => {
    this.#goesOn = this.#goesOn ? Promise.allSettled([this.#goesOn, running]) : running;
  };

  answered(answer: Answer): void {
    this.#count();
    this.#leave(answer, this.#goesOn);
    if (this.#goesOn) this.#gate.goesOn(this.#asked, this.#goesOn);
  }
}
const promptBodyMs = 100;
const cut = Symbol("cut");

/** Whose turn it is. */
function keyOf({ tenant, principal, address }: Peer): string {
  if (tenant !== undefined) return `tenant ${tenant}`;
  return principal ? `${principal.kind} ${principal.id}` : `address ${address ?? "unknown"}`;
}

const why: Readonly<Record<Exclude<Declined, "share"> | "slow", string>> = {
  full: "as many wait as may",
  slow: "its body comes slowly, and so do as many others as may",
  early: "so many wait that some of those who come are declined",
  displaced: "its place in the line was needed for a more urgent one",
  waited: "it has waited for as long as is of use",
  late: "it had less time left than it takes",
  left: "its caller has gone",
};

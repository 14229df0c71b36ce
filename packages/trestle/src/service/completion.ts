/**
 * Finishing requests whose run died. The first recovery point of an idempotent request leaves a job in `~requests-<service>`, due when the
 * request's lease is over; the commit that stores the answer cancels it. So this queue is empty but for what crashed, and what it does is
 * what a caller's retry would do: go on under the same invocation id, store the answer. Out of attempts, the job stays: `undetermined`
 * while a call to the outside may have happened, else `dead`; the key stays in progress, and a caller who asks again goes on.
 */
import { decode, type Component, type NodeServices, type Principal } from "../component/index.ts";
import { emptyContext, Fault, withContext } from "../kernel/index.ts";
import { afterFailure, dispatcherOf, mayHaveCalled, type Claimant, type HeldJob, type Retry } from "../messaging/index.ts";
import type { ClaimedJob, JobEnd, Write } from "../store/index.ts";
import { decodeToken } from "./idempotency-key.ts";
import { completionQueue, type Completion } from "./completion-payload.ts";
import { resume, type Question, type Served } from "./invoke.ts";
import { check, type Operation } from "./operation.ts";
import type { ServiceState } from "./state.ts";

const retry: Retry = { attempts: 20, fromMs: 1_000, upToMs: 60_000 };
const atOnceMax = 8;

export class Completions implements Claimant {
  readonly queue: string;
  readonly #component: Component;
  readonly #operations: ReadonlyMap<string, Operation>;
  readonly #node: NodeServices;
  readonly #state: ServiceState;
  #working = 0;

  constructor(component: Component, operations: ReadonlyMap<string, Operation>, node: NodeServices, state: ServiceState) {
    this.queue = completionQueue(component.name);
    this.#component = component;
    this.#operations = operations;
    this.#node = node;
    this.#state = state;
  }

  room(): number {
    return atOnceMax - this.#working;
  }

  take(claim: ClaimedJob): HeldJob {
    this.#working += 1;
    let aborted: Fault | undefined;
    const settled = withContext(emptyContext, () => this.#finish(claim, () => aborted))
      .catch((fault: unknown) => {
        // The claim lapses, and the job is handed out again.
        if (!Fault.is(fault, "store.closed"))
          this.#node
            .log(this.#component.name, { traceparent: undefined, tenant: undefined, invocation: claim.id })
            .error("a request could not be finished", { fault: String(fault) });
      })
      .finally(() => {
        this.#working -= 1;
        dispatcherOf(this.#node).settled(claim.id);
        dispatcherOf(this.#node).roomIn(this);
      });
    return { claim, settled, abort: (reason) => void (aborted = reason) };
  }

  /** Everything taken has begun. */
  handBackWaiting(): void {}

  async #finish(claim: ClaimedJob, aborted: () => Fault | undefined): Promise<void> {
    const { store, storeClock } = this.#node;
    const nowMs = () => Math.ceil(storeClock.latestMs());
    const end = (how: JobEnd): Write => ({ kind: "finish", job: claim.id, fence: claim.fence, end: how });
    const completion = decode(claim.payload) as Completion;
    const operation = this.#operations.get(completion.operation);
    if (!operation) return this.#settle(end({ kind: "dead", error: `service "${this.#component.name}" has no operation ${completion.operation} any more` }));
    const row = await store.read.token(completion.token);
    const token = row && decodeToken(row.value);
    if (!row || token?.kind !== "running") return this.#settle(end({ kind: "done" })); // answered meanwhile, or forgotten
    if (token.untilMs > storeClock.earliestMs()) return this.#settle(end({ kind: "later", dueAtMs: token.untilMs, reason: "a caller is finishing it" }));

    const served: Served = { operation, component: this.#component, node: this.#node, state: this.#state };
    const question = questionOf(completion, operation);
    const running = this.#state.enter(completion.token, completion.fingerprint);
    try {
      const arrived = await check(operation, question.raw);
      const outcome = await withContext({ correlation: completion.correlation }, () =>
        resume(
          served,
          { question, arrived, tokenKey: completion.token, token, version: row.version },
          {
            attempt: claim.attempt + 1,
            whenDone: [end({ kind: "done" })],
            whenFailed: (fault, invocation) => [
              end(
                aborted()
                  ? { kind: "later", dueAtMs: nowMs(), reason: "the node stopped" }
                  : afterFailure(
                      retry,
                      { fault, attempt: claim.attempt, nowMs: nowMs(), hopeless: false, unknown: mayHaveCalled(invocation), exhausted: "dead" },
                      this.#node.random,
                    ),
              ),
            ],
          },
        ),
      );
      if (!outcome) await this.#settle(end({ kind: "later", dueAtMs: nowMs() + 1_000, reason: "somebody else is finishing it" }));
    } catch (fault) {
      if (Fault.is(fault, "store.closed")) throw fault;
      // Recorded with the job by `whenFailed`.
      this.#node
        .log(this.#component.name, { traceparent: undefined, tenant: completion.tenant, invocation: claim.id })
        .warn(`${operation.title} could not be finished yet`, {
          attempt: claim.attempt,
          code: Fault.is(fault) ? fault.code : "service.fault",
          fault: String(fault),
        });
    } finally {
      this.#state.leave(completion.token, running);
    }
  }

  async #settle(write: Write): Promise<void> {
    await this.#node.lane.submit({ id: this.#node.ids.next(), expects: [], writes: [write] });
  }
}

function questionOf(completion: Completion, operation: Operation): Question {
  const { params, query, target, text, tenant, principal } = completion;
  return {
    raw: {
      params,
      query,
      body: text === "" ? undefined : JSON.parse(text),
      raw: () =>
        new Request(`http://localhost${target}`, {
          method: operation.method,
          ...(text === "" ? {} : { body: text, headers: { "content-type": "application/json" } }),
        }),
    },
    tenant,
    principal: principal && rememberedPrincipal(principal),
    scope: "",
    key: undefined,
    target,
    text,
  };
}

/** Who asked is remembered; what they were allowed is not. */
function rememberedPrincipal({ id, kind }: { readonly id: string; readonly kind: "user" | "service" }): Principal {
  return { id, kind, can: () => false };
}

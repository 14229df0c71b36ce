/**
 * A route on its ladder (trestle/degradation): what each of its rungs answers, and how an answer that is not the whole one is marked.
 *
 * - `stale`: the last good answer to the same request, kept in this process while a policy names the route. The same: path and query, tenant, principal, and the header fields by which
 *   a caller is known or speaks (`callerFields`), so that nobody gets what was for somebody else. Not kept: what sets a cookie, says `no-store` or `private`, or varies by another field.
 * - `partial`: a handler in place of the whole one. It is never durable, so it calls nothing outside that changes something; of an idempotent route its answer is kept under the key,
 *   marked. A request that was begun by the whole handler is finished by that.
 * - `static`: one value.
 *
 * A failure of the whole handler is answered from below only when it has left nothing behind: not in a durable handler, and not when what it wrote may have been committed.
 */
import { createHash } from "node:crypto";
import type { NodeServices } from "../component/index.ts";
import { degradedHeader, type Answers, type RouteLadder, type Rung } from "../degradation/index.ts";
import { Fault, RecentMap, type Clock } from "../kernel/index.ts";
import type { Outcome, Question, Served } from "./invoke.ts";
import { settle, type Operation } from "./operation.ts";
import { mayHaveHappened, statusOf } from "./problem.ts";
import { wireOf, type StoredAnswer } from "./reply-wire.ts";

const staleCharactersMax = 65_536;

/** The last good answers of one operation. */
export class StaleAnswers {
  readonly #kept: RecentMap<string, { readonly answer: StoredAnswer; readonly atMs: number }>;
  readonly #forMs: number;
  readonly #clock: Clock;

  constructor({ forMs, keys }: { readonly forMs: number; readonly keys: number }, clock: Clock) {
    this.#kept = new RecentMap(keys);
    this.#forMs = forMs;
    this.#clock = clock;
  }

  keep(key: string, { answer }: Extract<Outcome, { readonly kind: "answer" }>): void {
    const { status, body, headers, refused } = answer;
    if (refused || status !== 200 || (body?.length ?? 0) > staleCharactersMax || isForOneOnly(headers)) return;
    this.#kept.set(key, { answer, atMs: this.#clock.monotonicMs() });
  }

  get(key: string): Outcome | undefined {
    const kept = this.#kept.get(key);
    const ageMs = kept ? this.#clock.monotonicMs() - kept.atMs : Infinity;
    if (!kept || ageMs > this.#forMs) return undefined;
    return { kind: "answer", answer: { ...kept.answer, headers: { ...kept.answer.headers, age: String(Math.floor(ageMs / 1_000)) } }, replayed: false };
  }
}

/** By which a caller is known, or says what it wants. */
const callerFields = [
  "authorization",
  "proxy-authorization",
  "cookie",
  "x-api-key",
  "api-key",
  "x-auth-token",
  "x-forwarded-client-cert",
  "x-forwarded-user",
  "x-tenant",
  "host",
  "accept",
  "accept-language",
];

function isForOneOnly(headers: Readonly<Record<string, string>>): boolean {
  const fields = new Map(Object.entries(headers).map(([name, value]) => [name.toLowerCase(), value.toLowerCase()]));
  if (fields.has("set-cookie") || /\b(no-store|private)\b/.test(fields.get("cache-control") ?? "")) return true;
  const varies = (fields.get("vary") ?? "").split(",").map((name) => name.trim());
  return varies.some((name) => name !== "" && name !== "accept-encoding" && name !== "origin" && !callerFields.includes(name));
}

/** What else of a request than its path its answer may depend on. */
export function variantOf(headers: { get(name: string): string | null }): string {
  const told = callerFields.map((name) => headers.get(name) ?? "");
  return told.every((value) => value === "") ? "" : createHash("sha256").update(JSON.stringify(told)).digest("base64");
}

/** The ladder that this operation stands on, by the policies of now. */
export function ladderOf(node: NodeServices, operation: Operation): RouteLadder | undefined {
  return node.degradation?.of(operation.title);
}

/** Asks on the ladder. `partial`: runs the operation with this handler in place of its own. */
export async function answerOnLadder(
  ladder: RouteLadder,
  served: Served,
  question: Question,
  runs: { readonly whole: () => Promise<Outcome>; readonly partial: (instead: Operation) => Promise<Outcome> },
): Promise<Outcome> {
  const { operation, state, component, node } = served;
  const { degrade } = operation;
  const counts = (thrown: unknown) => statusOf(thrown) >= 500 && !question.signal?.aborted;
  let failed: unknown;
  const answers: Answers<Outcome> = { full: runs.whole };
  if (degrade?.stale && ladder.rules.ladder.includes("stale")) {
    const kept = state.stale(operation, degrade.stale);
    const key = JSON.stringify([question.scope, question.principal, question.tenant, question.target, question.variant]);
    Object.assign(answers, {
      full: async () => {
        const outcome = await runs.whole();
        if (outcome.kind === "answer") kept.keep(key, outcome);
        return outcome;
      },
      stale: () => kept.get(key),
    } satisfies Partial<Answers<Outcome>>);
  }
  if (degrade?.partial) {
    const { partial } = degrade;
    const mode = operation.mode === "read" ? "read" : "write";
    Object.assign(answers, { partial: () => runs.partial({ ...operation, handler: partial, rung: "partial", mode, consistent: false }) });
  }
  if (degrade && "static" in degrade)
    Object.assign(answers, {
      static: async (): Promise<Outcome> => {
        const answered = await settle(operation, degrade.static);
        return answered.kind === "response" ? { kind: "response", response: answered.response } : { kind: "answer", answer: wireOf(answered), replayed: false };
      },
    });
  const { value, rung } = await ladder.answer(answers, {
    counts,
    insteadOf: (thrown) => {
      failed = thrown;
      return operation.mode !== "durable" && counts(thrown) && (operation.mode === "read" || !mayHaveHappened(thrown));
    },
  });
  if (rung === "full") return value;
  if (failed !== undefined)
    node.log(component.name, { traceparent: undefined, tenant: question.tenant }).warn(`${operation.title} failed and was answered by its rung ${rung}`, {
      code: Fault.is(failed) ? failed.code : "service.fault",
      fault: String(failed),
    });
  // Nobody else counts what no handler has answered.
  if (rung !== "partial") node.observer.invoked(component.name, operation.name, "ok", 0, 0);
  return marked(value, rung);
}

function marked(outcome: Outcome, rung: Rung): Outcome {
  if (outcome.kind === "answer") return { ...outcome, answer: markedAnswer(outcome.answer, rung) };
  outcome.response.headers.set(degradedHeader, rung);
  return outcome;
}

export function markedAnswer(answer: StoredAnswer, rung: Rung): StoredAnswer {
  return { ...answer, headers: { ...answer.headers, [degradedHeader]: rung } };
}

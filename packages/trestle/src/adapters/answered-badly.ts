/** Answers over HTTP that speak against the other side: failures to a policy, and still answers to the caller when nothing better comes. */
import type { Clock } from "../kernel/index.ts";

/** RFC 9110, 9.2.2: asking twice is as asking once. */
export const idempotentMethods: ReadonlySet<string> = new Set(["GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"]);

/** Of a final answer: 5xx, 408, 425, 429. */
export function speaksAgainst(status: number): boolean {
  return status >= 500 || status === 408 || status === 425 || status === 429;
}

/** An answer, as a failure. `failureOf` reads its status, `retry` how long it asks to wait. */
export class AnsweredBadly<Answer> extends Error {
  readonly status: number;
  readonly retryAfterMs: number;
  readonly answer: Answer;

  constructor(answer: Answer, status: number, retryAfter: string | null | undefined, clock: Clock) {
    super(`answered ${status}`);
    this.status = status;
    this.retryAfterMs = status === 429 || status === 503 ? waitMs(retryAfter ?? "", clock) : 0;
    this.answer = answer;
  }
}

/** The answer that a call under a policy ended with: that of its last attempt, also where a gate or a budget did not allow another one. */
export function answerBehind<Answer>(thrown: unknown): Answer | undefined {
  const answered = [thrown, (thrown as { readonly cause?: unknown } | undefined)?.cause].find((error) => error instanceof AnsweredBadly);
  return answered?.answer as Answer | undefined;
}

/** RFC 9110, 10.2.3: seconds or a date. */
function waitMs(asked: string, clock: Clock): number {
  if (/^\d{1,9}$/.test(asked)) return Number(asked) * 1_000;
  const atMs = Date.parse(asked);
  return atMs > 0 ? Math.max(0, atMs - clock.wallMs()) : 0;
}

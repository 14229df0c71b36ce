/** Resilience: calls to what may fail, with a timeout, retries within a budget, a breaker and a bulkhead. */
export { backoffMs } from "./backoff.ts";
export type { Backoff } from "./backoff.ts";
export { breaker } from "./breaker.ts";
export type { Breaker, BreakerOptions, BreakerPass, BreakerState } from "./breaker.ts";
export { retryBudget } from "./budget.ts";
export type { RetryBudget, RetryBudgetOptions } from "./budget.ts";
export { bulkhead } from "./bulkhead.ts";
export type { Bulkhead, BulkheadCounts, BulkheadOptions } from "./bulkhead.ts";
export { callWith, retryAfterMs } from "./call.ts";
export type { CallDecisions, CallPolicy, RetryOptions } from "./call.ts";
export { declined, waits } from "./gate.ts";
export type { Answer, Caller, Gate } from "./gate.ts";
export { attemptWithin } from "./timeout.ts";
export type { Attempt, AttemptBounds } from "./timeout.ts";
export type { Waiter } from "./line-order.ts";
export type { DelayBounds } from "./standing-delay.ts";
export { WaitingLine } from "./waiting-line.ts";
export type { LineOptions, Order, Refusal } from "./waiting-line.ts";

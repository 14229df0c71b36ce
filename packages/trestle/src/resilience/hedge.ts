/**
 * Hedging: when an answer takes longer than it mostly does, the question is asked once more, of somebody else, and the first answer wins. Worth it for
 * questions, whose repetition does no harm, and within a budget: hedges of an overloaded service overload it more.
 * Sources: J. Dean and L. Barroso, "The Tail at Scale" (CACM 2013); Finagle's BackupRequestFilter (a live percentile as the delay, a budget without a floor).
 */
import { durationMs, Fault, followSignal, integerWithin, systemClock, type Clock, type Duration } from "../kernel/index.ts";
import { budget, type Budget } from "./budget.ts";
import { nested, runnerOf } from "./plan.ts";
import { Latencies } from "./latencies.ts";
import { policyOf, type InnerCall, type Policy, type Runner } from "./policy.ts";

export interface HedgeOptions {
  /**
   * How long a try has, from when it was let through the gates, before the next one starts: a duration, or a percentile of the latest answers (none is sent before there are 20 of those). Tries that lost are not among them: of
   * latencies with a long tail `p95` hedges up to one call in five, if the budget lets it.
   */
  readonly after: Duration | "p50" | "p90" | "p95" | "p99";
  /** All tries, the first included. 2 to 5; default 2. */
  readonly tries?: number;
  /** Default: of its own, 10 % of the calls and no floor. Share it with the retries of the same destination. */
  readonly budget?: Budget;
}

interface HedgeRule {
  /** Milliseconds, or `undefined`: by the quantile. */
  readonly afterMs: number | undefined;
  readonly quantile: number;
  readonly tries: number;
  readonly budget: Budget | undefined;
}

/** Which try of a hedge this is, for its operation: not an option for callers. */
interface HedgedCall extends InnerCall {
  readonly hedge: number;
}

/** Fault: none of its own. When every try fails the first failure of one that was let through the gates is thrown, else what declined the first. A call with `idempotent: false` is never hedged. */
export function hedge({ after, tries = 2, budget: shared }: HedgeOptions = {} as HedgeOptions): Policy {
  const quantile = /^p(50|90|95|99)$/.exec(after as string)?.[1];
  const rule: HedgeRule = {
    afterMs: quantile ? undefined : durationMs(after as Duration, "hedge.after"),
    quantile: Number(quantile) / 100,
    tries: integerWithin(tries, "hedge.tries", { least: 2, most: 5 }),
    budget: shared,
  };
  const around = (inner: Runner, clock: Clock) => hedged(rule, inner, clock);
  return policyOf({ kind: "hedge", declines: [], around, alone: () => nested(runnerOf({}), around(runnerOf({}), systemClock)) });
}

const enoughToKnow = 20;
const latest = 500;
const leastMs = 1;

/** What runs `inner` once, and again while it takes long. */
function hedged(rule: HedgeRule, inner: Runner, clock: Clock): Runner {
  const latencies = new Latencies(latest);
  const allowance = rule.budget ?? budget({ share: "10%", floor: false, burst: 5, clock });
  const delayMs = (): number | undefined =>
    rule.afterMs ?? (latencies.count < enoughToKnow ? undefined : Math.max(leastMs, latencies.quantileMs(rule.quantile) as number));
  return (operation, how = {}) => {
    if (!rule.budget) allowance.deposit(); // a shared one hears of the call from the retry
    if (how.idempotent === false) return inner(operation, how);
    return new Promise((resolve, reject) => {
      const tries: AbortController[] = [];
      let running = 0;
      let over = false;
      /** What was thrown first: by a try that was let through, and by one that was not. */
      let failure: unknown;
      let refusal: unknown;
      /** Try `by` is the answer; the others hear why they are not. */
      const decided = (by: number, reason: unknown) => {
        over = true;
        timer?.cancel();
        followed?.release();
        for (const [i, controller] of tries.entries()) if (i !== by) controller.abort(reason);
      };
      const launch = () => {
        const n = tries.length;
        const controller = new AbortController();
        tries.push(controller);
        running++;
        let begunMs: number | undefined;
        // One more would only wait behind a try that stands in a line itself.
        const begun: typeof operation = (attempt) => {
          if (begunMs === undefined) arm();
          begunMs ??= clock.monotonicMs();
          return operation(attempt);
        };
        const call: HedgedCall = { ...how, signal: controller.signal, within: undefined, hedge: n };
        inner(begun, call).then(
          (value) => {
            latencies.add(clock.monotonicMs() - (begunMs as number));
            if (over) return;
            decided(
              n,
              tries.length > 1
                ? Fault.create("hedge.lost", "another try of this hedge was answered first", "Stop the work when its signal aborts.")
                : undefined,
            );
            resolve(value);
          },
          (error: unknown) => {
            running--;
            // Those that lost are left out of what is usual: told as longer than this, a tenth that hang would make `p95` their time-out, and nothing would be hedged.
            if (over) return;
            // What an additional try found shut says nothing of the call: it was made.
            if (begunMs === undefined) refusal ??= error;
            else failure ??= error;
            if (running > 0) return; // another may still answer
            decided(n, error);
            reject((failure ?? refusal) as Error);
          },
        );
      };
      let timer: { cancel(): void } | undefined;
      const arm = () => {
        const ms = tries.length < rule.tries ? delayMs() : undefined;
        if (ms !== undefined) timer = clock.after(ms, () => void (!over && allowance.tryWithdraw() && launch()));
      };
      const outer = how.within ?? how.signal;
      const followed = outer
        ? followSignal(outer, {
            abort(reason) {
              if (over) return;
              decided(-1, reason);
              reject(reason as Error);
            },
          })
        : undefined;
      launch();
    });
  };
}

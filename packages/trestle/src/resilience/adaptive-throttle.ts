/**
 * Adaptive throttling on the side of the client: when the other side accepts less than it is asked, ask less, before the network and the other side pay for declining.
 *
 * Of late `requests` were made and `accepts` of them accepted. A call is declined with the probability `max(0, (requests - k x accepts) / (requests + 1))`. Requests are counted before they
 * are made, the declined ones as well: so the probability falls as soon as the other side accepts again, and does not settle at a half when it is well.
 * With `k` = 2 the other side still sees about twice of what it accepts, and so does this process see early that it is well again. An answer that speaks against nobody ("no such order") is an accept.
 * At most nine in ten are declined: without that, what accepted nothing for a while and is well again would see twice of almost nothing, and the calls that pass would double once in a window.
 * Source: Beyer et al., "Site Reliability Engineering" (2016), Handling Overload.
 */
import type { Clock, Duration, Random } from "../kernel/index.ts";
import { durationMs, Fault, integerWithin, numberWithin, systemClock, systemRandom } from "../kernel/index.ts";
import { declined } from "./gate.ts";
import type { Gate } from "./gate.ts";
import { gatePolicy } from "./passage.ts";
import type { Policy } from "./policy.ts";
import { TimeWindow } from "./rolling-window.ts";

export interface AdaptiveThrottleOptions {
  /** For faults. Default `throttle`. */
  readonly name?: string;
  /** How many requests are made for each that is accepted, before any is declined here. 1 to 100, default 2. */
  readonly k?: number;
  /** How far back it looks: between 90 % and 100 % of it. 100 ms to a day, default 30 s. */
  readonly window?: Duration;
  /** The most that are declined, as a part of the calls. 0 to 1, default 0.9. */
  readonly rejectionMost?: number;
  /** Declines nobody before so many requests are in the window. 0 to 1,000,000, default 20. */
  readonly minimumCalls?: number;
  readonly clock?: Clock;
  readonly random?: Random;
}

export interface AdaptiveThrottle extends Policy<"throttle.declined"> {
  readonly name: string;
  /** With which probability a call would be declined now. */
  readonly rejection: number;
  readonly declinedCalls: number;
}

/** Faults: `throttle.declined`, with what was counted and `details.retryAfterMs`; `option.out-of-range`. */
export function adaptiveThrottle(options: AdaptiveThrottleOptions = {}): AdaptiveThrottle {
  const { name = "throttle", clock = systemClock, random = systemRandom } = options;
  const k = numberWithin(options.k ?? 2, "throttle.k", { least: 1, most: 100 });
  const windowMs = numberWithin(durationMs(options.window ?? 30_000, "throttle.window"), "throttle.window", { least: 100, most: 86_400_000 });
  const minimumCalls = integerWithin(options.minimumCalls ?? 20, "throttle.minimumCalls", { least: 0, most: 1_000_000 });
  const rejectionMost = numberWithin(options.rejectionMost ?? 0.9, "throttle.rejectionMost", { least: 0, most: 1 });
  const [requests, accepts] = [new TimeWindow(windowMs), new TimeWindow(windowMs)];
  let declinedCalls = 0;
  const rejectionAt = (nowMs: number) => {
    requests.turn(nowMs);
    accepts.turn(nowMs);
    const { calls } = requests;
    return calls < minimumCalls ? 0 : Math.max(0, Math.min(rejectionMost, (calls - k * accepts.calls) / (calls + 1)));
  };

  const gate: Gate<"throttle.declined"> = {
    refused: "throttle.declined",
    enter(_caller, nowMs) {
      const probability = rejectionAt(nowMs);
      requests.add(nowMs, false, false);
      if (probability === 0 || random.next() >= probability) return 0;
      declinedCalls++;
      return declined;
    },
    answered(_caller, _token, answer) {
      if (answer === "well") accepts.add(clock.monotonicMs(), false, false);
    },
    fault(_caller, nowMs) {
      const rejection = rejectionAt(nowMs);
      const retryAfterMs = Math.ceil(windowMs / 10);
      return Fault.create(
        "throttle.declined",
        `${name}: of ${requests.calls} calls of late only ${accepts.calls} were accepted, so ${Math.round(100 * rejection)} % of the calls are declined here`,
        "Come back after details.retryAfterMs, do without the answer, or see why what is behind it accepts so few.",
        { details: { name, requests: requests.calls, accepts: accepts.calls, rejection, retryAfterMs } },
      );
    },
  };
  return Object.defineProperties(gatePolicy("adaptiveThrottle", gate, options.clock), {
    name: { value: name },
    rejection: { get: () => rejectionAt(clock.monotonicMs()) },
    declinedCalls: { get: () => declinedCalls },
  }) as AdaptiveThrottle;
}

/**
 * A limit that finds out by itself how many calls may run at once: as many as the other side works on, and hardly any that only wait in it.
 *
 * It looks at windows of at least 200 ms and five answers for each place, 12 to 50, and at three things in each:
 * - *Latency*: the 90th percentile against the one that was usual (`base`). By Little's law `limit x (1 - base / latency)` of the calls wait in the other side (Vegas, Brakmo and Peterson, 1994).
 *   Up to 1 + 8 % of the limit of them are wanted, so that it never runs dry; twice as many are too many.
 * - *Whether throughput follows*: the slope of log throughput over log calls in flight, with its standard error, over the windows of late; windows at another number of calls are forgotten sooner. 1: more calls get
 *   more done, so the latency is not ours, and becomes the new base. 0: more calls only wait. This is what keeps a limit from drifting up with a base that learns from overload. (Uber's Cinnamon
 *   and failsafe-go ask for a correlation in the same place; a slope with its error says how much, and whether that is known.)
 * - *How many were late*: calls that failed after at least half the usual latency. Those that failed sooner say nothing about load. One that timed out after more than the usual counts as having taken that long at least.
 *
 * Then, the first that holds:
 *   `late`    more than half were late                          → less by 30 %; once it is less than half of what it was, and where none at all was answered, by 10 %: what hangs tells nothing of how much it can take
 *   `back`    after that, four good answers and none late       → at once to what it was where none at all was answered before, else to half of that, and on as at the start
 *   `loop`    this process's own loop is full (95 %)            → less by 10 % if it stood for 100 ms, else no change
 *   `usual`   too many wait, and throughput follows             → no change; what is slow is the other side, and that is usual from now on. The next step upwards is 20 %
 *   `queue`   too many wait                                     → less by half of those, 10 % to 25 %; by 5 %, or half of the share that was late, while it is not known whether throughput follows
 *   `useless` throughput does not follow                        → less by 3 %, up to 12 % in long windows
 *   `more`    hardly any wait, or throughput follows            → more by a step that grows by a third each time from 2 % to 50 %, as at the start
 *   `probe`   none of these                                     → more by 2 %, to learn something
 * `back` looks at four answers and learns nothing from them: the first ones to come are those of the shortest calls. Calls that began before the first of them and are late tell of what is over
 * (as F-RTO does of TCP's spurious time-outs, RFC 5682).
 * The last three only when somebody had to wait or was declined: a limit that is not in use tells nothing. It never probes downwards. It is at most five times the most that were in flight, and sinks to that by 5 % a window.
 *
 * A window in which the process stood still for more than half of the latency (a long collection, a synchronous call), with its loop free otherwise, tells of the process and is thrown away, at most three in a row.
 */
import { integerWithin } from "../kernel/index.ts";
import type { LoopLoad } from "../kernel/index.ts";
import { Latencies } from "./latencies.ts";

export interface AdaptiveOptions {
  /** Never fewer. 1 to 1,000,000, default 1. */
  readonly least?: number;
  /** Never more. Default 1,000. */
  readonly most?: number;
  /** At the start. Default 10, or the bound that is nearer. */
  readonly first?: number;
  /** How busy this process has been since a moment of the monotonic clock. Default: the process's own loop where the clock is the system's, else nothing. */
  readonly loop?: (sinceMs: number) => LoopLoad;
  /** Told after every window that was judged. Must not throw. */
  readonly onWindow?: (window: JudgedWindow) => void;
}

export type Verdict = "late" | "back" | "loop" | "usual" | "queue" | "useless" | "more" | "probe" | "unused" | "stood-still";

export interface JudgedWindow {
  readonly verdict: Verdict;
  readonly limit: number;
  readonly before: number;
  readonly latencyMs: number;
  readonly baseMs: number;
  /** Calls that wait in the other side, by the latency. */
  readonly queued: number;
  /** How throughput follows calls in flight: 1 fully, 0 not at all; with its standard error, `Infinity` when that is not known. */
  readonly slope: number;
  readonly slopeError: number;
}

interface Window {
  readonly answers: number;
  readonly late: number;
  readonly inFlight: number;
  readonly peak: number;
  readonly wanted: boolean;
  readonly latencyMs: number;
}

const samplesMost = 50;
const samplesLeast = 12;
const windowMs = 200;
const lateSamplesLeast = 10;
const lateWindowMs = 500;
/** So many good answers, and none that was late, after calls were late. */
const backSamples = 4;

export class AdaptiveLimit {
  limit: number;
  readonly #least: number;
  readonly #most: number;
  readonly #loop: ((sinceMs: number) => LoopLoad) | undefined;
  readonly #onWindow: ((window: JudgedWindow) => void) | undefined;
  readonly #latencies = new Latencies();
  readonly #slope = new Slope();
  /** The limit with its fraction. */
  #exact: number;
  #recentMs = 0;
  #baseMs = 0;
  /** By what part it grows next. */
  #step = 0.5;
  /** What the limit was when calls began to be late; 0: they are not, or what is left is known to be less. */
  #beforeLate = 0;
  /** Calls were late, and in the last window none was answered. */
  #silent = false;
  /** When the first call began that was answered after that: those that began before and are late tell of what is over. */
  #backMs = -Infinity;
  #thrownAway = 0;
  // Of the window that is open; -1: none is.
  #sinceMs = -1;
  #answers = 0;
  #late = 0;
  #inFlight = 0;
  #peak = 0;
  #wanted = false;

  constructor(options: AdaptiveOptions = {}) {
    this.#least = integerWithin(options.least ?? 1, "running.least", { least: 1, most: 1_000_000 });
    this.#most = integerWithin(options.most ?? Math.max(1_000, this.#least), "running.most", { least: this.#least, most: 1_000_000 });
    const first = options.first ?? Math.min(this.#most, Math.max(this.#least, 10));
    this.limit = this.#exact = integerWithin(first, "running.first", { least: this.#least, most: this.#most });
    this.#loop = options.loop;
    this.#onWindow = options.onWindow;
  }

  /** A call begins: so many are in flight with it. */
  began(inFlight: number): void {
    if (inFlight > this.#peak) this.#peak = inFlight;
  }

  /** Somebody has to wait, or is declined. */
  wanted(): void {
    this.#wanted = true;
  }

  /** A call was answered, or its caller's time was over. `true`: the limit has changed. */
  answered(tookMs: number, well: boolean, inFlight: number, nowMs: number): boolean {
    if (!well && (tookMs < 0.5 * this.#baseMs || nowMs - tookMs < this.#backMs)) return false;
    if (this.#sinceMs < 0) this.#sinceMs = nowMs;
    if (well && this.#silent && this.#answers === this.#late) {
      this.#close(nowMs);
      this.#backMs = nowMs - tookMs;
    }
    this.#answers++;
    if (!well) this.#late++;
    this.#inFlight += inFlight;
    // One that gave up before the usual latency was over says that it took longer than it waited, which nobody doubted.
    if (well || tookMs >= this.#baseMs) this.#latencies.add(tookMs);
    if (this.#beforeLate > 0 && this.#late === 0 && this.#answers >= backSamples) return this.#back(nowMs);
    const forMs = nowMs - this.#sinceMs;
    const mostlyLate = this.#answers >= lateSamplesLeast && this.#late > 0.5 * this.#answers && forMs >= lateWindowMs;
    if (
      !mostlyLate &&
      (this.#answers < Math.min(samplesMost, Math.max(samplesLeast, 5 * this.limit)) || forMs < Math.max(windowMs, 2 * this.#latencies.leastMs))
    )
      return false;
    const before = this.limit;
    this.#judge(forMs, nowMs);
    return this.limit !== before;
  }

  #back(nowMs: number): boolean {
    const { limit } = this;
    this.#set(Math.max(this.#exact, (this.#silent ? 1 : 0.5) * this.#beforeLate));
    this.#beforeLate = 0;
    this.#silent = false;
    this.#step = 0.5;
    this.#close(nowMs);
    this.#tell("back", limit, 0);
    return this.limit !== limit;
  }

  #judge(forMs: number, nowMs: number): void {
    const limit = this.#exact;
    const window = this.#close(nowMs);
    const loop = this.#loop?.(nowMs - forMs);
    const isStall = loop !== undefined && loop.delayMsMax > Math.max(50, 0.5 * window.latencyMs) && loop.utilization < 0.9;
    if (isStall && ++this.#thrownAway <= 3) return this.#tell("stood-still", limit, 0);
    if (!isStall) this.#thrownAway = 0;

    const isJump = this.#recentMs > 0 && Math.abs(Math.log(window.latencyMs / this.#recentMs)) > Math.log(1.4);
    if (isJump) this.#slope.forget();
    this.#recentMs += (window.latencyMs - this.#recentMs) * (isJump || this.#recentMs === 0 ? 1 : Math.min(1, window.answers / 150));
    if (this.#baseMs === 0) this.#baseMs = this.#recentMs;
    this.#slope.add(Math.log(Math.max(1, window.inFlight / window.answers)), Math.log(Math.max(1e-3, ((window.answers - window.late) / forMs) * 1_000)));
    const queued = limit * (1 - this.#baseMs / this.#recentMs);
    const verdict = this.#verdict(window, queued, loop);
    this.#set(Math.min(this.#changed(verdict, queued, window, forMs, loop), Math.max(0.95 * limit, 5 * window.peak)));
    this.#learn(verdict, queued);
    this.#tell(verdict, limit, queued);
  }

  #set(exact: number): void {
    this.#exact = Math.max(this.#least, Math.min(this.#most, exact));
    this.limit = Math.floor(this.#exact + 1e-9);
  }

  #verdict(window: Window, queued: number, loop: LoopLoad | undefined): Verdict {
    const wantedQueue = 1 + 0.08 * this.#exact;
    if (window.late > 0.5 * window.answers) return "late";
    if (loop && loop.utilization > 0.95) return "loop";
    if (queued > 2 * wantedQueue) return this.#slope.follows ? "usual" : "queue";
    if (!window.wanted) return "unused";
    if (this.#slope.followsNot) return "useless";
    return queued < wantedQueue || this.#slope.follows ? "more" : "probe";
  }

  #changed(verdict: Verdict, queued: number, window: Window, forMs: number, loop: LoopLoad | undefined): number {
    const limit = this.#exact;
    const step = this.#step;
    if (verdict === "late") this.#beforeLate ||= limit;
    else if (verdict !== "unused") {
      this.#beforeLate = 0;
      this.#silent = false;
    }
    if (verdict !== "unused") this.#step = verdict === "late" ? 0.5 : verdict === "usual" ? 0.2 : 0.02;
    switch (verdict) {
      case "late":
        this.#slope.forget();
        this.#silent = window.late === window.answers;
        return Math.max(0.7 * limit, this.#silent ? Math.min(0.9 * limit, 0.5 * this.#beforeLate) : 0);
      case "loop":
        return loop && loop.delayMsMax > 100 ? 0.9 * limit : limit;
      case "queue":
        return (
          limit -
          (this.#slope.followsNot ? Math.min(0.25 * limit, Math.max(0.1 * limit, queued / 2)) : Math.max(0.05, (0.5 * window.late) / window.answers) * limit)
        );
      case "useless":
        return limit * (1 - 0.03 * Math.min(4, Math.max(1, forMs / windowMs)));
      case "more":
        this.#step = Math.min(0.5, 1.3 * step);
        return limit + Math.max(0.5, step * limit);
      case "probe":
        return 1.02 * limit;
      default:
        return limit;
    }
  }

  /** What is usual from now on. Down at once, up when the latency is not ours, else so slowly that the slope is known long before. */
  #learn(verdict: Verdict, queued: number): void {
    const part =
      this.#recentMs < this.#baseMs
        ? 0.5
        : verdict === "usual"
          ? 1
          : verdict === "more" && this.#slope.follows && queued > 0
            ? 0.2
            : verdict === "unused"
              ? 0.1
              : 0.01;
    this.#baseMs += (this.#recentMs - this.#baseMs) * part;
  }

  #close(nowMs: number): Window {
    const window = {
      answers: this.#answers,
      late: this.#late,
      inFlight: this.#inFlight,
      peak: this.#peak,
      wanted: this.#wanted,
      latencyMs: (this.#latencies.quantileMs(0.9) ?? this.#recentMs) || 1,
    };
    this.#latencies.clear();
    this.#answers = this.#late = this.#inFlight = this.#peak = 0;
    this.#wanted = false;
    this.#sinceMs = nowMs;
    return window;
  }

  #tell(verdict: Verdict, before: number, queued: number): void {
    this.#onWindow?.({
      verdict,
      limit: this.limit,
      before: Math.floor(before + 1e-9),
      latencyMs: this.#recentMs,
      baseMs: this.#baseMs,
      queued,
      slope: this.#slope.value,
      slopeError: this.#slope.error,
    });
  }
}

/** The slope of y over x by least squares, of points that are forgotten by and by, and sooner the farther x has moved since: what is wanted is the slope here. */
class Slope {
  value = Number.NaN;
  error = Infinity;
  #weight = 0;
  #meanX = 0;
  #meanY = 0;
  #xx = 0;
  #xy = 0;
  #yy = 0;
  #lastX = 0;

  /** Surely more than a half. */
  get follows(): boolean {
    return this.value - this.error > 0.5;
  }
  /** Surely less than a half. */
  get followsNot(): boolean {
    return this.value + this.error < 0.5;
  }

  forget(): void {
    this.#weight = 0;
  }

  add(x: number, y: number): void {
    const keep = 0.85 ** (1 + Math.abs(x - this.#lastX) / 0.1);
    this.#lastX = x;
    this.#weight = this.#weight * keep + 1;
    if (this.#weight === 1) {
      this.#meanX = this.#meanY = 0;
      this.#xx = this.#xy = this.#yy = 0;
    }
    const [dx, dy] = [x - this.#meanX, y - this.#meanY];
    this.#meanX += dx / this.#weight;
    this.#meanY += dy / this.#weight;
    if (this.#weight > 1) {
      this.#xx = this.#xx * keep + dx * (x - this.#meanX);
      this.#xy = this.#xy * keep + dx * (y - this.#meanY);
      this.#yy = this.#yy * keep + dy * (y - this.#meanY);
    }
    this.value = this.#xx > 0 ? this.#xy / this.#xx : Number.NaN;
    const freedom = this.#weight - 2;
    this.error = this.#xx > 0 && freedom > 0.5 ? Math.sqrt(Math.max(1e-9, this.#yy - this.value * this.#xy) / freedom / this.#xx) : Infinity;
  }
}

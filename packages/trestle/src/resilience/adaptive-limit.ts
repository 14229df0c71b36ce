/**
 * A limit that finds out by itself how many calls may run at once: as many as the other side works on, and hardly any that only wait in it.
 *
 * It looks at windows of at least 200 ms, two of the shortest latencies, and five answers for each place, 12 to 50; or of 10 answers in 500 ms where most are late. In each it looks at four things:
 * - *Latency*: the 90th percentile against the one that was usual (`base`). By Little's law `limit x (1 - base / latency)` of the calls wait in the other side (Vegas, Brakmo and Peterson, 1994).
 *   Up to 1 + 8 % of the limit of them are wanted, so that it never runs dry; twice as many are too many.
 * - *How many go unanswered*: those that failed, and of the others the share that goes on for longer than any caller waited. Callers who had little time left when their turn came say little about that, so it is estimated as Kaplan and Meier do (latencies.ts). What failed or was cut off before half the usual latency says nothing about load.
 * - *Whether throughput follows*: the slope of log throughput over log calls in flight, with the error that its scatter shows, over the windows of late; windows at another number of calls are
 *   forgotten sooner. 1: more calls get more done. 0: more calls only wait. (Uber's Cinnamon and failsafe-go ask for a correlation in the same place; a slope with its error says how much, and whether that is known.)
 * - *Whether latency follows*: the slope of the average log latency of an answer over log calls in flight. 1: more calls only wait. 0: the latency is not theirs, and becomes the new base. What one window's latencies scatter says how sure its average is, so that two windows can be enough, where throughput takes five; calls share the other side's moments, and are counted as half as many.
 *   These two are what keeps a limit from drifting up with a base that learns from overload. "Follows" and "does not" below mean: by one standard error.
 *
 * When the latency is 1.4 times what it was of late, or less than that part of it, the slopes are forgotten. If it is more, 1.3 times on average too, no 1.5 times as many callers come, and the limit has not grown by a tenth in the last three windows, then the other side has changed, and the limit *asks*, until a slope is known, latency jumps again or it would be more than four times what it was.
 *
 * Then, the first that holds:
 *   `late`    more than half go unanswered                      → less by 80 % of those that wait, 30 % to 70 %; where none at all was answered, by half to half of what it was, then by 10 %: what hangs tells nothing of how much it can take
 *   `back`    after that, four good answers and none late       → at once to what it was where none at all was answered before, else to half of that, and on as at the start. What it was counts as half if it had just grown to it
 *   `loop`    this process's own loop is full (95 %)            → less by 10 % if it stood for 100 ms, else no change
 *   `usual`   too many wait, latency does not follow, and throughput does or the limit asks
 *                                                               → no change; what is slow is the other side, and that is usual from now on (three times the base at most in one window). The next step upwards is 20 %
 *   `ask`     too many wait, it asks, and at most 3 % go unanswered → more by 25 %: hardly anybody is harmed yet, and either the latency follows now, or what is slow gets what it needs
 *   `queue`   too many wait                                     → less by half of those, 10 % to 25 %, if throughput does not follow or latency does; from what it was before it asked. While that is not known by 5 %, or, where more than a tenth go unanswered, by 60 % of those that wait, at most 60 %
 *   `useless` throughput does not follow                        → less by 3 %, up to 12 % in long windows. The next step upwards is 5 %
 *   `more`    hardly any wait, or throughput follows            → more by a step that grows by a third each time from 2 % to 50 %, as at the start
 *   `probe`   none of these                                     → more by 2 %, to learn something
 * `back` looks at four answers and learns nothing from them: the first ones to come are those of the shortest calls. Calls that began before the first of them and are late tell of what is over (as F-RTO does of TCP's spurious time-outs, RFC 5682).
 * `ask` and the last three only when somebody had to wait or was declined: a limit that is not in use tells nothing. It never probes downwards. It is at most five times the most that were in flight, and sinks to that by 5 % a window.
 *
 * Before a window is judged, of each two calls that are late one after the other (of answers that come between, each makes up for one) only one's place is taken again, down to half of the places: a system that hangs or has become small is not sent a second batch while it is found out that the first one is lost.
 *
 * Calls that were given up and do not end hold their places. It does not sink to as many as those were throughout a window: nobody would enter any more, nothing be answered, and it never move again.
 *
 * A window in which the process stood still for more than half of the latency (a long collection, a synchronous call), with its loop free otherwise, tells of the process and is thrown away, at most three in a row.
 */
import { integerWithin } from "../kernel/index.ts";
import type { LoopLoad } from "../kernel/index.ts";
import { Latencies } from "./latencies.ts";
import { Slope } from "./slope.ts";

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

/** How a call ended, or did not. `failed`: in a way that speaks against the other side. */
export type Answered = "well" | "failed" | "cut";

export type Verdict = "late" | "back" | "loop" | "usual" | "ask" | "queue" | "useless" | "more" | "probe" | "unused" | "stood-still";

export interface JudgedWindow {
  readonly verdict: Verdict;
  readonly limit: number;
  readonly before: number;
  readonly latencyMs: number;
  readonly baseMs: number;
  /** Calls that wait in the other side, by the latency. */
  readonly queued: number;
  /** The share of the calls that failed or goes on for longer than anybody waited, 0 to 1. */
  readonly unanswered: number;
  /** How throughput follows calls in flight: 1 fully, 0 not at all; with its standard error, `Infinity` when that is not known. */
  readonly slope: number;
  readonly slopeError: number;
  /** How latency follows calls in flight: 1, more of them only wait; 0, it is not theirs. */
  readonly latencySlope: number;
  readonly latencySlopeError: number;
}

interface Window {
  readonly answers: number;
  readonly late: number;
  readonly inFlight: number;
  readonly peak: number;
  readonly wanted: boolean;
  readonly came: number;
  readonly stuck: number;
  readonly latencyMs: number;
  readonly unanswered: number;
  readonly logMean: number;
  readonly logVariance: number;
}

const samplesMost = 50;
const samplesLeast = 12;
const windowMs = 200;
const lateSamplesLeast = 10;
const lateWindowMs = 500;
/** So many good answers, and none that was late, after calls were late. */
const backSamples = 4;
/** So many times as long all at once, by the 90th percentile and by the average. */
const jumpLatency = 1.4;
const jumpAverage = 1.3;
/** So many times as many callers are another load. */
const moreCallers = 1.5;
/** Where no more than this go unanswered, hardly anybody is harmed. */
const hardlyAny = 0.03;
/** Where it is so many times what it was, it does not ask for more: what takes three times as long needs as many times the places, and of latency that grows with the root of the calls neither slope is ever known. */
const asksUpTo = 3.2;
/** The first step upwards after these, as a part of the limit; after the others 2 %. What was given up because it seemed of no use is soon there again, if it was of use. */
const firstStep: Partial<Record<Verdict, number>> = { late: 0.5, usual: 0.2, useless: 0.05 };
/** How much of a longer latency is usual from then on; after the others 1 %. */
const learnt: Partial<Record<Verdict, number>> = { usual: 1, unused: 0.1 };

export class AdaptiveLimit {
  limit: number;
  readonly #least: number;
  readonly #most: number;
  readonly #loop: ((sinceMs: number) => LoopLoad) | undefined;
  readonly #onWindow: ((window: JudgedWindow) => void) | undefined;
  readonly #latencies = new Latencies();
  /** How throughput and latency follow calls in flight. */
  readonly #throughput = new Slope();
  readonly #latency = new Slope();
  /** The limit with its fraction. */
  #exact: number;
  #recentMs = 0;
  #recentLog = 0;
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
  /** Calls take longer all at once, though no more of them come: it is not known yet whether fewer would be quicker. */
  #asks = false;
  /** What the limit was when it began to ask; 0: it does not. */
  #askedFrom = 0;
  /** Callers in a millisecond, over the last some windows. */
  #callersPerMs = 0;
  /** Windows since it grew by more than a tenth. */
  #sinceGrown = Infinity;
  // Of the window that is open; -1: none is.
  #sinceMs = -1;
  #answers = 0;
  #late = 0;
  #failed = 0;
  /** As of the last answer, and the fewest since the window was opened: those that end by and by, as what heeds its signal does, are not among them. */
  #givenUp = 0;
  #stuck = Infinity;
  /** Late ones, less the good ones that came between them, since the last window was judged. */
  #lateInARow = 0;
  #inFlight = 0;
  #peak = 0;
  #wanted = false;
  #came = 0;

  constructor(options: AdaptiveOptions = {}) {
    this.#least = integerWithin(options.least ?? 1, "running.least", { least: 1, most: 1_000_000 });
    this.#most = integerWithin(options.most ?? Math.max(1_000, this.#least), "running.most", { least: this.#least, most: 1_000_000 });
    const first = options.first ?? Math.min(this.#most, Math.max(this.#least, 10));
    this.limit = this.#exact = integerWithin(first, "running.first", { least: this.#least, most: this.#most });
    this.#loop = options.loop;
    this.#onWindow = options.onWindow;
  }

  /** A call begins: so many are in flight with it. `waited`: its caller was told of as one that has to wait. */
  began(inFlight: number, waited = false): void {
    if (!waited) this.#came++;
    if (inFlight > this.#peak) this.#peak = inFlight;
  }

  /** Somebody has to wait, or is declined. */
  wanted(): void {
    this.#wanted = true;
    this.#came++;
  }

  /**
   * A call was answered, or `cut`: its caller's time was over, or it went away, and nobody knows how long it would have taken. `givenUp`: calls in flight, but for this one, of which the
   * same was told before and which have not ended. `true`: the limit has changed.
   */
  answered(tookMs: number, how: Answered, inFlight: number, nowMs: number, givenUp = 0): boolean {
    const well = how === "well";
    if (!well && (tookMs < 0.5 * this.#baseMs || nowMs - tookMs < this.#backMs)) return false;
    if (this.#sinceMs < 0) this.#sinceMs = nowMs;
    if (well && this.#silent && this.#answers === this.#late) {
      this.#close(nowMs);
      this.#backMs = nowMs - tookMs;
    }
    this.#answers++;
    if (!well) this.#late++;
    if (how === "failed") this.#failed++;
    else this.#latencies.add(tookMs, well);
    this.#inFlight += inFlight;
    const before = this.limit;
    this.#givenUp = givenUp;
    this.#stuck = Math.min(this.#stuck, givenUp);
    this.#lateInARow = well ? Math.max(0, this.#lateInARow - 1) : this.#lateInARow + 1;
    this.#set(this.#exact);
    if (this.#beforeLate > 0 && this.#late === 0 && this.#answers >= backSamples) {
      this.#back(nowMs);
      return this.limit !== before;
    }
    const forMs = nowMs - this.#sinceMs;
    const mostlyLate = this.#answers >= lateSamplesLeast && this.#late > 0.5 * this.#answers && forMs >= lateWindowMs;
    if (
      !mostlyLate &&
      (this.#answers < Math.min(samplesMost, Math.max(samplesLeast, 5 * this.limit)) || forMs < Math.max(windowMs, 2 * this.#latencies.leastMs))
    )
      return this.limit !== before;
    this.#lateInARow = 0;
    this.#judge(forMs, nowMs);
    return this.limit !== before;
  }

  #back(nowMs: number): void {
    const { limit } = this;
    this.#lateInARow = 0;
    this.#set(Math.max(this.#exact, (this.#silent ? 1 : 0.5) * this.#beforeLate));
    this.#beforeLate = 0;
    this.#silent = false;
    this.#step = 0.5;
    this.#close(nowMs);
    this.#tell("back", limit, 0);
  }

  #judge(forMs: number, nowMs: number): void {
    const limit = this.#exact;
    const window = this.#close(nowMs);
    const loop = this.#loop?.(nowMs - forMs);
    const isStall = loop !== undefined && loop.delayMsMax > Math.max(50, 0.5 * window.latencyMs) && loop.utilization < 0.9;
    if (isStall && ++this.#thrownAway <= 3) {
      this.#came += window.came; // all at once, when it was over
      return this.#tell("stood-still", limit, 0);
    }
    if (!isStall) this.#thrownAway = 0;

    const begins = this.#jumped(window, forMs);
    if (this.#baseMs === 0) this.#baseMs = this.#recentMs;
    const inFlight = Math.log(Math.max(1, window.inFlight / window.answers));
    this.#throughput.add(inFlight, Math.log(Math.max(1e-3, ((window.answers - window.late) / forMs) * 1_000)));
    if (!begins) {
      const answered = Math.max(0.5 / window.answers, 1 - window.unanswered);
      this.#latency.add(inFlight, window.logMean - Math.log(answered), (2 * window.logVariance + (1 - answered) / answered) / window.answers);
    }
    const queued = limit * (1 - this.#baseMs / this.#recentMs);
    const verdict = this.#verdict(window, queued, loop);
    const least = Math.min(limit, window.stuck + 1);
    this.#set(Math.max(least, Math.min(this.#changed(verdict, queued, window, forMs, loop), Math.max(0.95 * limit, 5 * window.peak))));
    this.#sinceGrown = this.#exact > 1.1 * limit ? 0 : this.#sinceGrown + 1;
    this.#learn(verdict, queued);
    this.#tell(verdict, limit, queued, window.unanswered);
  }

  /** Takes the window's latency for the recent one. Whether the limit begins to ask now: then the window has both in it, what was and what is. */
  #jumped(window: Window, forMs: number): boolean {
    const part = Math.min(1, window.answers / 150);
    const moved = this.#recentMs === 0 ? 0 : Math.log(window.latencyMs / this.#recentMs);
    const movedOnAverage = window.logMean - this.#recentLog;
    const isJump = this.#recentMs === 0 || Math.abs(moved) > Math.log(jumpLatency);
    this.#recentMs += (window.latencyMs - this.#recentMs) * (isJump ? 1 : part);
    this.#recentLog += movedOnAverage * (isJump ? 1 : part);
    const callersPerMs = window.came / forMs;
    const isLoad = callersPerMs > moreCallers * this.#callersPerMs;
    this.#callersPerMs += (callersPerMs - this.#callersPerMs) * (this.#callersPerMs === 0 ? 1 : 0.2);
    if (!isJump || moved === 0) return false;
    if (this.#asks && movedOnAverage > 0) {
      this.#asks = false; // by what it asked
      return false;
    }
    this.#throughput.forget();
    if (!isLoad || movedOnAverage < 0) this.#latency.forget();
    this.#asks = movedOnAverage > Math.log(jumpAverage) && !isLoad && !this.#hasJustGrown;
    return this.#asks;
  }

  /** Then what calls come to may be its own doing. */
  get #hasJustGrown(): boolean {
    return this.#sinceGrown < 3;
  }

  #set(exact: number): void {
    this.#exact = Math.max(this.#least, Math.min(this.#most, exact));
    const half = Math.min(this.#exact, 0.5 * (this.#beforeLate || this.#exact));
    const held = Math.min(this.#exact, this.#givenUp + 1);
    this.limit = Math.floor(Math.max(this.#least, half, held, this.#exact - 0.5 * this.#lateInARow) + 1e-9);
  }

  #verdict(window: Window, queued: number, loop: LoopLoad | undefined): Verdict {
    const wantedQueue = 1 + 0.08 * this.#exact;
    if (window.unanswered > 0.5) return "late";
    if (loop && loop.utilization > 0.95) return "loop";
    if (queued > 2 * wantedQueue) {
      const asks = this.#asks && window.unanswered <= hardlyAny;
      if (this.#latency.isFlat && (asks || this.#throughput.isSteep)) return "usual";
      if (this.#exact > asksUpTo * (this.#askedFrom || this.#exact)) this.#asks = false; // in vain
      return asks && this.#asks && window.wanted && !this.#onlyWait ? "ask" : "queue";
    }
    if (!window.wanted) return "unused";
    if (this.#throughput.isFlat) return "useless";
    return queued < wantedQueue || this.#throughput.isSteep ? "more" : "probe";
  }

  /** Surely. */
  get #onlyWait(): boolean {
    return this.#throughput.isFlat || this.#latency.isSteep;
  }

  #changed(verdict: Verdict, queued: number, window: Window, forMs: number, loop: LoopLoad | undefined): number {
    const limit = this.#exact;
    const step = this.#step;
    if (verdict === "late") this.#beforeLate ||= this.#hasJustGrown ? 0.5 * limit : limit;
    else if (verdict !== "unused") {
      this.#beforeLate = 0;
      this.#silent = false;
    }
    if (verdict !== "unused") this.#step = firstStep[verdict] ?? 0.02;
    if (verdict !== "ask" && verdict !== "queue") this.#asks = false;
    const asked = this.#askedFrom;
    this.#askedFrom = 0;
    switch (verdict) {
      case "late":
        this.#throughput.forget();
        this.#silent = window.late === window.answers;
        return this.#silent
          ? Math.max(0.5 * limit, Math.min(0.9 * limit, 0.5 * this.#beforeLate))
          : Math.min(0.7 * limit, Math.max(0.3 * limit, limit - 0.8 * queued));
      case "ask":
        this.#askedFrom = asked || limit;
        return 1.25 * limit;
      case "loop":
        return loop && loop.delayMsMax > 100 ? 0.9 * limit : limit;
      case "queue":
        if (this.#onlyWait || (asked > 0 && !this.#asks)) {
          const from = Math.min(limit, asked || limit);
          return from - Math.min(0.25 * from, Math.max(0.1 * from, (0.5 * queued * from) / limit));
        }
        this.#askedFrom = asked;
        return limit - Math.max(0.05 * limit, window.unanswered > 0.1 ? Math.min(0.6 * limit, 0.6 * queued) : 0);
      case "useless":
        return limit * (1 - 0.03 * Math.min(4, forMs / windowMs));
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
    const usually = verdict === "more" && this.#throughput.isSteep && queued > 0 ? 0.2 : (learnt[verdict] ?? 0.01);
    const part = this.#recentMs < this.#baseMs ? 0.5 : usually;
    this.#baseMs = Math.min(3 * this.#baseMs, this.#baseMs + (this.#recentMs - this.#baseMs) * part);
  }

  #close(nowMs: number): Window {
    const seen = this.#latencies.estimate(0.9);
    const window = {
      answers: this.#answers,
      late: this.#late,
      inFlight: this.#inFlight,
      peak: this.#peak,
      wanted: this.#wanted,
      came: this.#came,
      latencyMs: (seen?.quantileMs ?? this.#recentMs) || 1,
      unanswered: 1 - ((1 - (seen?.unended ?? 0)) * (this.#answers - this.#failed)) / Math.max(1, this.#answers),
      stuck: this.#stuck,
      logMean: seen?.logMean ?? this.#recentLog,
      logVariance: seen?.logVariance ?? 1,
    };
    this.#latencies.clear();
    this.#stuck = Infinity;
    this.#answers = this.#late = this.#failed = this.#inFlight = this.#peak = this.#came = 0;
    this.#wanted = false;
    this.#sinceMs = nowMs;
    return window;
  }

  #tell(verdict: Verdict, before: number, queued: number, unanswered = 0): void {
    this.#onWindow?.({
      verdict,
      limit: this.limit,
      before: Math.floor(before + 1e-9),
      latencyMs: this.#recentMs,
      baseMs: this.#baseMs,
      queued,
      unanswered,
      slope: this.#throughput.value,
      slopeError: this.#throughput.error,
      latencySlope: this.#latency.value,
      latencySlopeError: this.#latency.error,
    });
  }
}

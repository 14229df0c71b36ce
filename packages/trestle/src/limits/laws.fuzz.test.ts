/** The laws over random schedules: what each promises of any window, counted afterwards. `SEED=n` replays one. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { seededRandom, type Random } from "../kernel/index.ts";
import { rateLimit, slidingCounter, slidingLog, type RateLimit } from "./index.ts";

const seed = process.env["SEED"] ?? "limits-1";
const replay = `SEED=${seed} npm test -- limits/laws.fuzz`;

interface Admitted {
  readonly atMs: number;
  readonly cost: number;
}

const oneOf = <T>(random: Random, values: readonly T[]): T => values[random.uint32() % values.length] as T;

/** Calls at moments that a clock could show, some in bursts, some after long waits, some exactly when a refusal said; jumps go forward, as a paused machine's clock does. */
function drive(limit: RateLimit, random: Random, costMax: number, calls: number): Admitted[] {
  const admitted: Admitted[] = [];
  let nowMs = random.next() * 10 ** (6 + (random.uint32() % 6)); // up for three years
  let latestMs = nowMs;
  let gapMs = limit.windowMs / limit.limit;
  for (let nth = 0; nth < calls; nth++) {
    if (random.next() < 0.05) gapMs = (limit.windowMs / limit.limit) * oneOf(random, [0, 0.01, 0.5, 1, 1, 2, 10, limit.limit]);
    if (random.next() < 0.01) nowMs += limit.windowMs * random.next() * 3;
    nowMs += gapMs * (random.next() < 0.5 ? 1 : 2 * random.next());
    const cost = random.next() < 0.7 ? 1 : 1 + (random.uint32() % costMax);
    const before = admitted.length > 0 && random.next() < 0.02; // a time that goes back counts as the latest
    if (before) nowMs = latestMs;
    const waitMs = limit.take("key", cost, before ? nowMs - random.next() * limit.windowMs : nowMs);
    latestMs = nowMs;
    if (waitMs === 0) admitted.push({ atMs: nowMs, cost });
    else if (random.next() < 0.3) {
      latestMs = nowMs += waitMs;
      assert.equal(limit.take("key", cost, nowMs), 0, `refused after the wait it was told, call ${nth}; ${replay}`);
      admitted.push({ atMs: nowMs, cost });
    }
  }
  return admitted;
}

/** The most that was admitted within any window of this length; a window has its beginning and not its end. */
function mostWithin(admitted: readonly Admitted[], windowMs: number): number {
  let first = 0;
  let sum = 0;
  let most = 0;
  for (const { atMs, cost } of admitted) {
    sum += cost;
    // A microsecond: two sums of the same moments may differ behind the point.
    for (; (admitted[first] as Admitted).atMs <= atMs - windowMs + 1e-3; first++) sum -= (admitted[first] as Admitted).cost;
    most = Math.max(most, sum);
  }
  return most;
}

test("[RES-08] a bucket never admits more than burst + rate * t in any time t: 10,000 schedules", () => {
  const random = seededRandom(seed);
  let checked = 0;
  for (let nth = 0; nth < 10_000; nth++) {
    const perSecond = oneOf(random, [0.05, 0.3, 1, 7, 100, 1_000 / 3, 12_345]);
    const burst = oneOf(random, [1, 2, 5, 20, 1_000]);
    const limit = rateLimit({ rate: `${perSecond}/s`, burst, clock: frozen, keys: 100, random });
    const admitted = drive(limit, random, Math.min(burst, 7), 100);
    for (let from = 0; from < admitted.length; from++) {
      let sum = 0;
      for (let to = from; to < admitted.length; to++) {
        sum += (admitted[to] as Admitted).cost;
        const allowed = burst + (((admitted[to] as Admitted).atMs - (admitted[from] as Admitted).atMs) * perSecond) / 1_000;
        // Of a token: the limit's slack, and what subtracting two moments is off by.
        if (sum > allowed + 2e-6 + ((admitted[to] as Admitted).atMs * 2 ** -48 * perSecond) / 1_000)
          assert.fail(`${sum} admitted, ${allowed} allowed at ${perSecond}/s, burst ${burst}, schedule ${nth}; ${replay}`);
        checked++;
      }
    }
  }
  assert.ok(checked > 1e6, `${checked} windows were looked at`);
});

test("[RES-08] whoever keeps to the rate is never refused, whatever the rate and however long the machine has been up", () => {
  const random = seededRandom(seed);
  for (let nth = 0; nth < 2_000; nth++) {
    const perSecond = oneOf(random, [0.000_1, 1 / 3, 1, 7, 100, 1_000 / 3, 65_537.7]);
    const limit = rateLimit({ rate: `${perSecond.toFixed(9)}/s` as "1/s", burst: 1, clock: frozen, keys: 100, random });
    const everyMs = 1_000 / Number(perSecond.toFixed(9));
    const startMs = random.next() * 10 ** (random.uint32() % 11);
    for (let call = 0; call < 200; call++)
      assert.equal(limit.take("steady", 1, startMs + call * everyMs), 0, `refused call ${call} from ${startMs} ms at ${perSecond}/s; ${replay}`);
  }
});

test("[RES-09] a sliding log never has more than its limit in any window: 10,000 schedules", () => {
  const random = seededRandom(seed);
  for (let nth = 0; nth < 10_000; nth++) {
    const limit = oneOf(random, [1, 2, 5, 20, 100]);
    const windowMs = oneOf(random, [1, 100, 1_000, 60_000]);
    const admitted = drive(slidingLog({ limit, window: windowMs, clock: frozen, keys: 10, random }), random, Math.min(limit, 7), 100);
    assert.ok(mostWithin(admitted, windowMs) <= limit, `${mostWithin(admitted, windowMs)} of ${limit} within ${windowMs} ms, schedule ${nth}; ${replay}`);
  }
});

test("[RES-09] a sliding counter never has twice its limit in any window: 10,000 schedules", () => {
  const random = seededRandom(seed);
  let most = 0;
  for (let nth = 0; nth < 10_000; nth++) {
    const limit = oneOf(random, [1, 2, 5, 20, 100]);
    const windowMs = oneOf(random, [1, 100, 1_000, 60_000]);
    const admitted = drive(slidingCounter({ limit, window: windowMs, clock: frozen, keys: 10, random }), random, Math.min(limit, 7), 100);
    const share = mostWithin(admitted, windowMs) / limit;
    most = Math.max(most, share);
    assert.ok(share < 2 || limit === 1, `${share} times its limit of ${limit} within ${windowMs} ms, schedule ${nth}; ${replay}`);
  }
  assert.ok(most > 1.2, "the schedules are too tame to show that it is an estimate");
});

test("[RES-09] at the boundary of a window a fixed window admits twice its limit, a sliding log never more than it", () => {
  const limit = 100;
  const windowMs = 1_000;
  const fixed = fixedWindow(limit, windowMs);
  const log = slidingLog({ limit, window: windowMs, clock: frozen });
  const [byFixed, byLog]: [Admitted[], Admitted[]] = [[], []];

  for (const atMs of [...Array<number>(150).fill(windowMs - 1), ...Array<number>(150).fill(windowMs)]) {
    if (fixed(atMs)) byFixed.push({ atMs, cost: 1 });
    if (log.take("key", 1, atMs) === 0) byLog.push({ atMs, cost: 1 });
  }

  assert.equal(mostWithin(byFixed, windowMs), 2 * limit);
  assert.equal(mostWithin(byLog, windowMs), limit);
});

test("[RES-09] on a replayed trace of a million calls a sliding counter lets in as many as the log to 1 in 100, and 1 in 1,000 of them into a window that has a tenth too many", () => {
  const random = seededRandom(seed);
  const [limit, windowMs, keys] = [50, 10_000, 1_000];
  const counter = slidingCounter({ limit, window: windowMs, clock: frozen, random });
  const log = slidingLog({ limit, window: windowMs, clock: frozen, random });
  const admitted = Array.from({ length: keys }, () => [] as number[]); // by the counter
  const until = new Float64Array(keys); // bursts
  let [nowMs, byCounter, byLog, over] = [0, 0, 0, 0];

  for (let nth = 0; nth < 1_000_000; nth++) {
    nowMs += -Math.log(1 - random.next()) * 0.5;
    // A few keys ask most (Zipf's law), and any may burst.
    let of = Math.floor(keys ** random.next()) - 1;
    if (random.next() < 0.000_5) until[of] = nowMs + 2_000 * random.next();
    const bursting = Math.floor(random.next() * keys);
    if ((until[bursting] as number) > nowMs) of = bursting;
    if (log.take(`key ${of}`, 1, nowMs) === 0) byLog++;
    if (counter.take(`key ${of}`, 1, nowMs) > 0) continue;
    byCounter++;
    const within = admitted[of] as number[];
    within.push(nowMs);
    while ((within[0] as number) <= nowMs - windowMs) within.shift();
    if (within.length > limit * 1.1) over++;
  }

  assert.ok(byLog < 900_000 && byLog > 100_000, `the log let in ${byLog} of a million: too tame or too wild`);
  assert.ok(Math.abs(byCounter / byLog - 1) < 0.01, `${byCounter} were let in, ${byLog} by the exact law; ${replay}`);
  assert.ok(over / byCounter < 0.001, `${over} of ${byCounter} were let in though more than ${limit * 1.1} lay in their window; ${replay}`);
  assert.ok(over > 0, "the trace is too tame to show that it is an estimate");
});

const frozen = { wallMs: () => 0, monotonicMs: () => 0, after: () => ({ cancel: () => undefined }), soon: () => undefined };

/** What most libraries do, as a control. */
function fixedWindow(limit: number, windowMs: number): (atMs: number) => boolean {
  let [window, count] = [-1, 0];
  return (atMs) => {
    const current = Math.floor(atMs / windowMs);
    if (current !== window) [window, count] = [current, 0];
    return count++ < limit;
  };
}

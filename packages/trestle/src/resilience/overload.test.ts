/**
 * Overload, rehearsed in discrete events (testing/load.ts): each with the same load on other bulkheads beside it, the controls, and the best fixed limit that a sweep finds.
 * `SEED=…` repeats a failure.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { seededRandom } from "../kernel/index.ts";
import { bulkhead, type Bulkhead, type BulkheadOptions } from "./index.ts";
import { load, quantile, type LoadOptions, type Tally } from "./testing/load.ts";
import { gateOf } from "./testing/passes.ts";

const seed = process.env["SEED"] ?? "overload-1";
const knee = 40;
const serviceMs = 40; // so 1,000 calls a second are what it can do
const usual = { seed, forMs: 40_000, knee, serviceMs } as const;
const warmSeconds = 5;

function run(options: Omit<LoadOptions, "seed"> & { readonly seed?: string }, running: BulkheadOptions["running"], more: Partial<BulkheadOptions> = {}) {
  let gate: Bulkhead | undefined;
  const result = load({ seed, ...options }, (clock) => {
    const adaptive = typeof running === "number" ? running : { loop: clock.loop, ...(typeof running === "object" && running) };
    gate = bulkhead({
      clock,
      random: seededRandom(`${options.seed ?? seed} gate`),
      running: adaptive,
      ...(typeof running === "number" && { waiting: { from: 2 * running, most: 3 * running }, codel: true }),
      ...more,
    });
    return gateOf(gate);
  });
  return { ...result, gate: gate as Bulkhead };
}

/** Served in the seconds from `from` on, after the limit has found its place. */
const goodput = (tally: Tally, from = warmSeconds, until = Infinity): number => tally.servedIn.slice(from, until).reduce((sum, count) => sum + (count ?? 0), 0);

/** The most that any fixed limit serves. */
function bestFixed(options: Omit<LoadOptions, "seed">, around = knee): { readonly served: number; readonly running: number } {
  const tried = [0.3, 0.5, 0.7, 0.85, 1, 1.15, 1.4, 2, 2.6, 3.2].map((part) => {
    const running = Math.round(part * around);
    return { running, served: goodput(run(options, running).total) };
  });
  return tried.reduce((best, one) => (one.served > best.served ? one : best));
}

const scenarios: Readonly<Record<string, Omit<LoadOptions, "seed">>> = {
  "a step to two and a half times the capacity": { ...usual, callers: [{ name: "x", perSecond: (ms) => (ms > 12_000 && ms < 28_000 ? 2_500 : 400) }] },
  "a brown-out to a third of the capacity": { ...usual, callers: [{ name: "x", perSecond: 700 }], knee: (ms) => (ms > 12_000 && ms < 28_000 ? 13 : knee) },
  "a dependency that takes three times as long": {
    ...usual,
    callers: [{ name: "x", perSecond: 700 }],
    knee: 3 * knee,
    serviceMs: (ms) => (ms > 12_000 && ms < 28_000 ? 3 * serviceMs : serviceMs),
  },
  "a dependency that hangs for five seconds": { ...usual, callers: [{ name: "x", perSecond: 900 }], hangs: (ms) => ms > 12_000 && ms < 17_000 },
  "a process that stands still for a second, twice": {
    ...usual,
    callers: [{ name: "x", perSecond: 800 }],
    stalls: [
      { atMs: 12_000, forMs: 1_000 },
      { atMs: 25_000, forMs: 1_000 },
    ],
  },
};

for (const [name, options] of Object.entries(scenarios))
  test(`[RES-11] in ${name}, an adaptive limit serves at least 95 % of what the best fixed one does`, () => {
    const best = bestFixed(options);
    const { total, of, gate } = run(options, "adaptive");
    const ratio = goodput(total) / best.served;
    assert.ok(ratio >= 0.95, `seed ${seed}: ${ratio.toFixed(3)} of ${best.served} with ${best.running} running; at the end ${gate.running}`);
    // Ten seconds after whatever it was, what comes is served.
    const came = (of["x"] as Tally).cameIn.slice(35, 39).reduce((sum, count) => sum + count, 0);
    assert.ok(goodput(total, 35, 39) >= 0.97 * came, `seed ${seed}: ${goodput(total, 35, 39)} of ${came} from the 35th to the 39th second`);
    // Too few places, and so many that they are no limit.
    for (const running of [8, 40 * knee]) {
      if (running > knee && name.includes("three times as long")) continue; // it is not overloaded
      const control = run(options, running, running > knee ? { codel: false, waiting: 100_000 } : {});
      assert.ok(goodput(control.total) < 0.9 * goodput(total), `the control with ${running} serves as much`);
    }
  });

test("[RES-11] nor does it depend on chance: seeds with which it once was less than that", () => {
  for (const [name, running, seeds] of [
    ["a dependency that takes three times as long", 104, ["e", "f", "j", "l"]],
    ["a dependency that hangs for five seconds", 40, ["b", "c"]],
    ["a brown-out to a third of the capacity", 28, ["f", "b"]],
  ] as const)
    for (const seed of seeds) {
      const options = { ...(scenarios[name] as LoadOptions), seed };
      const ratio = goodput(run(options, "adaptive").total) / goodput(run(options, running).total);
      assert.ok(ratio >= 0.95, `${name}, seed ${seed}: ${ratio.toFixed(3)}`);
    }
});

test("[RES-11] when the knee halves, the limit is below it within twenty windows and 2 s, serves 90 % of the best, lets nobody wait long, and grows again when the knee comes back", () => {
  const options = { ...usual, forMs: 60_000, callers: [{ name: "x", perSecond: 1_500 }], knee: (ms: number) => (ms > 20_000 && ms < 40_000 ? knee / 2 : knee) };
  const limits: { readonly atMs: number; readonly limit: number }[] = [];
  let now: () => number = () => 0;
  let windows = 0;
  let longestWaiting = 0;
  let gate: Bulkhead | undefined;
  const { total } = load(
    {
      ...options,
      watch: () => {
        longestWaiting = Math.max(longestWaiting, (gate as Bulkhead).waiting / (gate as Bulkhead).running);
      },
    },
    (clock) => {
      now = () => clock.monotonicMs();
      gate = bulkhead({
        clock,
        random: seededRandom(`${seed} gate`),
        running: {
          loop: clock.loop,
          onWindow: ({ limit }) => {
            windows++;
            limits.push({ atMs: now(), limit });
          },
        },
      });
      return gateOf(gate);
    },
  );
  const sunk = limits.findIndex(({ atMs, limit }) => atMs > 20_000 && limit <= 1.2 * (knee / 2));
  const from = limits.findIndex(({ atMs }) => atMs > 20_000);
  assert.ok(sunk - from <= 20 && (limits[sunk] as { readonly atMs: number }).atMs < 24_000, `seed ${seed}: after ${sunk - from} windows`);
  const before40 = limits.filter(({ atMs }) => atMs > 25_000 && atMs < 40_000).map(({ limit }) => limit);
  assert.ok(quantile(before40, 0.5) <= 1.3 * (knee / 2), `seed ${seed}: its median was ${quantile(before40, 0.5)}`);
  const after = limits.filter(({ atMs }) => atMs > 50_000).map(({ limit }) => limit);
  assert.ok(quantile(after, 0.5) >= 0.8 * knee, `seed ${seed}: its median was ${quantile(after, 0.5)} after the knee came back`);
  assert.ok(longestWaiting <= 3.5, "the line is never longer than three and a half times the limit");
  const halves = { ...usual, forMs: 20_000, callers: options.callers, knee: knee / 2 };
  const best = bestFixed(halves, knee / 2).served / 15;
  assert.ok(goodput(total, 25, 40) / 15 >= 0.9 * best, `seed ${seed}: ${goodput(total, 25, 40) / 15} of ${best} a second`);
  assert.ok(windows > 100);
});

test("[RES-07] a prefetch that grows twelve-fold takes nothing from critical calls: more than 99 % of them are served", () => {
  const options = {
    ...usual,
    callers: [
      { name: "critical", perSecond: 500, priority: "high" },
      { name: "prefetch", perSecond: (ms: number) => (ms > 12_000 && ms < 28_000 ? 2_400 : 200), priority: "low" },
    ],
  } as const;
  const { of, total } = run(options, "adaptive");
  const part = ({ critical }: Readonly<Record<string, Tally>>) => (critical as Tally).served / (critical as Tally).came;
  assert.ok(part(of) > 0.99, `seed ${seed}: ${part(of)}`);
  assert.ok(goodput(total) >= 0.95 * bestFixed(options).served, `seed ${seed}`);
  const noPriority = { ...options, callers: options.callers.map(({ name, perSecond }) => ({ name, perSecond })) };
  assert.ok(part(run(noPriority, "adaptive").of) < 0.8, "the control without priorities");
});

test("[RES-07] at three times the capacity as much is served as at once the capacity, the urgent first, and who is declined hears so at once", () => {
  const classes = (times: number, until = Infinity) =>
    (["high", "normal", "low"] as const).map((priority, at) => ({
      name: priority,
      priority,
      perSecond: (ms: number) => (ms < until ? times * ([150, 425, 425][at] as number) : 100),
    }));
  const line = { waiting: 8 };
  const once = goodput(run({ ...usual, callers: classes(0.97) }, "adaptive", line).total, warmSeconds, 39);
  const three = run({ ...usual, callers: classes(3) }, "adaptive", line);
  assert.ok(goodput(three.total, warmSeconds, 39) >= 0.9 * once, `seed ${seed}: ${goodput(three.total, warmSeconds, 39)} of ${once}`);
  const high = three.of["high"] as Tally;
  assert.ok(high.served / high.came >= 0.99, `seed ${seed}: ${high.served / high.came} of the urgent`);
  assert.ok(quantile(three.total.declinedMs, 0.99) < 10, `seed ${seed}: ${quantile(three.total.declinedMs, 0.99)} ms until one is declined`);

  const eased = run({ ...usual, callers: classes(3, 20_000) }, "adaptive", line);
  for (const tally of Object.values(eased.of)) {
    const came = tally.cameIn.slice(25, 39).reduce((sum, count) => sum + count, 0);
    assert.ok(goodput(tally, 25, 39) >= 0.99 * came, `seed ${seed}: five seconds after the load has gone ${goodput(tally, 25, 39)} of ${came}`);
  }
  const without = run({ ...usual, callers: classes(3) }, 400, { waiting: 100_000, codel: false });
  assert.ok(goodput(without.total) < 0.5 * once, "the control without a limit that is felt");
});

test("[RES-05] one compartment hangs at full load: another one does not notice, what is too much is declined at once, and one pool for both starves it", () => {
  const hangs = (ms: number) => ms > 10_000;
  const well = { name: "b", perSecond: 300 };
  const alone = { ...usual, callers: [well] };
  const compartments = (a: Omit<LoadOptions, "seed">) => ({
    a: run(a, knee, { waiting: 40, codel: false }),
    b: run(alone, knee, { waiting: 40, codel: false }),
  });
  const control = compartments({ ...usual, callers: [{ name: "a", perSecond: 900 }] });
  const hung = compartments({ ...usual, callers: [{ name: "a", perSecond: 900 }], hangs });
  assert.equal(hung.b.total.served, control.b.total.served);
  assert.equal(quantile(hung.b.total.latenciesMs, 0.99), quantile(control.b.total.latenciesMs, 0.99));
  const { declinedMs } = hung.a.total;
  assert.ok(declinedMs.length > 10_000 && quantile(declinedMs, 0.99) < 10, `seed ${seed}: ${quantile(declinedMs, 0.99)} ms`);

  // One pool: b's calls are quick, but a's hold the places.
  const shared = run({ ...usual, callers: [{ name: "a", perSecond: 900 }, well], hangs }, 2 * knee, { waiting: 80, codel: false });
  const b = shared.of["b"] as Tally;
  assert.ok(b.served / b.came < 0.4, `seed ${seed}: the control: ${b.served / b.came} of b's`);
});

test("early rejection beside CoDel: as much is served, and most of those who are declined hear so when they come, not after a wait in vain", () => {
  const options = { ...usual, forMs: 20_000, callers: [{ name: "x", perSecond: 1_500 }] };
  const early = run(options, knee, { waiting: { from: 2 * knee, most: 3 * knee } });
  const late = run(options, knee, { waiting: 3 * knee });
  const inVain = ({ gate, total }: ReturnType<typeof run>) => gate.counts.declined.waited / total.declined;
  assert.ok(goodput(early.total) > 0.98 * goodput(late.total), `seed ${seed}: ${goodput(early.total)} of ${goodput(late.total)}`);
  assert.ok(inVain(early) < 0.6 * inVain(late), `seed ${seed}: ${inVain(early)} of the declined had waited in vain, ${inVain(late)} without early rejection`);
  const medians = [early, late].map(({ total }) => quantile(total.declinedMs, 0.5));
  assert.ok((medians[0] as number) < 1 && (medians[1] as number) > serviceMs, `seed ${seed}: ${medians.join(" and ")} ms until half of them hear so`);
});

test("a quiet tenant does not notice a neighbour that asks for a hundred times as much, in fair turns", () => {
  const p99 = (order: "fair" | "fifo", neighbourPerSecond: number) => {
    const options = {
      forMs: 20_000,
      knee: 64,
      serviceMs: 10,
      callers: [
        { name: "quiet", perSecond: 100, deadlineMs: 60_000 },
        { name: "neighbour", perSecond: neighbourPerSecond, deadlineMs: 60_000 },
      ],
    };
    const { of } = run(options, 64, { order, waiting: 5_000, codel: false });
    const quiet = of["quiet"] as Tally;
    assert.equal(quiet.declined > 0, order === "fifo" && neighbourPerSecond > 0, `seed ${seed}: ${order}, ${quiet.declined} declined`);
    return quantile(quiet.latenciesMs, 0.99);
  };
  const idle = p99("fair", 0);
  const beside = p99("fair", 10_000);
  assert.ok(beside < 1.2 * idle, `seed ${seed}: ${beside} ms beside it, ${idle} alone`);
  assert.ok(p99("fifo", 10_000) > 20 * idle, "the control");
});

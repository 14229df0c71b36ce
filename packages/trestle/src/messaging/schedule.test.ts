import assert from "node:assert/strict";
import { test } from "node:test";
import { z } from "zod";
import { decode } from "../component/index.ts";
import { dateOf, Fault, sleep, virtualClock, type Cron } from "../kernel/index.ts";
import { records } from "../records/index.ts";
import { schedule, type Tick } from "./index.ts";
import { memoryStore, runNode } from "./testing.ts";
import { ticksOf } from "./ticks.ts";

const totals = records("totals", { key: z.string(), value: z.number() });
const at = (text: string) => Date.parse(text);
const iso = (instant: number | undefined) => (instant === undefined ? undefined : dateOf(instant).toISOString().slice(0, 16));
const text = (row: { readonly value: Uint8Array } | undefined) => row && decode(row.value);

function series(rhythm: Parameters<typeof ticksOf>[0], from: string, count: number): (string | undefined)[] {
  const ticks = ticksOf(rhythm, "test");
  const out: (string | undefined)[] = [];
  let instant: number | undefined = at(from);
  for (let i = 0; i < count && instant !== undefined; i++) {
    instant = ticks.after(instant, at(from));
    out.push(iso(instant));
  }
  return out;
}

test("a cron expression is read in its time zone, UTC when it names none", () => {
  assert.deepEqual(series({ cron: "0 3 * * *" }, "2026-01-01T00:00Z", 2), ["2026-01-01T03:00", "2026-01-02T03:00"]);
  assert.deepEqual(series({ cron: "0 3 * * *", zone: "America/New_York" }, "2026-01-01T00:00Z", 2), ["2026-01-01T08:00", "2026-01-02T08:00"]);
  assert.deepEqual(series({ cron: "30 9 1 * MON" as Cron, zone: "Asia/Kolkata" }, "2026-06-01T00:00Z", 3), [
    "2026-06-01T04:00",
    "2026-06-08T04:00",
    "2026-06-15T04:00",
  ]);
});

test("[MSG-08] when clocks go forward, a time that does not exist moves to the end of the gap; a daily job runs once that day", () => {
  // Berlin, 29 March 2026: 02:00 to 03:00 does not exist.
  assert.deepEqual(series({ cron: "30 2 * * *", zone: "Europe/Berlin" }, "2026-03-28T00:00Z", 3), ["2026-03-28T01:30", "2026-03-29T01:00", "2026-03-30T00:30"]);
  assert.deepEqual(series({ cron: "*/30 * * * *", zone: "Europe/Berlin" }, "2026-03-29T00:15Z", 3), [
    "2026-03-29T00:30",
    "2026-03-29T01:00",
    "2026-03-29T01:30",
  ]);
});

test("[MSG-08] when clocks go back, a time that occurs twice counts once for a daily job, and each time for one by the half hour", () => {
  // Berlin, 25 October 2026: 02:00 to 03:00 occurs twice.
  assert.deepEqual(series({ cron: "30 2 * * *", zone: "Europe/Berlin" }, "2026-10-24T00:00Z", 3), ["2026-10-24T00:30", "2026-10-25T00:30", "2026-10-26T01:30"]);
  assert.deepEqual(series({ cron: "*/30 * * * *", zone: "Europe/Berlin" }, "2026-10-24T23:45Z", 5), [
    "2026-10-25T00:00",
    "2026-10-25T00:30",
    "2026-10-25T01:00",
    "2026-10-25T01:30",
    "2026-10-25T02:00",
  ]);
});

test("`latest` is the last tick at or before an instant, for both rhythms", () => {
  for (const rhythm of [{ cron: "*/5 * * * *" as Cron }, { every: "5m" as const }]) {
    const ticks = ticksOf(rhythm, "test");
    const anchor = at("2026-01-01T00:00Z");
    for (const [asked, expected] of [
      ["2026-01-01T00:05:00.000Z", "2026-01-01T00:05"],
      ["2026-01-01T00:09:59.999Z", "2026-01-01T00:05"],
      ["2026-01-01T00:10:00.000Z", "2026-01-01T00:10"],
    ] as const) {
      assert.equal(iso(ticks.latest(at(asked), anchor)), expected, `${ticks.fingerprint} ${asked}`);
    }
  }
});

test("what is no cron, no zone, too often or no option is refused where it is declared", () => {
  const nothing = () => undefined;
  for (const [code, declare] of [
    ["schedule.bad-cron", () => schedule("s", { cron: "61 * * * *" }, nothing)],
    ["schedule.bad-cron", () => schedule("s", { cron: "* * * * * *" as Cron }, nothing)],
    ["schedule.bad-cron", () => schedule("s", { cron: "0 3 * * *", zone: "Mars/Olympus" }, nothing)],
    ["schedule.too-often", () => schedule("s", { every: 0 }, nothing)],
    ["schedule.bad-option", () => schedule("s", { every: "1m", overlap: "maybe" as "skip" }, nothing)],
    ["schedule.bad-option", () => schedule("s", { every: "1m", missed: "all" as "each" }, nothing)],
    ["quantity.not-a-duration", () => schedule("s", { every: "often" as "1s" }, nothing)],
  ] as const)
    assert.throws(declare, (fault) => Fault.is(fault, code), code);
});

test("a schedule ticks in equal steps from its first start, without drift, and knows when each tick was due", async () => {
  const on = await memoryStore();
  const start = on.clock.wallMs();
  const due: number[] = [];
  const node = await runNode([schedule("s", { every: "10s" }, (tick) => void due.push(tick.due - start))], on);
  for (let i = 0; i < 35; i++) await on.clock.advance(1_003);
  await node.idle();

  assert.deepEqual(due, [10_000, 20_000, 30_000]);
  await node.stop();
});

test("a schedule that is new ticks at once, though the clock of the node that declares it is an hour ahead", async () => {
  const on = await memoryStore();
  const due: number[] = [];
  const declared = schedule("s", { every: "1m" }, (tick) => void due.push(tick.due));
  const start = on.clock.wallMs();
  const node = await runNode([declared], { ...on, clock: { ...on.clock, wallMs: () => on.clock.wallMs() + 3_600_000 } });

  for (let i = 0; i < 3; i++) await on.clock.advance(60_000);

  assert.deepEqual(due, [start + 60_000, start + 120_000, start + 180_000]);
  await node.stop();
});

test("a cron schedule ticks at its times; tick and effect are one commit", async () => {
  const clock = virtualClock(at("2026-03-28T20:00Z"));
  const on = await memoryStore(clock);
  const node = await runNode(
    [schedule("nightly", { cron: "30 2 * * *", zone: "Europe/Berlin", uses: { totals } }, (tick, { totals }) => totals.add(iso(tick.due) ?? "", 1))],
    on,
  );
  for (let i = 0; i < 30; i++) await clock.advance(3_600_000);
  await node.idle();

  const rows = await on.store.read.records(["totals//2026-03-29T01:00", "totals//2026-03-30T00:30", "totals//2026-03-31T00:30"]); // the third is not due yet
  assert.deepEqual(rows.map(text), [1, 1, undefined]);
  await node.stop();
});

test("[MSG-08] once per tick in the whole fleet: five nodes, some of which die, and each tick has one run", async () => {
  const on = await memoryStore();
  const start = on.clock.wallMs();
  const declared = schedule("s", { every: "1m", overlap: "allow", missed: "each", uses: { totals } }, async ({ due }, { totals }) => {
    await sleep(on.clock, 20);
    totals.add(String(due - start), 1);
  });
  let nodes = await Promise.all([1, 2, 3, 4, 5].map(() => runNode([declared], on)));
  for (let minute = 1; minute <= 20; minute++) {
    await on.clock.advance(59_990);
    if (minute % 4 === 0) {
      await on.clock.advance(15); // in the middle of the tick
      nodes[0]?.crash();
      nodes = [...nodes.slice(1), await runNode([declared], on)];
      await on.clock.advance(59_995);
    }
    await on.clock.advance(20);
  }
  for (let i = 0; i < 4; i++) await on.clock.advance(20_000);

  const elapsed = Math.floor((on.clock.wallMs() - start) / 60_000);
  const rows = await on.store.read.records(Array.from({ length: elapsed }, (_, i) => `totals//${(i + 1) * 60_000}`));
  assert.ok(elapsed > 20);
  assert.deepEqual(
    rows.map(text),
    rows.map(() => 1),
  );
  for (const node of nodes) await node.stop();
});

test("however many nodes start it, a schedule has one ticker; were there two, a tick would still have one run", async () => {
  const on = await memoryStore();
  const due: number[] = [];
  const declared = schedule("s", { every: "1m", overlap: "allow" }, (tick) => void due.push(tick.due));
  const nodes = await Promise.all([1, 2, 3].map(() => runNode([declared], on)));
  const tickers = await on.store.read.jobs({ queue: "~ticker/s", limit: 10 });
  assert.equal(tickers.length, 1);

  const [ticker] = tickers;
  assert.ok(ticker);
  for (let i = 0; i < 2; i++) {
    await on.store.commit({
      id: nodes[0]?.ids.next() ?? "",
      expects: [],
      writes: [
        { kind: "enqueue", job: { id: nodes[0]?.ids.next() ?? "", queue: ticker.queue, payload: ticker.payload, priority: 0, dueAtMs: ticker.dueAtMs } },
      ],
    });
  }
  await on.clock.advance(300_000);
  assert.equal(due.length, 5);
  assert.equal(new Set(due).size, 5);
  for (const node of nodes) await node.stop();
});

for (const [missed, expected] of [
  ["once", [[5, 4]]],
  [
    "each",
    [
      [1, 0],
      [2, 0],
      [3, 0],
      [4, 0],
      [5, 0],
    ],
  ],
  ["drop", []],
] as const) {
  test(`ticks missed while nothing ran: ${missed}`, async () => {
    const on = await memoryStore();
    const start = on.clock.wallMs();
    const ticks: Tick[] = [];
    const declared = schedule("s", { every: "10m", missed }, (tick) => void ticks.push(tick));
    const first = await runNode([declared], on);
    await first.stop();
    await on.clock.advance(55 * 60_000);
    const node = await runNode([declared], on);
    await node.idle();

    assert.deepEqual(
      ticks.map(({ due, missed }) => [(due - start) / 600_000, missed]),
      expected,
    );
    await on.clock.advance(300_000);
    await node.idle();
    assert.deepEqual(
      ticks.slice(expected.length).map(({ due, missed }) => [(due - start) / 600_000, missed]),
      [[6, 0]],
    );
    await node.stop();
  });
}

test("after years away a schedule by the second is back at once, and counts no further than it must", async () => {
  const on = await memoryStore();
  const ticks: Tick[] = [];
  const declared = schedule("s", { every: "1s" }, (tick) => void ticks.push(tick));
  await (await runNode([declared], on)).stop();
  on.clock.jumpWall(3 * 365 * 86_400_000);
  const node = await runNode([declared], on);
  await node.idle();

  assert.deepEqual(
    ticks.map(({ due, missed }) => [on.clock.wallMs() - due, missed]),
    [[0, 999]],
  );
  await node.stop();
});

for (const [overlap, expected] of [
  ["skip", { most: 1, begun: [1, 4, 7, 10] }],
  ["queue", { most: 1, begun: [1, 2, 3, 4, 5] }],
  ["allow", { most: 3, begun: [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12] }],
] as const) {
  test(`a tick that finds the last one running: ${overlap}`, async () => {
    const on = await memoryStore();
    const start = on.clock.wallMs();
    const begun: number[] = [];
    let running = 0;
    let most = 0;
    const node = await runNode(
      [
        schedule("s", { every: "10s", overlap, timeout: "1m" }, async ({ due }) => {
          begun.push((due - start) / 10_000);
          most = Math.max(most, ++running);
          await sleep(on.clock, 25_000);
          running -= 1;
        }),
      ],
      on,
    );
    for (let i = 0; i < 121; i++) await on.clock.advance(1_000);

    assert.deepEqual({ most, begun }, expected);
    await node.stop();
  });
}

test("another cron expression takes effect at the next start; what was due under the old one is forgotten, and going back begins anew", async () => {
  const clock = virtualClock(at("2026-01-01T00:00Z"));
  const on = await memoryStore(clock);
  const ticks: (string | undefined)[] = [];
  const declared = (cron: Cron) => schedule("s", { cron }, ({ due }) => void ticks.push(iso(due)));
  const run = async (cron: Cron, hours: number) => {
    const node = await runNode([declared(cron)], on);
    for (let i = 0; i < hours * 4; i++) await clock.advance(900_000);
    await node.idle();
    await node.stop();
  };
  await run("0 */6 * * *", 7);
  await run("30 * * * *", 2);
  await run("0 */6 * * *", 6);

  assert.deepEqual(ticks, ["2026-01-01T06:00", "2026-01-01T07:30", "2026-01-01T08:30", "2026-01-01T12:00"]);
  assert.equal((await on.store.read.jobs({ limit: 10 })).filter(({ state }) => state === "waiting").length <= 2, true);
});

test("a run that fails is tried again like any job, and then kept; the schedule goes on", async () => {
  const on = await memoryStore();
  let runs = 0;
  const node = await runNode(
    [
      schedule("s", { every: "1h" }, () => {
        runs += 1;
        throw new Error("always");
      }),
    ],
    on,
  );
  for (let i = 0; i < 130; i++) await on.clock.advance(60_000);

  const { dead } = await on.store.read.queue("s");
  assert.deepEqual([dead, runs], [2, 16]);
  await node.stop();
});

test("a schedule that has no time left to come waits for nothing", async () => {
  const on = await memoryStore();
  const node = await runNode([schedule("never", { cron: "0 0 31 2 *" }, () => undefined)], on);
  await on.clock.advance(86_400_000);
  await node.idle();

  assert.deepEqual(await on.store.read.jobs({ limit: 5 }), []);
  await node.stop();
});

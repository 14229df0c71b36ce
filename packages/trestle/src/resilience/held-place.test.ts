import assert from "node:assert/strict";
import { test } from "node:test";
import { Fault, seededRandom, virtualClock, withContext } from "../kernel/index.ts";
import { bulkhead, type BulkheadOptions, type Leave, type PlaceOptions } from "./index.ts";

function setUp(options: Partial<BulkheadOptions> = {}) {
  const clock = virtualClock();
  const places = bulkhead({ clock, random: seededRandom("held"), name: "desk", running: 1, waiting: 10, ...options });
  const told: string[] = [];
  const leaves = new Map<string, Leave>();
  const come = (name: string, of: PlaceOptions = {}): void =>
    void places.acquire(of).then(
      (leave) => void (leaves.set(name, leave), told.push(`${name} in at ${clock.monotonicMs() - startMs}`)),
      (thrown: unknown) =>
        told.push(
          `${name} ${Fault.is(thrown) ? `${thrown.code} ${String(thrown.details["reason"] ?? thrown.details["scope"])}` : String(thrown)} at ${clock.monotonicMs() - startMs}`,
        ),
    );
  const startMs = clock.monotonicMs();
  const leave = (name: string) => (leaves.get(name) as Leave)();
  const deadlineMs = (inMs: number) => startMs + inMs;
  return { clock, places, told, come, leave, deadlineMs };
}

test("[RES-05] a place that is waited for comes by priority, and is given back once", async () => {
  const { clock, places, told, come, leave } = setUp();
  come("a");
  come("low", { priority: "low" });
  withContext({ priority: "high" }, () => come("high"));
  await clock.advance(5);
  leave("a");
  leave("a");
  await clock.advance(5);
  assert.deepEqual([told, places.inFlight, places.waiting], [["a in at 0", "high in at 5"], 1, 1]);
  leave("high");
  await clock.advance(0);
  leave("low");
  assert.deepEqual([told.at(-1), places.inFlight], ["low in at 10", 0]);
});

test("who waits for a place hears when its time, the longest wait or its caller is gone, and leaves nothing behind", async () => {
  const { clock, places, told, come, leave, deadlineMs } = setUp();
  const caller = new AbortController();
  come("a");
  come("until 20", { deadlineMs: deadlineMs(20) });
  come("for 30", { waitMs: 30, deadlineMs: deadlineMs(1_000) });
  come("caller", { signal: caller.signal });
  come("last");
  await clock.advance(40);
  caller.abort("gone");
  await clock.advance(1);
  assert.deepEqual(told, ["a in at 0", "until 20 deadline.exceeded wait at 20", "for 30 bulkhead.full waited at 30", "caller gone at 40"]);
  assert.deepEqual([places.waiting, places.counts.left], [1, 3]);
  leave("a");
  await clock.advance(0);
  assert.equal(told.at(-1), "last in at 41");
  come("came too late", { deadlineMs: deadlineMs(1) });
  const gone = AbortSignal.abort("before it came");
  come("x", { signal: gone });
  await clock.advance(0);
  assert.deepEqual(told.slice(-2), ["came too late bulkhead.full late at 41", "x before it came at 41"]);
});

test("a longest wait that is none is a fault, and nobody waits for ever for it", async () => {
  const { places } = setUp();
  for (const waitMs of [Number.NaN, -1, "50ms" as unknown as number])
    await assert.rejects(places.acquire({ waitMs }), (thrown: unknown) => Fault.is(thrown, "option.out-of-range") && thrown.message.includes("acquire.waitMs"));
  assert.deepEqual([places.inFlight, places.waiting], [0, 0]);
});

test("who comes when its time is over gets no place, though one is free", async () => {
  const { clock, places, told, come } = setUp();
  come("late", { deadlineMs: clock.monotonicMs() });
  come("never", { deadlineMs: Number.NaN });
  await clock.advance(1);
  assert.deepEqual([told, places.inFlight], [["late bulkhead.full late at 0", "never bulkhead.full late at 0"], 0]);
});

test("who finds the line full is declined at once, and one that is displaced when it happens", async () => {
  const { clock, told, come } = setUp({ waiting: 1 });
  come("a");
  come("low", { priority: "low" });
  come("again low", { priority: "low" });
  come("high", { priority: "high" });
  await clock.advance(0);
  assert.deepEqual(told, ["a in at 0", "again low bulkhead.full full at 0", "low bulkhead.full displaced at 0"]);
});

test("an adaptive number of places learns from places that are held by hand", async () => {
  const limits: number[] = [];
  const { clock, places } = setUp({ running: { first: 4, onWindow: ({ limit }) => limits.push(limit) } });
  for (let round = 0; round < 200; round++) {
    const all = Array.from({ length: 12 }, () => places.acquire().catch(() => undefined));
    await clock.advance(0);
    for (const held of all) void held.then((leave) => void clock.after(10, () => leave?.()));
    await clock.advance(40);
  }
  assert.ok(limits.length > 5 && places.running > 4, `${limits.length} windows, ${places.running} places`);
});

test("what a place was held for without a word of it counts as no call's length: whoever has time for a call is not late, and a bulkhead says when to come back as before", async () => {
  const { clock, places, told, come } = setUp({ waiting: 1, order: "fair", codel: true });
  const hold = async (forMs: number, answer: "well" | "unheard") => {
    const leave = await places.acquire({ key: "holder" });
    await clock.advance(forMs);
    leave(answer);
  };
  for (let n = 0; n < 20; n++) await hold(2, "well");
  for (let n = 0; n < 30; n++) await hold(100, "unheard");

  const leave = await places.acquire();
  come("has 50 ms", { deadlineMs: clock.monotonicMs() + 50 });
  const refused = await places.acquire({ priority: "low" }).catch((thrown: unknown) => thrown);
  await clock.advance(5);
  leave("unheard");
  await clock.advance(0);
  assert.match(told.join(), /^has 50 ms in at/);
  assert.ok(Fault.is(refused, "bulkhead.full") && refused.details["retryAfterMs"] === 4, JSON.stringify((refused as Fault).details));
});

import assert from "node:assert/strict";
import { test } from "node:test";
import { Fault, seededRandom, virtualClock } from "../kernel/index.ts";
import { compareStamps, hybridClock, stampFromBigint, stampFromText, stampToBigint, stampToText, type HybridStamp } from "./index.ts";

const startMs = 1_700_000_000_000;

test("a stamp is wall time where that goes on, and counts where it stands", async () => {
  const clock = virtualClock(startMs);
  const hybrid = hybridClock({ clock });

  const stamps = [hybrid.now(), hybrid.now(), hybrid.now()];
  await clock.advance(2.5);
  stamps.push(hybrid.now());

  assert.deepEqual(stamps, [
    { wallMs: startMs, counter: 0 },
    { wallMs: startMs, counter: 1 },
    { wallMs: startMs, counter: 2 },
    { wallMs: startMs + 2, counter: 0 },
  ]);
});

test("what was received comes before its receipt, also on a machine whose clock is behind", () => {
  const ahead = hybridClock({ clock: virtualClock(startMs + 200) });
  const behind = hybridClock({ clock: virtualClock(startMs) });

  const sent = ahead.now();
  const received = behind.receive(sent);
  const answered = behind.now();

  assert.deepEqual(received, { wallMs: startMs + 200, counter: 1 });
  assert.ok(compareStamps(received, answered) < 0);
  assert.equal(behind.aheadMs(), 200);
});

test("a stamp from the far future is refused and leaves no trace", () => {
  const hybrid = hybridClock({ clock: virtualClock(startMs), aheadMaxMs: 250 });
  const before = hybrid.now();

  assert.throws(
    () => hybrid.receive({ wallMs: startMs + 251, counter: 0 }),
    (error) => Fault.is(error, "hybrid-clock.stamp-too-far-ahead") && error.details["aheadMs"] === 251,
  );

  assert.deepEqual(hybrid.now(), { ...before, counter: 1 });
  assert.deepEqual(hybrid.receive({ wallMs: startMs + 250, counter: 7 }), { wallMs: startMs + 250, counter: 8 });
});

test("a clock that is set back a little is counted over; set back further, stamps stop until it has caught up", async () => {
  const clock = virtualClock(startMs);
  const hybrid = hybridClock({ clock, aheadMaxMs: 100 });
  const first = hybrid.now();

  clock.jumpWall(-100);
  const second = hybrid.now();
  clock.jumpWall(-1);
  assert.throws(
    () => hybrid.now(),
    (error) => Fault.is(error, "hybrid-clock.too-far-ahead"),
  );
  await clock.advance(1);
  const third = hybrid.now();

  assert.ok(compareStamps(first, second) < 0 && compareStamps(second, third) < 0);
});

test("a counter that is full borrows from the next millisecond", () => {
  const hybrid = hybridClock({ clock: virtualClock(startMs), aheadMaxMs: 1 });
  let last: HybridStamp = hybrid.now();

  for (let i = 0; i < 65_536; i++) {
    const next = hybrid.now();
    assert.ok(compareStamps(last, next) < 0);
    last = next;
  }

  assert.deepEqual(last, { wallMs: startMs + 1, counter: 0 });
  assert.deepEqual(hybrid.receive({ wallMs: startMs, counter: 65_535 }), { wallMs: startMs + 1, counter: 1 });
  assert.throws(
    () => hybrid.receive({ wallMs: startMs + 1, counter: 65_535 }),
    (error) => Fault.is(error, "hybrid-clock.too-far-ahead"),
  );
});

test("after a restart on a machine whose clock was set back, stamps go on from the last one", () => {
  const before = hybridClock({ clock: virtualClock(startMs) }).now();
  const after = hybridClock({ clock: virtualClock(startMs - 300), after: before }).now();

  assert.ok(compareStamps(before, after) < 0);
});

test("packed stamps come back as they were, and sort as text and as numbers like the stamps", () => {
  const random = seededRandom("packed stamps");
  const stamps = Array.from({ length: 2_000 }, () => ({ wallMs: random.uint32() * 65_536 + (random.uint32() & 0xffff), counter: random.uint32() & 0xffff }));
  stamps.push({ wallMs: 0, counter: 0 }, { wallMs: 2 ** 48 - 1, counter: 65_535 }, { wallMs: startMs, counter: 0 }, { wallMs: startMs, counter: 65_535 });
  const sorted = stamps.toSorted(compareStamps);

  assert.deepEqual(stamps.map(stampToText).map(stampFromText), stamps);
  assert.deepEqual(stamps.map(stampToBigint).map(stampFromBigint), stamps);
  assert.deepEqual(stamps.map(stampToText).sort(), sorted.map(stampToText));
  assert.deepEqual(
    stamps.map(stampToBigint).sort((a, b) => (a < b ? -1 : 1)),
    sorted.map(stampToBigint),
  );
});

test("what is no stamp is refused by name", () => {
  const hybrid = hybridClock({ clock: virtualClock(startMs) });
  const bad = (error: unknown) => Fault.is(error, "hybrid-clock.bad-stamp");

  for (const stamp of [
    { wallMs: 0.5, counter: 0 },
    { wallMs: 1, counter: 65_536 },
    { wallMs: -1, counter: 0 },
    { wallMs: 2 ** 48, counter: 0 },
    { wallMs: 1 } as HybridStamp,
  ])
    assert.throws(() => hybrid.receive(stamp), bad);
  for (const text of ["", "0123", "0123456789ABCDEF", " 123456789abcdef"]) assert.throws(() => stampFromText(text), bad);
  for (const packed of [-1n, 1n << 64n]) assert.throws(() => stampFromBigint(packed), bad);
  assert.throws(
    () => hybridClock({ clock: virtualClock(), aheadMaxMs: 0 }),
    (error) => Fault.is(error, "option.out-of-range"),
  );
});

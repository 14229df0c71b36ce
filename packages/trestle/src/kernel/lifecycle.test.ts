import assert from "node:assert/strict";
import { test } from "node:test";
import { Fault, lifecycle, virtualClock } from "./index.ts";
import type { Part, VirtualClock } from "./index.ts";

const never = () => new Promise<never>(() => undefined);

/** A part that writes down what happens to it; `over` replaces steps. */
function recorded(seen: string[], name: string, over: Partial<Part> = {}): Part {
  return {
    name,
    start: () => void seen.push(`start ${name}`),
    drain: () => void seen.push(`drain ${name}`),
    stop: () => void seen.push(`stop ${name}`),
    ...over,
  };
}

async function outcome(clock: VirtualClock, promise: Promise<void>, byMs = 0): Promise<unknown> {
  const settled = promise.then(
    () => "fine",
    (thrown: unknown) => thrown,
  );
  await clock.advance(byMs);
  return settled;
}

test("parts start in order, and drain and stop in reverse", async () => {
  const seen: string[] = [];
  const clock = virtualClock();
  const life = lifecycle(
    ["a", "b", "c"].map((name) => recorded(seen, name)),
    clock,
  );
  const states = [life.state];

  await life.start();
  states.push(life.state);
  const draining = life.drain(100);
  states.push(life.state);
  await draining;
  const stopping = life.stop();
  states.push(life.state);
  await stopping;
  states.push(life.state);
  assert.deepEqual(seen, ["start a", "start b", "start c", "drain c", "drain b", "drain a", "stop c", "stop b", "stop a"]);
  assert.deepEqual(states, ["idle", "ready", "draining", "stopping", "stopped"]);
});

test("a part starts only when the one before it is ready", async () => {
  const seen: string[] = [];
  const clock = virtualClock();
  const slow = recorded(seen, "slow", {
    start: () =>
      new Promise(
        (resolve) =>
          void clock.after(50, () => {
            seen.push("slow is ready");
            resolve();
          }),
      ),
  });
  const life = lifecycle([slow, recorded(seen, "next")], clock);

  const starting = life.start();
  await clock.advance(49);
  assert.deepEqual([life.state, seen], ["starting", []]);
  await clock.advance(1);
  await starting;
  assert.deepEqual(seen, ["slow is ready", "start next"]);
});

test("starting, draining and stopping twice happen once", async () => {
  const seen: string[] = [];
  const life = lifecycle([recorded(seen, "a")], virtualClock());

  await Promise.all([life.start(), life.start()]);
  await Promise.all([life.drain(10), life.drain(10)]);
  await Promise.all([life.stop(), life.stop()]);
  await life.stop();
  await life.drain(10);
  assert.deepEqual(seen, ["start a", "drain a", "stop a"]);
});

test("a second drain or stop ends when the first does", async () => {
  const clock = virtualClock();
  const slow = () => new Promise<void>((resolve) => void clock.after(50, () => resolve()));
  const life = lifecycle([{ name: "a", drain: slow, stop: slow }], clock);
  await life.start();

  const ends: [string, number][] = [];
  const note = (what: string) => () => void ends.push([what, clock.monotonicMs()]);
  void life.drain(100).then(note("drain"));
  void life.drain(100).then(note("drain"));
  await clock.advance(60);
  void life.stop().then(note("stop"));
  void life.stop().then(note("stop"));
  await clock.advance(60);
  assert.deepEqual(ends, [
    ["drain", 50],
    ["drain", 50],
    ["stop", 110],
    ["stop", 110],
  ]);
});

test("a drain before the start does nothing", async () => {
  const seen: string[] = [];
  const life = lifecycle([recorded(seen, "a")], virtualClock());
  await life.drain(10);
  assert.equal(life.state, "idle");
  await life.start();
  await life.drain(10);
  assert.deepEqual(seen, ["start a", "drain a"]);
});

test("stopping before the start touches no part, and what was stopped does not start", async () => {
  const seen: string[] = [];
  const life = lifecycle([recorded(seen, "a")], virtualClock());

  await life.drain(10);
  await life.stop();
  await life.stop();
  assert.deepEqual([life.state, seen], ["stopped", []]);
  await assert.rejects(life.start(), (thrown) => Fault.is(thrown, "lifecycle.already-stopped"));
});

test("a stop during the start aborts the part that is starting, waits until it gave up, and stops what was begun", async () => {
  const seen: string[] = [];
  const clock = virtualClock();
  const starting = recorded(seen, "b", {
    start: (signal) =>
      new Promise((_, reject) =>
        signal.addEventListener("abort", () => {
          seen.push("b hears");
          clock.after(20, () => {
            seen.push("b gave up");
            reject(new Error("gave up"));
          });
        }),
      ),
  });
  const life = lifecycle([recorded(seen, "a"), starting, recorded(seen, "c")], clock);

  const start = life.start().catch((thrown: unknown) => thrown);
  await clock.advance(5);
  const stop = life.stop();
  await clock.advance(20);
  await stop;
  assert.deepEqual(seen, ["start a", "b hears", "b gave up", "stop b", "stop a"]);
  assert.ok(Fault.is(await start, "lifecycle.stopped-while-starting"));
  assert.equal(life.state, "stopped");
});

test("a part that ignores the abort of its start holds up the stop for its bound only", async () => {
  const seen: string[] = [];
  const clock = virtualClock();
  const life = lifecycle([recorded(seen, "a"), recorded(seen, "deaf", { start: never })], clock, { stopWithinMs: 100 });

  const start = life.start().catch((thrown: unknown) => thrown);
  await clock.advance(5);
  assert.equal(await outcome(clock, life.stop(), 100), "fine");
  assert.deepEqual(seen, ["start a", "stop deaf", "stop a"]);
  assert.ok(Fault.is(await start, "lifecycle.stopped-while-starting"));
});

test("a part that fails to start stops those before it, and is named with its error", async () => {
  const seen: string[] = [];
  const cause = new Error("port 3000 is taken");
  const clock = virtualClock();
  const life = lifecycle(
    [
      recorded(seen, "a"),
      recorded(seen, "http", {
        start: () => {
          throw cause;
        },
      }),
      recorded(seen, "c"),
    ],
    clock,
  );

  const fault = await outcome(clock, life.start());
  assert.ok(Fault.is(fault, "lifecycle.part-did-not-start"));
  assert.match(fault.message, /"http" threw: port 3000 is taken/);
  assert.deepEqual([fault.cause, fault.details], [cause, { parts: ["http"] }]);
  assert.deepEqual([life.state, seen], ["stopped", ["start a", "stop http", "stop a"]]);
});

test("a part that hangs in its start is named when its time is over, and its signal aborts", async () => {
  const clock = virtualClock();
  let reason: unknown;
  const hangs: Part = {
    name: "hangs",
    start: (signal) => {
      signal.addEventListener("abort", () => (reason = signal.reason));
      return never();
    },
  };
  const life = lifecycle([hangs], clock, { startWithinMs: 1_000, stopWithinMs: 10 });

  const fault = await outcome(clock, life.start(), 1_010);
  assert.ok(Fault.is(fault, "lifecycle.part-did-not-start"));
  assert.match(fault.message, /"hangs" was not done after 1000 ms/);
  assert.ok(Fault.is(reason, "lifecycle.part-did-not-start"));
});

test("a part that hangs or throws in its stop is named, and the others are stopped all the same", async () => {
  const seen: string[] = [];
  const clock = virtualClock();
  const life = lifecycle(
    [
      recorded(seen, "a"),
      recorded(seen, "throws", {
        stop: () => {
          throw new Error("no");
        },
      }),
      recorded(seen, "hangs", { stop: never }),
      recorded(seen, "d"),
    ],
    clock,
    { stopWithinMs: 200 },
  );
  await life.start();

  const startMs = clock.monotonicMs();
  const fault = await outcome(clock, life.stop(), 200);
  assert.ok(Fault.is(fault, "lifecycle.part-did-not-stop"));
  assert.match(fault.message, /"hangs" was not done after 200 ms; "throws" threw: no/);
  assert.deepEqual(fault.details, { parts: ["hangs", "throws"] });
  assert.deepEqual(seen.slice(4), ["stop d", "stop a"]);
  assert.equal(clock.monotonicMs() - startMs, 200);
  assert.equal(life.state, "stopped");
});

test("a drain is over within its bound for all parts together, and tells the late ones too", async () => {
  const told: [string, number][] = [];
  const clock = virtualClock();
  const part = (name: string, takesMs: number): Part => ({
    name,
    drain: (withinMs) => {
      told.push([name, withinMs]);
      return takesMs === 0 ? undefined : new Promise((resolve) => void clock.after(takesMs, () => resolve()));
    },
  });
  const life = lifecycle([part("last", 0), part("slow", 1_000), part("first", 60)], clock);
  await life.start();

  const fault = await outcome(clock, life.drain(100), 100);
  assert.deepEqual(told, [
    ["first", 100],
    ["slow", 40],
    ["last", 0],
  ]);
  assert.ok(Fault.is(fault, "lifecycle.part-did-not-drain"));
  assert.deepEqual(fault.details, { parts: ["slow"] });
  assert.equal(clock.monotonicMs(), 100);
  assert.equal(await outcome(clock, life.stop()), "fine");
});

test("a stop cuts a drain short", async () => {
  const seen: string[] = [];
  const clock = virtualClock();
  const life = lifecycle([recorded(seen, "a"), recorded(seen, "b", { drain: never })], clock);
  await life.start();

  const drain = life.drain(60_000).catch((thrown: unknown) => thrown);
  await clock.advance(10);
  assert.equal(await outcome(clock, life.stop()), "fine");
  assert.ok(Fault.is(await drain, "lifecycle.part-did-not-drain"));
  assert.deepEqual(seen, ["start a", "start b", "stop b", "stop a"]);
});

test("a part may call back into its lifecycle", async () => {
  const seen: string[] = [];
  const clock = virtualClock();
  const life = lifecycle(
    [
      recorded(seen, "a", {
        start: () => {
          void life.start();
          seen.push("start a");
        },
        stop: () => {
          void life.stop();
          seen.push("stop a");
        },
      }),
    ],
    clock,
  );

  await life.start();
  await life.stop();
  assert.deepEqual(seen, ["start a", "stop a"]);
});

test("no timer is left behind", async () => {
  const clock = virtualClock();
  let open = 0;
  const life = lifecycle([{ name: "a", start: () => undefined, drain: () => undefined, stop: () => undefined }], {
    ...clock,
    after: (ms, task) => {
      open++;
      const timer = clock.after(ms, task);
      return {
        cancel: () => {
          open--;
          timer.cancel();
        },
      };
    },
  });
  await life.start();
  await life.drain(10);
  await life.stop();
  assert.equal(open, 0);
});

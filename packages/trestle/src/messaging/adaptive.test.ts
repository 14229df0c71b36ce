/** `concurrency: "adaptive"`: as many handlers at once as what they use works on. `SEED=…` repeats a failure. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { z } from "zod";
import { records } from "../records/index.ts";
import { Fault, seededRandom, sleep, virtualClock, type Clock } from "../kernel/index.ts";
import type { AdaptiveOptions } from "../resilience/index.ts";
import { queue } from "./index.ts";
import { memoryStore, runNode } from "./testing.ts";

const seed = process.env["SEED"] ?? "queue-adaptive-1";
const counts = records("counts", { key: z.string(), value: z.number() });
const Numbered = z.object({ n: z.number() });

/** Works on so many calls at once, `serviceMs` each on average; the others wait in it. */
function dependency(clock: Clock, knee: () => number, serviceMs: number) {
  const random = seededRandom(`${seed} dependency`);
  const line: (() => void)[] = [];
  let busy = 0;
  const next = () => {
    while (busy < knee()) {
      const begin = line.shift();
      if (!begin) return;
      busy += 1;
      begin();
    }
  };
  return async () => {
    await new Promise<void>((resolve) => {
      line.push(resolve);
      next();
    });
    await sleep(clock, serviceMs * (0.5 + random.next()));
    busy -= 1;
    next();
  };
}

type Concurrency = number | "adaptive" | AdaptiveOptions;

/** A queue with a backlog that does not run dry, and how many handlers run at once. */
async function worked(concurrency: Concurrency, call: (clock: Clock) => () => unknown, more: { readonly timeout?: "200ms"; readonly batch?: number } = {}) {
  const on = await memoryStore(virtualClock());
  let look: (() => { readonly running: number; readonly places: number }) | undefined;
  const observer = { works: (_queue: string, _adaptive: boolean, asked: typeof look) => void (look = asked) };
  const once = call(on.clock);
  let running = 0;
  /** Beyond the places there were. */
  let beyond = 0;
  let done = 0;
  const places = () => look?.().places ?? 0;
  const handle = async (messages: number) => {
    beyond = Math.max(beyond, ++running - places());
    try {
      await once();
      done += messages;
    } finally {
      running -= 1;
    }
  };
  const spec = { input: Numbered, concurrency, retry: { attempts: 1_000, from: 0, upTo: 0 }, ...(more.timeout && { timeout: more.timeout }) };
  const work = more.batch
    ? queue("work", { ...spec, batch: more.batch }, ({ length }) => handle(length))
    : queue("work", { ...spec, uses: { counts } }, () => handle(1));
  const node = await runNode([work], { ...on, observer });
  return {
    node,
    places,
    beyond: () => beyond,
    done: () => done,
    async runs(forMs: number, each: (atMs: number) => void = () => undefined) {
      for (let atMs = 0; atMs < forMs; atMs += 250) {
        const { waiting } = await on.store.read.queue("work");
        if (waiting < 400) await node.commit({ work }, ({ work }) => void work.sendMany(Array.from({ length: 600 }, (_, n) => ({ n }))));
        await on.clock.advance(250);
        each(atMs);
      }
    },
    async stop() {
      const stopped = node.stop();
      await on.clock.advance(60_000);
      await stopped;
    },
  };
}
const median = (values: readonly number[]): number => values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] as number;
const hundredMs = 100;

for (const batch of [undefined, 2])
  test(`the number of ${batch ? "calls of a queue with batches" : "handlers"} follows a dependency whose knee moves, and is never passed`, async () => {
    let knee = 12;
    const { runs, places, beyond, done, stop } = await worked("adaptive", (clock) => dependency(clock, () => knee, hundredMs), batch ? { batch } : {});

    const parts: number[] = [];
    for (const now of [12, 4, 12]) {
      knee = now;
      const found: number[] = [];
      let before = 0;
      await runs(16_000, (atMs) => {
        if (atMs < 10_000) before = done();
        else found.push(places());
      });
      const perSecond = (done() - before) / (batch ?? 1) / 6;
      assert.ok(median(found) >= 0.75 * knee && median(found) <= 2 * knee, `seed ${seed}: ${median(found)} at once, where it works on ${knee}`);
      parts.push(perSecond / (knee * 10));
    }
    const seen = `seed ${seed}: ${parts.map((part) => part.toFixed(2)).join(", ")} of what it can do`;
    assert.ok(
      parts.every((part) => part >= 0.85),
      seen,
    );
    assert.equal(beyond(), 0, `seed ${seed}: more handlers than there were places`);
    await stop();
  });

test("where what handlers use can take more than sixteen of them, more are done than with sixteen; bounds hold", async () => {
  const doneWith = async (concurrency: Concurrency) => {
    const { runs, places, done, stop } = await worked(concurrency, (clock) => dependency(clock, () => 48, hundredMs));
    await runs(5_000);
    const before = done();
    await runs(2_000);
    await stop();
    return { done: done() - before, places: places() };
  };

  const [adaptive, bounded, sixteen] = [await doneWith("adaptive"), await doneWith({ most: 20, first: 20 }), await doneWith(16)];
  assert.ok(adaptive.done >= 2.5 * sixteen.done, `seed ${seed}: ${adaptive.done} with ${adaptive.places} at once, ${sixteen.done} with sixteen`);
  assert.equal(bounded.places, 20);
});

test("failures that speak against the other side make it fewer, and time-outs; a bug, a refusal and a conflict do not", async () => {
  const unreachable = () => Fault.create("external.unreachable", "bank was not called", "Wait.");
  const thrown: Readonly<Record<string, () => unknown>> = {
    unreachable,
    busy: () => Object.assign(new Error("busy"), { status: 503 }),
    refused: () => Fault.create("external.refused", "no", "Ask for something else.", { details: { status: 404 } }),
    bug: () => new TypeError("undefined is not a function"),
    conflict: () => Fault.create("commit.conflict", "ran 1000 times", "Merge."),
  };
  const late: string[] = [];
  for (const [name, fault] of Object.entries(thrown)) {
    const verdicts = new Set<string>();
    let fails = false;
    const { runs, stop } = await worked({ first: 8, most: 8, onWindow: ({ verdict }) => void verdicts.add(verdict) }, (clock) => async () => {
      await sleep(clock, 50);
      if (fails) throw fault();
    });
    await runs(1_000);
    fails = true;
    await runs(2_000);
    if (verdicts.has("late")) late.push(name);
    assert.ok(verdicts.size > 0, name);
    await stop();
  }
  assert.deepEqual(late, ["unreachable", "busy"]);

  let hangs = false;
  const limits: number[] = [];
  const { runs, places, beyond, stop } = await worked(
    { first: 8, most: 16 },
    (clock) => async () => {
      const began = hangs;
      await sleep(clock, began ? 1_000 : 50); // five times its time, and it does not heed its signal
    },
    { timeout: "200ms" },
  );
  await runs(1_000);
  limits.push(places());
  hangs = true;
  await runs(5_000);
  limits.push(places());
  hangs = false;
  await runs(4_000);
  limits.push(places());
  const [before, during, after] = limits as [number, number, number];
  assert.ok(during <= 0.5 * before && after >= before, `seed ${seed}: ${limits.join(", ")}`);
  assert.equal(beyond(), 0);
  await stop();
});

test("handlers that answer at once are claimed and done in as few looks at the store as with sixteen", async () => {
  const claimsWith = async (concurrency: Concurrency) => {
    const on = await memoryStore(virtualClock());
    let claims = 0;
    const store = Object.assign(Object.create(on.store) as typeof on.store, {
      claim: (request: Parameters<typeof on.store.claim>[0]) => {
        claims += 1;
        return on.store.claim(request);
      },
    });
    const work = queue("work", { input: Numbered, uses: { counts }, concurrency }, ({ n }, { counts }) => counts.add("sum", n));
    const node = await runNode([work], { ...on, store });
    await node.commit({ work }, ({ work }) => void work.sendMany(Array.from({ length: 3_000 }, () => ({ n: 1 }))));
    await node.idle();
    const [sum] = await on.store.read.records(["counts//sum"]);
    assert.equal(new TextDecoder().decode(sum?.value), "3000");
    await node.stop();
    return claims;
  };

  const [adaptive, sixteen] = [await claimsWith("adaptive"), await claimsWith(16)];
  assert.ok(adaptive <= 1.2 * sixteen, `${adaptive} claims, ${sixteen} with sixteen`);
});

test("how long handlers take that hardly wait, and by what else the process does, is not taken for a line elsewhere", async () => {
  const verdictsWith = async (quickMs: number, slowMs: number) => {
    const verdicts = new Set<string>();
    const { runs, stop } = await worked({ first: 6, most: 6, onWindow: ({ verdict }) => void verdicts.add(verdict) }, (clock) => {
      const slowFromMs = clock.monotonicMs() + 1_000;
      return () => sleep(clock, clock.monotonicMs() < slowFromMs ? quickMs : slowMs);
    });
    await runs(2_000);
    await stop();
    return verdicts;
  };

  const [quick, slow] = [await verdictsWith(2, 8), await verdictsWith(20, 80)];
  const ofALine = ["queue", "ask", "usual"];
  assert.deepEqual(
    ofALine.filter((verdict) => quick.has(verdict)),
    [],
  );
  assert.ok(
    ofALine.some((verdict) => slow.has(verdict)),
    "the control, four times as long as well",
  );
});

test("bounds are checked where the queue is declared, and say which one is wrong", () => {
  const wrong = (concurrency: Concurrency) => () => queue("work", { input: Numbered, concurrency }, () => undefined);
  const says = (message: RegExp) => (fault: unknown) => Fault.is(fault, "option.out-of-range") && message.test(fault.message);

  assert.throws(wrong(0), says(/queue "work": concurrency /));
  assert.throws(wrong({ most: 1_001 }), says(/queue "work": concurrency\.most/));
  assert.throws(wrong({ least: 8, most: 4 }), says(/queue "work": concurrency\.most/));
  assert.throws(wrong({ least: 0 }), says(/queue "work": concurrency\.least/));
  assert.throws(wrong({ most: 4, first: 5 }), says(/queue "work": concurrency\.first/));
  assert.throws(wrong("sixteen" as never), says(/queue "work": concurrency /));
});

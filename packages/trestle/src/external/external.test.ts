import { after, test } from "node:test";
import assert from "node:assert/strict";
import { z } from "zod";
import { app, start, type Node } from "../app/index.ts";
import { decodeJournal, execute, journalKey, type Component, type WorkContext } from "../component/index.ts";
import { testNode } from "../component/testing.ts";
import { Fault, sleep, virtualClock, withContext, type VirtualClock } from "../kernel/index.ts";
import { queue } from "../messaging/index.ts";
import { records } from "../records/index.ts";
import { get, service } from "../service/index.ts";
import { external, mutation, query, type ExternalSpec, type MutationSpec, type Wire } from "./index.ts";

const Input = z.object({ id: z.string() });
const Result = z.object({ done: z.string() });
type Behave = (input: { readonly id: string }, wire: Wire) => Promise<unknown>;

const nodes: Node[] = [];
after(async () => {
  for (const node of nodes) await node.stop(); // also those of a test that failed
});

const kept = records("kept", { key: z.string(), value: z.object({ text: z.string() }) });

/** One job that writes, calls, and writes what it heard. */
async function world(
  behave: Behave,
  options: {
    readonly spec?: ExternalSpec;
    readonly mutation?: Partial<Pick<MutationSpec<typeof Input, typeof Result>, "key" | "lookup" | "outcome">>;
    readonly attempts?: number;
    readonly clock?: VirtualClock;
    readonly swallow?: boolean;
  } = {},
) {
  const clock = options.clock ?? virtualClock();
  const calls: { readonly key: string; readonly id: string }[] = [];
  const endings: string[] = [];
  const far = external(
    "far",
    { retry: false, breaker: false, timeout: "1s", ...options.spec },
    {
      change: mutation({ input: Input, returns: Result, ...options.mutation }, (input, wire) => {
        calls.push({ key: wire.key, id: input.id });
        return behave(input, wire);
      }),
      look: query({ input: Input, returns: Result }, behave),
    },
  );
  const work = queue(
    "work",
    { input: Input, uses: { far, kept }, retry: { attempts: options.attempts ?? 3, from: "1s", upTo: "1s" } },
    async (message, { far, kept }) => {
      kept.put(`${message.id}-before`, { text: "intent" });
      try {
        const { done } = await far.change(message);
        endings.push(done);
        kept.put(`${message.id}-after`, { text: done });
      } catch (fault) {
        endings.push(Fault.is(fault) ? fault.code : String(fault));
        if (!options.swallow) throw fault;
        kept.put(`${message.id}-gave-up`, { text: "compensated" });
      }
    },
  );
  const door = service("door", {}, { open: get("/", {}, () => "open") }); // so that there is a socket to ask for metrics
  const node = await start(app("test", [work, door]), { store: "memory:", log: () => undefined, clock });
  nodes.push(node);
  const has = async (key: string) => (await node.open(kept).get(key)) !== undefined;
  return { node, clock, calls, endings, has, far, work };
}

async function until(clock: VirtualClock, node: Node, seconds: number): Promise<void> {
  for (let second = 0; second < seconds; second++) await clock.advance(1_000);
  await node.idle();
}

async function undetermined(node: Node): Promise<number> {
  const metrics = async () => (await fetch(`${node.url}/_trestle/metrics`)).text();
  await metrics(); // queues are found with the first look
  return Number(/^trestle_queue_jobs\{queue="work",state="undetermined"\} (\d+)$/m.exec(await metrics())?.[1]);
}

test("[F16] what was written before a call is durable when the call is made, and the answer is remembered", async () => {
  const seen: boolean[] = [];
  const { node, clock, calls, has, work } = await world(async ({ id }) => {
    seen.push(await has(`${id}-before`), await has(`${id}-after`));
    return { done: "yes" };
  });
  await node.open(work).send({ id: "a" });
  await until(clock, node, 1);
  assert.deepEqual(seen, [true, false]);
  assert.equal(calls.length, 1);
  assert.equal(await has("a-after"), true);
  await node.stop();
});

test("[F16] a call without an answer is made again under the same key, and the handler does not go on in between", async () => {
  let times = 0;
  const { node, clock, calls, endings, has, work } = await world(async () => {
    times += 1;
    if (times < 3) throw new Error("connection reset");
    return { done: "third time" };
  });
  await node.open(work).send({ id: "a" });
  await until(clock, node, 10);
  assert.equal(calls.length, 3);
  assert.equal(new Set(calls.map(({ key }) => key)).size, 1);
  assert.deepEqual(endings, ["external.outcome-unknown", "external.outcome-unknown", "third time"]);
  assert.equal(await has("a-after"), true);
  await node.stop();
});

test("[F16] out of tries with the outcome unknown the job is undetermined, even when the handler swallows the fault: nothing is compensated blindly", async () => {
  const { node, clock, calls, has, work } = await world(
    async () => {
      throw new Error("reset");
    },
    { swallow: true },
  );
  await node.open(work).send({ id: "a" });
  await until(clock, node, 10);
  assert.equal(calls.length, 3);
  assert.equal(await has("a-gave-up"), false);
  assert.equal(await undetermined(node), 1);
  await node.stop();
});

test("[F16] `may-repeat` makes a call without an answer an ordinary failure, which a handler may handle", async () => {
  const { node, clock, calls, has, work } = await world(
    async () => {
      throw new Error("reset");
    },
    { swallow: true, mutation: { outcome: "may-repeat" } },
  );
  await node.open(work).send({ id: "a" });
  await until(clock, node, 5);
  assert.deepEqual([calls.length, await has("a-gave-up")], [1, true]);
  await node.stop();
});

test("a definite failure that the handler lets pass is asked again with the next try; one that it handles is remembered", async () => {
  let times = 0;
  const passing = await world(async () => {
    times += 1;
    if (times < 3) throw Fault.create("external.unreachable", "the door is shut", "wait");
    return { done: "open" };
  });
  await passing.node.open(passing.work).send({ id: "a" });
  await until(passing.clock, passing.node, 10);
  assert.deepEqual(passing.endings, ["external.unreachable", "external.unreachable", "open"]);
  assert.equal(await passing.has("a-after"), true);
  await passing.node.stop();

  const handled = await world(
    async () => {
      throw Fault.create("external.refused", "no", "none", { details: { status: 402 } });
    },
    { swallow: true },
  );
  await handled.node.open(handled.work).send({ id: "a" });
  await until(handled.clock, handled.node, 5);
  assert.deepEqual([handled.calls.length, await handled.has("a-gave-up")], [1, true]);
  await handled.node.stop();
});

test("[F16] `lookup` is asked before a call is made again, and its answer is the call's", async () => {
  const log: string[] = [];
  let known: { readonly done: string } | undefined;
  const { node, clock, endings, work } = await world(
    async () => {
      log.push("call");
      known = { done: "it had happened" };
      throw new Error("reset");
    },
    { mutation: { lookup: async () => (log.push("lookup"), log.length < 3 ? undefined : known) } },
  );
  await node.open(work).send({ id: "a" });
  await until(clock, node, 5);
  assert.deepEqual(log, ["call", "lookup", "lookup"]);
  assert.deepEqual(endings, ["external.outcome-unknown", "it had happened"]);
  await node.stop();
});

test("[F16] when the lookup cannot be asked the call is not made again", async () => {
  const log: string[] = [];
  const { node, clock, work } = await world(
    async () => {
      log.push("call");
      throw new Error("reset");
    },
    {
      mutation: {
        lookup: async () => {
          log.push("lookup");
          throw new Error("reset, too");
        },
      },
    },
  );
  await node.open(work).send({ id: "a" });
  await until(clock, node, 10);
  assert.deepEqual(log, ["call", "lookup", "lookup", "lookup"]);
  await node.stop();
});

test("[RES-04] attempts within a call share its key, and an attempt that may have arrived makes the whole outcome unknown", async () => {
  const clock = virtualClock();
  let times = 0;
  const { node, calls, endings, work } = await world(
    async () => {
      times += 1;
      if (times === 1) throw new Error("reset"); // may have arrived
      throw Fault.create("external.unreachable", "the door is shut", "wait"); // has not
    },
    { clock, attempts: 1, spec: { retry: { attempts: 3, budget: "100%" } } },
  );
  await node.open(work).send({ id: "a" });
  await until(clock, node, 5);
  assert.equal(calls.length, 3);
  assert.equal(new Set(calls.map(({ key }) => key)).size, 1);
  assert.deepEqual(endings, ["external.outcome-unknown"]);
  await node.stop();
});

test("[RES-02] an attempt that hangs is cut at its timeout, its signal aborts, and its outcome is unknown", async () => {
  const clock = virtualClock();
  let aborted = 0;
  const { node, endings, work } = await world(
    (_input, { signal }) => new Promise(() => signal.addEventListener("abort", () => (aborted += 1), { once: true })),
    { clock, attempts: 1 },
  );
  await node.open(work).send({ id: "a" });
  await clock.advance(999);
  assert.deepEqual(endings, []);
  await clock.advance(1);
  assert.deepEqual([endings, aborted], [["external.outcome-unknown"], 1]);
  await node.stop();
});

test("[RES-03] an open breaker is a call that was not made", async () => {
  const clock = virtualClock();
  const { node, far, calls } = await world(
    async () => {
      throw new Error("reset");
    },
    { clock, spec: { breaker: { failureRate: 0.5, cooldown: "10s" } } },
  );
  const live = node.open(far);
  for (let call = 0; call < 20; call++) await assert.rejects(live.change({ id: "x" }), (fault) => Fault.is(fault, "external.outcome-unknown"));
  await assert.rejects(live.change({ id: "x" }), (fault) => Fault.is(fault, "external.unreachable"));
  assert.equal(calls.length, 20);
  await clock.advance(10_000);
  await assert.rejects(live.change({ id: "x" }), (fault) => Fault.is(fault, "external.outcome-unknown"));
  await node.stop();
});

test("[RES-01] each attempt that fails is counted by what its failure means, and a breaker that changes is a metric", async () => {
  const clock = virtualClock();
  const behaviours: Record<string, Behave> = {
    crash: async () => {
      throw Object.assign(new Error("x"), { code: "ECONNREFUSED" });
    },
    omission: () => new Promise<never>(() => undefined),
    timing: async () => {
      await sleep(clock, 400);
      return { done: "late" };
    },
    response: async () => ({ done: 1 }),
    byzantine: async () => {
      throw Fault.create("response.contradicts", "two replicas disagree", "Ask a third.");
    },
    refusal: async () => {
      throw Fault.create("external.refused", "no", "Ask for something else.", { details: { status: 402 } });
    },
  };
  const { node, far } = await world((input, wire) => (behaviours[input.id] as Behave)(input, wire), {
    clock,
    spec: { timeout: "1s", breaker: { cooldown: "10s", slowerThan: "300ms" } },
  });
  const live = node.open(far);
  for (const id of Object.keys(behaviours)) {
    const answer = live.look({ id }).catch(() => undefined);
    await clock.advance(1_000);
    await answer;
  }
  for (let i = 0; i < 20; i++) await live.look({ id: "crash" }).catch(() => undefined);
  const text = await (await fetch(`${node.url}/_trestle/metrics`)).text();
  const counted = (line: string) => Number(new RegExp(`^${line} (\\d+)`, "m").exec(text)?.[1] ?? 0);
  for (const kind of ["omission", "timing", "response", "byzantine", "refusal"])
    assert.equal(counted(`trestle_failures_total\\{component="far",kind="${kind}"\\}`), 1, kind);
  assert.ok(counted(`trestle_failures_total\\{component="far",kind="crash"\\}`) > 10);
  assert.equal(counted(`trestle_breaker_state\\{component="far"\\}`), 2);
  assert.equal(counted(`trestle_breaker_changes_total\\{component="far",from="closed",to="open"\\}`), 1);
  assert.ok(counted(`trestle_calls_declined_total\\{component="far",reason="breaker-open"\\}`) > 0);
  const { gates } = (await (await fetch(`${node.url}/_trestle/graph.json`)).json()) as {
    gates: readonly { component: string; gate: string; breaker?: string; room?: { places: number } }[];
  };
  assert.deepEqual(
    gates.map(({ component, gate, breaker, room }) => [component, gate, breaker ?? room?.places]),
    [
      ["work", "jobs", 16],
      ["far", "calls", "open"],
    ],
  );
  await node.stop();
});

test("[RES-05] at most so many calls are under way as concurrency says, the urgent go first, and what has no place was not called", async () => {
  const clock = virtualClock();
  let [running, most] = [0, 0];
  const began: string[] = [];
  const { node, far } = await world(
    async ({ id }) => {
      began.push(id);
      most = Math.max(most, ++running);
      await sleep(clock, 100);
      running--;
      return { done: id };
    },
    { clock, spec: { concurrency: 2, timeout: "30s" } },
  );
  const live = node.open(far);
  const ended = (id: string, priority: "normal" | "high" = "normal") =>
    withContext({ priority }, () =>
      live.look({ id }).then(
        () => "done",
        (fault: unknown) => (Fault.is(fault, "bulkhead.full") ? "declined" : String(fault)),
      ),
    );
  const calls = Array.from({ length: 12 }, (_, i) => ended(`${i}`));
  calls.push(ended("urgent", "high"));
  await clock.advance(2_000);
  const outcomes = await Promise.all(calls);
  const declined = outcomes.filter((outcome) => outcome === "declined").length;
  assert.deepEqual([most, outcomes.at(-1), began[2]], [2, "done", "urgent"]);
  assert.ok(declined >= 12 + 1 - 2 - 6 && declined <= 12 + 1 - 2 - 4 && began.length === 13 - declined, `${declined} of 13 declined`);
  const changes = Array.from({ length: 9 }, (_, i) => live.change({ id: `change ${i}` }).catch((fault: unknown) => fault));
  await clock.advance(2_000);
  // Two run and at most six wait: chance decides who is declined, and at least one is.
  assert.ok(
    (await Promise.all(changes)).some((fault) => Fault.is(fault, "external.unreachable")),
    "a mutation that had no place was not sent",
  );
  const text = await (await fetch(`${node.url}/_trestle/metrics`)).text();
  const total = [...text.matchAll(/^trestle_calls_declined_total\{component="far",reason="\w+"\} (\d+)/gm)].reduce((sum, [, count]) => sum + Number(count), 0);
  assert.ok(total > declined);
  assert.match(text, /^trestle_bulkhead_places\{component="far"\} 2$/m);
  assert.match(text, /^trestle_bulkhead_in_flight\{component="far"\} 0$/m);
  await node.stop();
});

test("an answer of the wrong shape is a fault, and for a change not a reason to go on", async () => {
  const { node, clock, endings, far, work } = await world(async () => ({ done: 1 }), { attempts: 1, swallow: true });
  await assert.rejects(node.open(far).look({ id: "a" }), (fault) => Fault.is(fault, "external.answer-invalid") && /done/.test(fault.message));
  await node.open(work).send({ id: "a" });
  await until(clock, node, 2);
  assert.deepEqual(endings, ["external.answer-invalid"]);
  assert.equal(await undetermined(node), 1);
  await node.stop();
});

test("input that does not fit is a fault before anything is sent", async () => {
  const { node, far, calls } = await world(async () => ({ done: "x" }));
  await assert.rejects(node.open(far).change({ id: 1 as never }), (fault) => Fault.is(fault, "payload.invalid"));
  assert.equal(calls.length, 0);
  await node.stop();
});

test("two calls of one operation in one handler have two keys, the same on every run", async () => {
  const clock = virtualClock();
  const keys: string[] = [];
  let failing = true;
  const far = external(
    "far",
    { retry: false, breaker: false },
    { change: mutation({ input: Input, returns: Result }, async (_input, { key }) => (keys.push(key), { done: key })) },
  );
  const work = queue("work", { input: Input, uses: { far }, retry: { attempts: 2, from: "1s", upTo: "1s" } }, async (message, { far }) => {
    await far.change(message);
    await far.change(message);
    if (failing) {
      failing = false;
      throw new Error("after both");
    }
  });
  await using node = await start(app("test", [work]), { store: "memory:", log: () => undefined, clock });
  await node.open(work).send({ id: "a" });
  await until(clock, node, 5);
  assert.equal(keys.length, 2, "answers are remembered over a run that failed later");
  assert.equal(new Set(keys).size, 2);
});

test("bad options are faults that name the option", () => {
  assert.throws(
    () => external("x", { url: "localhost:1" }, {}),
    (fault) => Fault.is(fault, "external.bad-url") && fault.message.includes('external "x": url'),
  );
  assert.throws(
    () => external("x", { timeout: "soon" as never }, {}),
    (fault) => Fault.is(fault, "quantity.not-a-duration"),
  );
  assert.throws(
    () => external("x", { retry: { attempts: 0 } }, {}),
    (fault) => Fault.is(fault, "option.out-of-range"),
  );
  assert.throws(
    () => external("x", { concurrency: 0 }, {}),
    (fault) => Fault.is(fault, "option.out-of-range") && fault.message.includes('external "x": concurrency'),
  );
  assert.throws(
    () => external("x", { breaker: { failureRate: 2 } }, {}),
    (fault) => Fault.is(fault, "option.out-of-range"),
  );
});

test("[F16] branches that come to their calls in another order on the next run get their own answers, and nothing is called twice", async () => {
  const calls: string[] = [];
  const far = external(
    "far",
    { retry: false, breaker: false },
    {
      change: mutation({ input: Input, returns: Result }, async ({ id }, { key }) => {
        calls.push(key);
        return { done: id };
      }),
    },
  );
  const node = await testNode();
  const id = node.ids.next();
  const run = async (order: readonly string[], attempt: number) => {
    const [row] = await node.store.read.records([journalKey(id)]);
    return execute({
      node,
      component: { kind: "queue", name: "worker" } as Component,
      operation: "",
      mode: "durable",
      uses: { far },
      id,
      attempt,
      timeoutMs: 1_000,
      journal: row && decodeJournal(row.value, row.version),
      run: async (uses: object, context: WorkContext) => {
        const { far: handle } = uses as { readonly far: { change(input: { id: string }): Promise<{ done: string }> } };
        const answers = await Promise.all(order.map(async (one) => [one, (await handle.change({ id: one })).done] as const));
        await context.step("last", async () => {
          if (attempt === 1) throw new Error("the process dies");
        });
        return answers;
      },
      conclude: () => ({ keep: true, end: "ok" as const }),
      fail: () => ({ keep: false, end: "fault" as const, journal: "save" as const }),
    });
  };

  await run(["a", "b", "a"], 1);
  const ended = await run(["b", "a", "a"], 2);

  assert.deepEqual(ended, {
    kind: "answered",
    answer: [
      ["b", "b"],
      ["a", "a"],
      ["a", "a"],
    ],
  });
  assert.deepEqual([calls.length, new Set(calls).size], [3, 3]);
});

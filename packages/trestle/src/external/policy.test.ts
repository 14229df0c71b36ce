/** The gates of one's own before a system outside: where they stand, and what their declining means. */
import assert from "node:assert/strict";
import { after, test } from "node:test";
import { z } from "zod";
import { app, start, type Node } from "../app/index.ts";
import { Fault, sleep, virtualClock, type VirtualClock } from "../kernel/index.ts";
import { throttle } from "../limits/index.ts";
import { queue } from "../messaging/index.ts";
import { adaptiveThrottle, breaker, bulkhead, deadline, declined, gatePolicy, hedge, pipeline, retry, timeout, type Policy } from "../resilience/index.ts";
import { get, service } from "../service/index.ts";
import { external, mutation, query, type ExternalSpec, type MutationSpec, type Wire } from "./index.ts";

const Input = z.object({ id: z.string() });
const Result = z.object({ done: z.string() });
type MakePolicy = NonNullable<ExternalSpec["policy"]>;

const nodes: Node[] = [];
after(async () => {
  for (const node of nodes) await node.stop(); // also those of a test that failed
});

/** A job that changes something, and says so of what it hears. */
async function world(
  policy: MakePolicy,
  {
    behave = async ({ id }) => ({ done: id }),
    spec,
    lookup,
    attempts = 1,
  }: {
    readonly behave?: (input: { readonly id: string }, wire: Wire) => Promise<unknown>;
    readonly spec?: Partial<ExternalSpec>;
    readonly lookup?: NonNullable<MutationSpec<typeof Input, typeof Result>["lookup"]>;
    readonly attempts?: number;
  } = {},
) {
  const clock = virtualClock();
  const calls: { readonly id: string; readonly atMs: number }[] = [];
  const endings: string[] = [];
  const asked = (input: { readonly id: string }, wire: Wire) => {
    calls.push({ id: input.id, atMs: clock.monotonicMs() });
    return behave(input, wire);
  };
  const far = external(
    "far",
    { retry: false, timeout: "5s", policy, ...spec },
    {
      change: mutation({ input: Input, returns: Result, ...(lookup && { lookup }) }, asked),
      look: query({ input: Input, returns: Result }, asked),
    },
  );
  const work = queue("work", { input: Input, uses: { far }, retry: { attempts, from: "1s", upTo: "1s" } }, async (message, { far }) => {
    try {
      endings.push((await far.change(message)).done);
    } catch (fault) {
      endings.push(Fault.is(fault) ? fault.code : String(fault));
      throw fault;
    }
  });
  const door = service("door", {}, { open: get("/", {}, () => "open") }); // so that there is a socket to ask for metrics
  const node = await start(app("test", [work, door]), { store: "memory:", log: () => undefined, clock });
  nodes.push(node);
  const { look, change } = node.open(far);
  const text = async (path: string) => (await fetch(`${node.url}/_trestle/${path}`)).text();
  const metric = async (series: string) => {
    await text("metrics"); // queues are found with the first look
    return Number(new RegExp(`^${series.replace(/[{}]/g, "\\$&")} (\\d+)`, "m").exec(await text("metrics"))?.[1] ?? 0);
  };
  return { node, clock, calls, endings, look, change, work, text, metric };
}
const codeOf = (thrown: unknown) => (Fault.is(thrown) ? thrown.code : String(thrown));
const ended = (call: Promise<{ done: string }>) => call.then(({ done }) => done, codeOf);
async function seconds(clock: VirtualClock, node: Node, many: number): Promise<void> {
  for (let second = 0; second < many; second++) await clock.advance(1_000);
  await node.idle();
}

test("a throttle as policy lets calls out at its rate, in their order, and by the clock of the node", async () => {
  const { clock, calls, look } = await world((node) => throttle({ ...node, rate: "10/s", burst: 1, wait: "2s" }));

  const answers = ["a", "b", "c", "d"].map((id) => ended(look({ id })));
  await clock.advance(1_000);

  assert.deepEqual(await Promise.all(answers), ["a", "b", "c", "d"]);
  const [first] = calls;
  assert.deepEqual(
    calls.map(({ id, atMs }) => [id, Math.round(atMs - (first?.atMs ?? 0))]),
    [
      ["a", 0],
      ["b", 100],
      ["c", 200],
      ["d", 300],
    ],
  );
});

test("what the policy declines was not called: a query gets the gate's code, a mutation `external.unreachable`; it is not tried again, counts by its code, and opens no breaker", async () => {
  const { calls, look, change, metric, text } = await world((node) => throttle({ ...node, rate: "1/s", burst: 1 }), {
    spec: { retry: { attempts: 3, budget: "100%" }, breaker: { failureRate: 0.1 } },
  });

  const outcomes = [await ended(look({ id: "a" }))];
  for (let i = 0; i < 30; i++) outcomes.push(await ended(look({ id: "b" })), await ended(change({ id: "c" })));

  assert.deepEqual([outcomes[0], new Set(outcomes.slice(1)), calls.length], ["a", new Set(["limiter.exceeded", "external.unreachable"]), 1]);
  const thrown = await change({ id: "c" }).catch((fault: unknown) => fault);
  assert.ok(Fault.is(thrown, "external.unreachable") && Fault.is(thrown.cause, "limiter.exceeded"));
  assert.match(thrown.message, /external "far", change was not called: external "far": calls go out no faster/);
  assert.ok((thrown.details["retryAfterMs"] as number) > 0, "when to come back is told");
  assert.equal(await metric('trestle_calls_declined_total{component="far",reason="limiter.exceeded"}'), 61);
  assert.equal(await metric('trestle_breaker_state{component="far"}'), 0);
  assert.doesNotMatch(await text("metrics"), /trestle_failures_total\{component="far"/);
  const { gates } = JSON.parse(await text("graph.json")) as { gates: readonly { component: string; gate: string; decisions: Record<string, number> }[] };
  const calling = gates.find(({ component, gate }) => component === "far" && gate === "calls");
  assert.deepEqual(Object.keys(calling?.decisions ?? {}), ["limiter.exceeded"]);
});

test("[F16] a mutation that the policy declines leaves nothing that may have been done: the job's next try calls, and out of tries it has failed", async () => {
  const again = await world((node) => throttle({ ...node, rate: "0.5/s", burst: 1 }), { attempts: 5 });
  await again.look({ id: "takes the token" });
  await again.node.open(again.work).send({ id: "a" });
  await seconds(again.clock, again.node, 5);
  assert.deepEqual([again.endings[0], again.endings.at(-1), again.calls.filter(({ id }) => id === "a").length], ["external.unreachable", "a", 1]);

  const never = await world((node) => throttle({ ...node, rate: "1/d", burst: 1 }));
  await never.look({ id: "takes the token" });
  await never.node.open(never.work).send({ id: "a" });
  await seconds(never.clock, never.node, 3);
  assert.deepEqual(never.endings, ["external.unreachable"]);
  assert.deepEqual(
    [await never.metric('trestle_queue_jobs{queue="work",state="undetermined"}'), await never.metric('trestle_queue_jobs{queue="work",state="dead"}')],
    [0, 1],
  );
});

test("[F16] a decline tells nothing of the attempt before it, whatever its code: what may have arrived stays unknown, and what did not is no answer", async () => {
  for (const code of ["limiter.exceeded", "external.refused", "external.outcome-unknown"]) {
    let lets = 1;
    const gate = {
      refused: code,
      enter: () => (lets-- > 0 ? 0 : declined),
      fault: () => Fault.create(code as "external.refused", "not now", "Wait.", { details: { status: 402 } }),
    };
    const { endings, calls, work, node, clock } = await world(() => gatePolicy("own", gate), {
      behave: async () => {
        throw new Error("reset");
      },
      spec: { retry: { attempts: 2, budget: "100%" } },
    });
    await node.open(work).send({ id: "a" });
    await seconds(clock, node, 2);
    await node.open(work).send({ id: "b" });
    await seconds(clock, node, 2);

    assert.equal(calls.length, 1);
    assert.deepEqual(endings, ["external.outcome-unknown", code === "external.refused" ? code : "external.unreachable"], code);
  }
});

test("[F16] a lookup that the policy declines has not been asked: the call is not made again", async () => {
  const log: string[] = [];
  const { node, clock, endings, work } = await world((of) => throttle({ ...of, rate: "1/d", burst: 1 }), {
    behave: async () => {
      log.push("call");
      throw new Error("reset");
    },
    lookup: async () => (log.push("lookup"), undefined),
    attempts: 3,
  });

  await node.open(work).send({ id: "a" });
  await seconds(clock, node, 5);

  assert.deepEqual([log, new Set(endings)], [["call"], new Set(["external.outcome-unknown"])]);
});

test("the policy stands behind breaker and places: what they decline takes nothing of it, and who waits in it holds a place", async () => {
  let seen = 0;
  const counting: MakePolicy = ({ clock }) =>
    gatePolicy("own", { refused: "own.declined", enter: () => (seen++, 0), fault: () => Fault.create("own.declined", "no", "none") }, clock);
  const shut = await world(counting, {
    behave: async () => {
      throw new Error("reset");
    },
  });
  for (let i = 0; i < 25; i++) await ended(shut.look({ id: "a" }));
  assert.deepEqual([seen, await shut.metric('trestle_calls_declined_total{component="far",reason="breaker-open"}')], [20, 5]);

  const { clock, look, calls, metric } = await world((node) => throttle({ ...node, rate: "1/s", burst: 1, wait: "3s" }), {
    spec: { concurrency: 2 },
    behave: async ({ id }) => (await sleep(clock, 100), { done: id }),
  });
  const answers = ["a", "b", "c"].map((id) => ended(look({ id })));
  await clock.advance(500); // a has ended, b and c wait for the throttle
  assert.deepEqual([calls.length, await metric('trestle_bulkhead_in_flight{component="far"}')], [1, 2]);
  await clock.advance(3_000);
  assert.deepEqual([await Promise.all(answers), await metric('trestle_bulkhead_in_flight{component="far"}')], [["a", "b", "c"], 0]);
});

test("an attempt whose time is over while it waits in the policy was not called, and opens no breaker", async () => {
  const { clock, calls, look, change, metric } = await world((node) => throttle({ ...node, rate: "0.1/s", burst: 1, wait: "1m" }), {
    spec: { timeout: "20s", breaker: { failureRate: 0.1 } },
  });
  await look({ id: "takes the token" });
  const answers = Array.from({ length: 25 }, () => ended(change({ id: "a" })));

  await clock.advance(60_000);

  const outcomes = await Promise.all(answers);
  assert.deepEqual(new Set(outcomes), new Set(["a", "external.unreachable"]));
  assert.equal(calls.length, 1 + outcomes.filter((outcome) => outcome === "a").length);
  assert.equal(await metric('trestle_breaker_state{component="far"}'), 0);
});

test("several gates of a policy are asked in their order, each hears how the call ended, and the health check passes none of them", async () => {
  const heard: string[] = [];
  const own = (name: string) =>
    gatePolicy(name, {
      refused: "own.declined",
      enter: () => (heard.push(`${name} enters`), 0),
      fault: () => Fault.create("own.declined", "no", "none"),
      answered: (_caller, _token, answer) => heard.push(`${name} ${answer}`),
    });
  const { node, calls, look, clock } = await world(() => pipeline(own("first"), own("second")), {
    spec: { breaker: false, health: { ask: "look", input: { id: "check" }, every: "1s" } } as Partial<ExternalSpec>,
  });
  await clock.advance(3_000);
  assert.ok(calls.length > 1 && calls.every(({ id }) => id === "check"), "its health was asked");
  assert.deepEqual(heard, []);

  await look({ id: "a" });

  assert.deepEqual(heard, ["first enters", "second enters", "first well", "second well"]);
  await node.stop();
});

test("each node has a policy of its own", async () => {
  const made: object[] = [];
  const far = external(
    "far",
    { policy: (node) => (made.push(node.clock), throttle({ ...node, rate: "1/d", burst: 1 })) },
    { look: query({ input: Input, returns: Result }, async ({ id }) => ({ done: id })) },
  );
  const work = queue("work", { input: Input, uses: { far } }, async () => undefined);
  const clocks = [virtualClock(), virtualClock()] as const;
  for (const clock of clocks) nodes.push(await start(app("test", [work]), { store: "memory:", log: () => undefined, clock }));
  const [one, other] = nodes.slice(-2) as [Node, Node];

  const outcomes = [];
  for (const node of [one, one, other, other]) outcomes.push(await ended(node.open(far).look({ id: "a" })));

  assert.deepEqual(outcomes, ["a", "limiter.exceeded", "a", "limiter.exceeded"]);
  assert.equal(new Set(made).size, 3, "each by its own clock, and one on trial");
});

test("what is no policy, or makes or bounds attempts of its own, is refused where it is declared", () => {
  const declare = (policy: unknown) => external("x", { policy: policy as MakePolicy }, {});
  const refused: readonly [unknown, RegExp, RegExp][] = [
    [throttle({ rate: "1/s" }), /external "x": policy must be a function that makes one for each node, got a policy/, /throttle\(\{ \.\.\.node/],
    [{ rate: "1/s" }, /external "x": policy must be a function .* got object/, /\(node\) =>/],
    [() => undefined, /external "x": policy must return a policy, got undefined/, /pipeline/],
    [() => [breaker()], /external "x": policy must return a policy, got object/, /pipeline/],
    [() => retry(), /external "x": policy may hold gates only .* got retry/, /option retry/],
    [() => pipeline(bulkhead({ running: 1 }), timeout("1s")), /gates only .* got timeout/, /option timeout/],
    [() => deadline("1s"), /gates only .* got deadline/, /option timeout/],
    [() => pipeline(hedge({ after: "10ms" }), breaker()), /gates only .* got hedge/, /option hedge/],
  ];
  for (const [policy, message, remedy] of refused)
    assert.throws(
      () => declare(policy),
      (fault) => Fault.is(fault, "external.bad-policy") && message.test(fault.message) && remedy.test(fault.remedy),
      String(message),
    );
  assert.throws(
    () => external("x", { policy: (node) => throttle({ ...node, rate: "1/s", wait: 0 }) }, {}),
    (fault) => Fault.is(fault, "option.out-of-range") && fault.message.includes('external "x": wait'),
  );
  const every: readonly MakePolicy[] = [
    (node) => throttle({ ...node, rate: "1/s" }),
    (node) => pipeline(breaker({ ...node, per: "key" }), bulkhead({ ...node, running: 2 }), adaptiveThrottle(node)),
    () => pipeline() as Policy<string>,
  ];
  for (const policy of every) assert.equal(declare(policy).kind, "external");
});

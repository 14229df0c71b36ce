/** Admission of requests, on a virtual clock: who is worked on when there are more than there is room for, and what those hear who are not. Over 400 lines because all of them ask one gate, of whose set-up each needs most. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { z } from "zod";
import { testNode, type TestNode } from "../component/testing.ts";
import { boundLog, Fault, seededRandom, sleep, systemClock, virtualClock } from "../kernel/index.ts";
import { bulkhead, pipeline } from "../resilience/index.ts";
import { get, post, service, sse, type Admission, type Limit } from "./index.ts";
import { serviceRoutes, type ArrivedRequest, type FetchHandler, type Peer } from "./routes.ts";

const seed = process.env["SEED"] ?? "admission-1";

interface Decision {
  readonly priority: string;
  readonly decision: string;
}
async function observed(): Promise<{
  readonly node: TestNode;
  readonly decisions: Decision[];
  readonly warnings: object[];
  readonly look: () => object | undefined;
}> {
  const made = await testNode({ clock: virtualClock(), seed });
  const decisions: Decision[] = [];
  const warnings: object[] = [];
  let look: (() => object) | undefined;
  const log = () => boundLog({ log: (level, message, facts) => void (level === "warn" && warnings.push({ message, ...facts })) });
  const observer = {
    ...made.observer,
    admits: (_component: string, asked: () => object) => void (look = asked),
    admission: (_component: string, priority: string, decision: string) => void decisions.push({ priority, decision }),
  };
  return { node: { ...made, observer, log }, decisions, warnings, look: () => look?.() };
}

function request(
  method: string,
  path: string,
  of: { readonly headers?: Readonly<Record<string, string>>; readonly body?: string; readonly sent?: Promise<void>; readonly signal?: AbortSignal } = {},
) {
  const asked = { bodyRead: false };
  const headers: Readonly<Record<string, string>> = {
    ...of.headers,
    ...(of.body !== undefined && { "content-type": "application/json", "content-length": String(of.body.length) }),
  };
  const arrived: ArrivedRequest = {
    method,
    url: `http://shop${path}`,
    headers: { get: (name) => headers[name] ?? null },
    body: null,
    signal: of.signal ?? new AbortController().signal,
    async text() {
      asked.bodyRead = true;
      await of.sent;
      return of.body ?? "";
    },
  };
  return { arrived, asked };
}

const settled = async (node: TestNode, forMs = 1) => {
  await node.clock.advance(forMs);
  for (let turn = 0; turn < 5; turn++) await new Promise<void>((done) => systemClock.soon(done));
};

/** A dependency that works on ten at once, 10 to 30 ms each, and lets everybody else wait: 500 a second. */
async function overloaded(
  admission: Admission | undefined,
  callers: readonly { readonly name: string; readonly path: string; readonly perSecond: number; readonly tenant?: string }[],
) {
  const { node, look } = await observed();
  const dependency = bulkhead({ running: 10, waiting: 10_000_000, clock: node.clock, random: seededRandom(seed) });
  const chance = seededRandom(`${seed} dependency`);
  const asked = pipeline({ clock: node.clock }, dependency);
  const ask = () => asked(() => sleep(node.clock, 10 + 20 * chance.next()), { priority: "normal" });
  const done = async () => (await ask(), { done: true });
  const shop = service("shop", admission ? { admission } : {}, {
    pay: get("/pay", { priority: "high" }, done),
    look: get("/look", {}, done),
    prefetch: get("/prefetch", { priority: "low" }, done),
  });
  const routes = serviceRoutes([shop], node);
  const random = seededRandom(`${seed} load`);
  const tally = Object.fromEntries(callers.map(({ name }) => [name, { came: 0, well: 0, latenciesMs: [] as number[], statuses: new Map<number, number>() }]));
  let open = 0;
  /** Whoever neither waits for a place nor for the dependency is on its way through the service: time stands still for it, however busy the machine is. */
  const onTheirWay = () => open - dependency.inFlight - dependency.waiting - ((look() as { readonly waiting: number } | undefined)?.waiting ?? 0);
  const forMs = 3_000;
  for (let ms = 0; ms < forMs + 1_500; ms++) {
    for (const { name, path, perSecond, tenant } of ms < forMs ? callers : []) {
      const of = tally[name] as (typeof tally)[string];
      for (let coming = perSecond / 1_000; coming > random.next(); coming--) {
        const cameMs = node.clock.monotonicMs();
        of.came++;
        open++;
        void routes(request("GET", path).arrived, { tenant, address: "192.0.2.1" }).then(({ status }) => {
          open--;
          const tookMs = node.clock.monotonicMs() - cameMs;
          of.statuses.set(status, (of.statuses.get(status) ?? 0) + 1);
          if (status === 200 && tookMs <= 500) of.well++;
          if (status === 200) of.latenciesMs.push(tookMs);
        });
      }
    }
    await node.clock.advance(1);
    while (onTheirWay() > 0) await new Promise<void>((done) => systemClock.soon(done));
  }
  return tally;
}

test("[RES-07] at twelve times what there is room for at least 99 % of critical requests are answered in time; without priorities, and without admission, they are not", async () => {
  const load = [
    { name: "critical", path: "/pay", perSecond: 200 },
    { name: "prefetch", path: "/prefetch", perSecond: 5_800 },
  ];
  for (const running of [10, "adaptive"] as const) {
    const { critical, prefetch } = await overloaded({ running }, load);
    assert.ok(critical && prefetch);
    assert.ok(critical.well >= 0.99 * critical.came, `SEED=${seed}, ${running}: ${critical.well} of ${critical.came}`);
    assert.ok(
      critical.well + prefetch.well >= 0.9 * 3 * 500,
      `SEED=${seed}, ${running}: ${critical.well + prefetch.well} answered in 3 s, 1,500 are what there is room for`,
    );
    assert.deepEqual([...prefetch.statuses.keys()].toSorted(), [200, 503]);
  }
  const alike = await overloaded(
    { running: 10, order: "fifo" },
    load.map((caller) => ({ ...caller, path: "/look" })),
  );
  assert.ok((alike["critical"]?.well as number) < 0.5 * (alike["critical"]?.came as number), "the control without priorities");
  const unbounded = await overloaded(undefined, load);
  assert.ok((unbounded["critical"]?.well as number) < 0.5 * (unbounded["critical"]?.came as number), "the control without admission");
});

test("[RES-07] a tenant's requests are admitted beside another one's that are a hundred times as many, and wait for no more than a turn", async () => {
  const load = [
    { name: "quiet", path: "/look", perSecond: 50, tenant: "quiet" },
    { name: "busy", path: "/look", perSecond: 5_000, tenant: "busy" },
  ];
  const p99 = ({ latenciesMs }: { readonly latenciesMs: readonly number[] }) =>
    latenciesMs.toSorted((a, b) => a - b)[Math.floor(latenciesMs.length * 0.99)] as number;
  const { quiet } = await overloaded({ running: 10 }, load);
  assert.equal(quiet?.well, quiet?.came, `SEED=${seed}: ${JSON.stringify([...(quiet?.statuses ?? [])])}`);
  const alone = await overloaded({ running: 10 }, load.slice(0, 1));
  const [beside, idle] = [p99(quiet as never), p99(alone["quiet"] as never)];
  assert.ok(beside <= 1.4 * idle, `SEED=${seed}: ${beside} ms beside it, ${idle} alone; a place comes free each 2 ms, and who comes within that waits`);
  const fifo = await overloaded({ running: 10, order: "fifo" }, load);
  assert.ok((fifo["quiet"]?.well as number) < 0.5 * (fifo["quiet"]?.came as number), "the control in the order in which they come");
});

/** A service whose handlers stay until they are let go. */
async function held(admission: Admission, limit?: Limit | readonly Limit[], limited?: (limit: string, decision: string) => void) {
  const { node: made, decisions, warnings, look } = await observed();
  const node = limited
    ? {
        ...made,
        observer: { ...made.observer, limited: (_component: string, _operation: string, limit: string, decision: string) => limited(limit, decision) },
      }
    : made;
  const handlers: (() => void)[] = [];
  const stay = () => new Promise<{ done: true }>((resolve) => handlers.push(() => resolve({ done: true })));
  const shop = service(
    "shop",
    { admission, ...(limit && { limit }) },
    {
      order: post("/orders", { body: z.object({ n: z.number() }) }, stay),
      look: get("/look", {}, stay),
      fails: get("/fails", {}, async () => {
        await stay();
        throw new Error("broken");
      }),
      watch: sse("/watch", {}, async function* () {
        yield { n: 1 };
        await stay();
      }),
    },
  );
  const routes: FetchHandler = serviceRoutes([shop], node);
  const answers: { readonly name: string; readonly response: Response }[] = [];
  const ask = (name: string, method: string, path: string, of: Parameters<typeof request>[2] = {}, peer: Peer = { address: "192.0.2.1" }) => {
    const { arrived, asked } = request(method, path, of);
    void routes(arrived, peer).then((response) => answers.push({ name, response }));
    return asked;
  };
  return { node, decisions, warnings, look, handlers, answers, ask };
}

test("[RES-07] a declined request is told the reason, the priority and when to come back; its body is not read, nothing is done, and its limits have what it took", async () => {
  const { node, decisions, look, handlers, answers, ask } = await held({ running: 1, waiting: 1, codel: false }, { per: "everyone", rate: "1/h", burst: 3 });
  const one = { body: '{"n":1}' };
  ask("works", "POST", "/orders", one);
  await settled(node);
  ask("waits", "POST", "/orders", one);
  await settled(node);
  const unread = ask("declined", "POST", "/orders", one);
  await settled(node);
  assert.deepEqual([answers.map(({ name }) => name), unread.bodyRead, handlers.length], [["declined"], false, 1]);
  const { response } = answers[0] as { readonly response: Response };
  const problem = (await response.json()) as Record<string, unknown>;
  assert.deepEqual([response.status, response.headers.get("retry-after"), response.headers.get("content-type")], [503, "1", "application/problem+json"]);
  assert.deepEqual([problem["code"], problem["reason"], problem["priority"]], ["request.not-admitted", "full", "normal"]);
  assert.ok((problem["retryAfterMs"] as number) >= 1);
  assert.match(String(problem["detail"]), /shop\.order takes no more requests now: as many wait as may \(1 of 1 are worked on, 1 wait\)\. Nothing was done/);
  assert.deepEqual(look(), { running: 1, places: 1, waiting: 1, overdue: 0 });

  handlers.shift()?.();
  await settled(node);
  handlers.shift()?.();
  await settled(node);
  ask("again", "POST", "/orders", one); // the third of three an hour: the declined one took none
  await settled(node);
  handlers.shift()?.();
  await settled(node);
  assert.deepEqual(
    answers.map(({ name, response: { status } }) => `${name} ${status}`),
    ["declined 503", "works 200", "waits 200", "again 200"],
  );
  assert.deepEqual(
    decisions.map(({ priority, decision }) => `${priority} ${decision}`),
    ["normal admitted", "normal full", "normal admitted", "normal admitted"],
  );
});

test("a tenant whose requests fill the line is told that it is its own share, with a 429; a more urgent request takes a less urgent one's place", async () => {
  const { node, answers, ask } = await held({ running: 1, waiting: 3, codel: false });
  for (let n = 0; n < 4; n++) ask(`busy ${n}`, "GET", "/look", {}, { tenant: "busy" });
  await settled(node);
  ask("quiet", "GET", "/look", {}, { tenant: "quiet" });
  await settled(node);
  ask("lower", "GET", "/look", { headers: { "trestle-priority": "low" } }, { tenant: "quiet" });
  await settled(node);
  const told = await Promise.all(
    answers.map(async ({ name, response }) => `${name} ${response.status} ${String(((await response.json()) as { reason: unknown }).reason)}`),
  );
  assert.deepEqual(told, ["busy 3 429 share", "lower 503 full"]);
});

test("who waits goes when the longest wait, its own time or its caller is over; what a broken handler held is free again; a stream holds its place until it is open", async () => {
  const { node, decisions, look, handlers, answers, ask } = await held({ running: 1, waiting: 10, wait: "200ms", codel: false });
  const caller = new AbortController();
  ask("fails", "GET", "/fails");
  await settled(node);
  ask("waits", "GET", "/look");
  ask("short of time", "GET", "/look", { headers: { "trestle-deadline-ms": "50" } });
  ask("leaves", "GET", "/look", { signal: caller.signal });
  await settled(node, 100);
  caller.abort(new DOMException("gone", "AbortError"));
  await settled(node, 150);
  assert.deepEqual(
    decisions.map(({ decision }) => decision),
    ["admitted", "late", "left", "waited"],
  );
  handlers.shift()?.();
  await settled(node);
  ask("watch", "GET", "/watch");
  await settled(node);
  assert.deepEqual(look(), { running: 0, places: 1, waiting: 0, overdue: 0 });
  assert.deepEqual(
    answers.map(({ name, response: { status } }) => `${name} ${status}`),
    ["short of time 503", "leaves 503", "waits 503", "fails 500", "watch 200"],
  );
});

test("a handler that goes on after its caller has gone, or its time is over, holds its place until it has ended", async () => {
  const { node, look, handlers, answers, ask } = await held({ running: 2, waiting: 10, codel: false });
  const caller = new AbortController();
  ask("leaves", "GET", "/look", { signal: caller.signal });
  ask("late", "GET", "/look", { headers: { "trestle-deadline-ms": "50" } });
  ask("breaks", "GET", "/fails", { headers: { "trestle-deadline-ms": "400" } });
  await settled(node);
  caller.abort(new DOMException("gone", "AbortError"));
  await settled(node, 100);
  assert.deepEqual([answers.map(({ name }) => name).toSorted(), look()], [["late", "leaves"], { running: 2, places: 2, waiting: 1, overdue: 2 }]);

  handlers.shift()?.();
  await settled(node);
  assert.deepEqual([handlers.length, look()], [2, { running: 2, places: 2, waiting: 0, overdue: 1 }]);
  await settled(node, 400);
  assert.deepEqual([answers.length, look()], [3, { running: 2, places: 2, waiting: 0, overdue: 2 }]);
  for (const end of handlers) end();
  await settled(node);
  assert.deepEqual(look(), { running: 0, places: 2, waiting: 0, overdue: 0 });
});

test("places of handlers that do not end are told: once from the first one until there is none, as a number, and to those who are declined", async () => {
  const { node, look, handlers, answers, warnings, ask } = await held({ running: 2, waiting: 0 });
  const hang = (name: string) => ask(name, "GET", "/look", { headers: { "trestle-deadline-ms": "50" } });
  hang("soon");
  await settled(node, 100);
  handlers.shift()?.();
  await settled(node, 2_000);
  assert.deepEqual(warnings, [], "it ended soon after");

  const since = new Date(node.clock.wallMs() + 50).toISOString();
  hang("first");
  hang("second");
  await settled(node, 60);
  await settled(node, 5_000);
  const told = { message: "shop.look goes on though nobody waits for it any more, and holds its place", since, overdue: 2, places: 2 };
  assert.deepEqual([warnings, look()], [[told], { running: 2, places: 2, waiting: 0, overdue: 2 }]);
  ask("declined", "GET", "/look");
  await settled(node);
  const { detail } = (await answers.at(-1)?.response.json()) as { readonly detail: string };
  assert.match(detail, /\(2 of 2 are worked on, 2 of them though nobody waits for them any more, 0 wait\)/);

  for (const end of handlers.splice(0)) end();
  await settled(node);
  assert.deepEqual(look(), { running: 0, places: 2, waiting: 0, overdue: 0 });
  hang("third");
  await settled(node, 5_000);
  assert.equal(warnings.length, 2);
});

test("a body that comes slowly holds no place: it is read without one, and stands in the line again when it is there", async () => {
  const { node, decisions, look, handlers, answers, ask } = await held({ running: 1, waiting: 10, codel: false }, { per: "everyone", rate: "1/h", burst: 4 });
  const sending = [Promise.withResolvers<void>(), Promise.withResolvers<void>()] as const;
  for (const { promise } of sending) ask("slow", "POST", "/orders", { body: '{"n":1}', sent: promise });
  await settled(node);
  assert.deepEqual(look(), { running: 1, places: 1, waiting: 1, overdue: 0 });
  await settled(node, 250);
  assert.deepEqual(look(), { running: 0, places: 1, waiting: 0, overdue: 0 });

  ask("quick", "POST", "/orders", { body: '{"n":2}' });
  await settled(node);
  sending[0].resolve();
  sending[1].resolve();
  await settled(node);
  assert.deepEqual([handlers.length, look()], [1, { running: 1, places: 1, waiting: 2, overdue: 0 }]);
  await settled(node, 2_000);
  handlers.shift()?.();
  await settled(node);
  assert.deepEqual(
    [answers.map(({ name, response: { status } }) => `${name} ${status}`), look()],
    [["slow 503", "slow 503", "quick 200"], { running: 0, places: 1, waiting: 0, overdue: 0 }],
  );
  assert.deepEqual(
    decisions.map(({ decision }) => decision),
    ["admitted", "waited", "waited"],
    "each is counted once, when it is known",
  );
  // Two of them were declined after all, and left what they took from the limit.
  for (const name of ["third", "fourth"]) {
    ask(name, "POST", "/orders", { body: '{"n":3}' });
    await settled(node);
    handlers.shift()?.();
    await settled(node);
  }
  assert.deepEqual(
    answers.slice(3).map(({ response: { status } }) => status),
    [200, 200],
  );
});

test("as many bodies are read without a place as may be worked on and wait; the next one that comes slowly is declined and cut off, and who sends promptly is not held up", async () => {
  const { node, decisions, look, handlers, answers, ask } = await held({ running: 1, waiting: 1, codel: false }, { per: "everyone", rate: "1/h", burst: 4 });
  const sending = Array.from({ length: 3 }, () => Promise.withResolvers<void>());
  for (const { promise } of sending) {
    ask("slow", "POST", "/orders", { body: '{"n":1}', sent: promise });
    await settled(node, 150);
  }
  const [first] = answers as [(typeof answers)[number]];
  assert.deepEqual(
    [answers.length, first.response.status, first.response.headers.get("connection"), look()],
    [1, 503, "close", { running: 0, places: 1, waiting: 0, overdue: 0 }],
  );
  const problem = (await first.response.json()) as Record<string, unknown>;
  assert.deepEqual([problem["reason"], String(problem["detail"]).includes("its body comes slowly")], ["full", true]);

  ask("prompt", "POST", "/orders", { body: '{"n":2}' });
  await settled(node);
  handlers.shift()?.();
  await settled(node);
  sending[0]?.resolve();
  await settled(node);
  ask("slow again", "POST", "/orders", { body: '{"n":3}', sent: (sending[2] as (typeof sending)[number]).promise });
  handlers.shift()?.();
  await settled(node, 150);
  sending[1]?.resolve();
  sending[2]?.resolve();
  await settled(node);
  while (handlers.length > 0) {
    handlers.shift()?.();
    await settled(node);
  }
  assert.deepEqual(
    answers.map(({ name, response: { status } }) => `${name} ${status}`),
    ["slow 503", "prompt 200", "slow 200", "slow 200", "slow again 200"],
  );
  assert.deepEqual(
    decisions.map(({ decision }) => decision),
    ["full", "admitted", "admitted", "admitted", "admitted"],
  );
});

test("whom admission declines takes nothing from limits, those in a dry run neither", async () => {
  const refusals: string[] = [];
  const limit = [
    { per: "everyone", rate: "1/h", burst: 2 },
    { per: "address", rate: "1/h", burst: 2, dryRun: true },
  ] as const;
  const { node, handlers, answers, ask } = await held({ running: 1, waiting: 0, codel: false }, limit, (name, decision) =>
    refusals.push(`${name} ${decision}`),
  );
  for (let n = 0; n < 4; n++) {
    ask("works", "GET", "/look");
    await settled(node);
  }
  handlers.shift()?.();
  await settled(node);
  ask("again", "GET", "/look");
  await settled(node);
  handlers.shift()?.();
  await settled(node);
  assert.deepEqual(
    answers.map(({ response: { status } }) => status),
    [503, 503, 503, 200, 200],
  );
  assert.deepEqual([...new Set(refusals)].toSorted(), ["service-address admitted", "service-everyone admitted"]);
});

test("what is wrong with an admission is said where it is declared", () => {
  const wrong = (admission: Admission) => () => service("shop", { admission }, { look: get("/look", {}, () => ({})) });
  const isOutOfRange = (thrown: unknown) => Fault.is(thrown, "option.out-of-range");
  for (const running of [0, Infinity, NaN])
    assert.throws(wrong({ running }), (thrown) => isOutOfRange(thrown) && (thrown as Error).message.startsWith('service "shop": admission.running '));
  assert.throws(wrong({ waiting: -1 }), isOutOfRange);
  assert.throws(wrong({ order: "random" as "fifo" }), isOutOfRange);
  assert.throws(wrong({ wait: "soon" as "1s" }), (thrown) => Fault.is(thrown, "quantity.not-a-duration"));
});

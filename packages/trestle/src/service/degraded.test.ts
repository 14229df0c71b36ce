import assert from "node:assert/strict";
import { after, test } from "node:test";
import { z } from "zod";
import { app, start, type Node, type StartOptions } from "../app/index.ts";
import type { RoutePolicy } from "../degradation/index.ts";
import { external, mutation, query } from "../external/index.ts";
import { Fault, virtualClock } from "../kernel/index.ts";
import { records } from "../records/index.ts";
import { StaleAnswers, variantOf } from "./degraded.ts";
import { created, get, ok, post, service, sse } from "./index.ts";

const nodes: Node[] = [];
after(async () => {
  for (const node of nodes) await node.stop();
});

const Product = z.object({ name: z.string(), price: z.number().optional() });
const orders = records("orders", { key: z.string(), value: z.object({ paid: z.boolean() }) });

/** A shop whose prices and payments are elsewhere, and may be gone. */
async function shop(routes: Readonly<Record<string, RoutePolicy>>, options: Pick<StartOptions, "store"> & { readonly mode?: "dark" | "enforce" } = {}) {
  const clock = virtualClock();
  const world = { gone: false, price: 1, asked: 0, charged: 0, half: false };
  const answer = <T>(value: () => T): Promise<T> => {
    world.asked++;
    return world.gone ? Promise.reject(Fault.create("external.unreachable", "nobody is there", "Wait.")) : Promise.resolve(value());
  };
  const far = external(
    "far",
    { retry: false, breaker: { cooldown: "5s" } },
    {
      price: query({ input: z.object({ name: z.string() }), returns: z.number() }, () => answer(() => world.price)),
      charge: mutation({ input: z.object({ order: z.string() }), returns: z.object({}) }, () =>
        answer(() => {
          world.charged++;
          if (world.half) throw new Error("the answer is lost");
          return {};
        }),
      ),
    },
  );
  const desk = service(
    "desk",
    { uses: { far, orders } },
    {
      product: get(
        "/products/:name",
        {
          returns: Product,
          degrade: {
            stale: { for: "1m" },
            partial: ({ params }) => ({ name: params.name === "none" ? raise() : params.name }),
            static: { name: "something nice" },
          },
        },
        async ({ params }, { far }) => ({ name: params.name, price: await far.price({ name: params.name }) }),
      ),
      order: post(
        "/orders/:id",
        {
          returns: z.object({ paid: z.boolean() }),
          idempotent: true,
          degrade: {
            partial: ({ params }, { orders }) => {
              orders.put(params.id, { paid: false });
              return created({ paid: false });
            },
          },
        },
        async ({ params }, { far, orders }) => {
          orders.put(params.id, { paid: true });
          await far.charge({ order: params.id });
          return created({ paid: true });
        },
      ),
      note: post(
        "/notes/:id",
        { returns: z.object({ paid: z.boolean() }), degrade: { partial: () => ({ paid: false }) } },
        async ({ params }, { far, orders }) => {
          orders.put(params.id, { paid: true });
          await far.price({ name: params.id });
          return ok({ paid: true });
        },
      ),
      follow: sse("/follow", {}, async function* () {
        yield 1;
      }),
    },
  );
  const lines: Record<string, unknown>[] = [];
  const node = await start(app("shop", [desk]), {
    store: "memory:",
    clock,
    log: (line) => lines.push(JSON.parse(line) as Record<string, unknown>),
    settings: { TRESTLE_TOKEN: token },
    degradation: { policies: { version: 1, mode: "enforce", ...(options.mode && { mode: options.mode }), routes } },
    ...(options.store && { store: options.store }),
  });
  nodes.push(node);
  const ask = async (path: string, init: RequestInit = {}) => {
    const response = await node.fetch(new Request(`http://localhost${path}`, init));
    return {
      status: response.status,
      rung: response.headers.get("trestle-degraded"),
      headers: response.headers,
      body: (await response.json()) as Record<string, unknown>,
    };
  };
  const order = (id: string, key: string) => ask(`/orders/${id}`, { method: "POST", headers: { "idempotency-key": key } });
  /** So that far's breaker is open, whoever asks. */
  const breaks = async () => {
    world.gone = true;
    for (let call = 0; call < 20; call++)
      await node
        .open(far)
        .price({ name: "x" })
        .catch(() => undefined);
    await clock.advance(100);
  };
  const metrics = async () =>
    (await (await node.fetch(new Request("http://localhost/_trestle/metrics", { headers: { authorization: `Bearer ${token}` } }))).text()).split("\n");
  return { clock, world, node, ask, order, breaks, lines, metrics };
}
const token = "only-for-this-test";
const raise = (): never => {
  throw new Error("this one fails too");
};
const opensTo = (serve: "stale" | "partial" | "static" | "unavailable") => [{ breaker: "far", serve }] as const;

test("[RES-06] a route whose dependency is gone answers with what it last had, then with less, each marked, and is whole again unaided", async () => {
  const { clock, world, ask, breaks, lines, metrics } = await shop({
    "desk.product": { ladder: ["full", "stale", "partial", "static"], dwell: "10s", when: opensTo("stale") },
  });
  assert.deepEqual((await ask("/products/cup")).body, { name: "cup", price: 1 });

  await breaks();
  world.price = 2;
  const stale = await ask("/products/cup");
  assert.deepEqual([stale.status, stale.rung, stale.body, stale.headers.get("age")], [200, "stale", { name: "cup", price: 1 }, "0"]);
  const other = await ask("/products/pot");
  assert.deepEqual([other.rung, other.body], ["partial", { name: "pot" }], "nothing was kept for it");
  const none = await ask("/products/none");
  assert.deepEqual([none.rung, none.body], ["static", { name: "something nice" }]);
  await clock.advance(61_000);
  assert.equal((await ask("/products/cup")).rung, "partial", "what it had is too old");

  world.gone = false;
  let asked = 0;
  for (let second = 0; second < 40; second++) {
    await clock.advance(1_000);
    asked += (await ask("/products/cup")).status === 200 ? 1 : 0;
  }
  const whole = await ask("/products/cup");
  assert.deepEqual([asked, whole.rung, whole.body], [40, null, { name: "cup", price: 2 }]);
  assert.deepEqual(
    lines
      .filter(({ from, operation }) => from !== undefined && operation === "product")
      .map(({ level, message, why }) => `${String(level)} ${String(message)}: ${String(why)}`),
    ["warn desk.product answers with stale: the breaker of far is open", "info desk.product is whole again: nothing has asked for stale for 10000 ms"],
  );
  const samples = await metrics();
  for (const sample of [
    'trestle_degradation_level{component="desk",operation="product"} 0',
    'trestle_degradation_changes_total{component="desk",from="full",operation="product",to="stale"} 1',
    'trestle_degraded_answers_total{component="desk",operation="product",rung="static"} 1',
  ])
    assert.ok(samples.includes(sample), `${sample}\n${samples.filter((one) => one.includes("degrad")).join("\n")}`);
});

test("a stale answer is nobody else's: not another caller's, language's or query's", async () => {
  const { ask, breaks } = await shop({ "desk.product": { ladder: ["full", "stale", "static"], when: opensTo("stale") } });
  const as = (cookie: string) => ({ headers: { cookie } });
  await ask("/products/cup", as("session=ada"));
  await breaks();

  assert.equal((await ask("/products/cup", as("session=ada"))).rung, "stale");
  for (const [path, init] of [
    ["/products/cup", as("session=grace")],
    ["/products/cup", {}],
    ["/products/cup", { headers: { cookie: "session=ada", "accept-language": "fr" } }],
    ["/products/cup?page=2", as("session=ada")],
  ] as const)
    assert.equal((await ask(path, init)).rung, "static", JSON.stringify([path, init]));
});

test("what a partial handler of an idempotent route answers is kept under the key, marked; it is not done again when the route is whole", async () => {
  const { world, node, order, breaks } = await shop({ "desk.order": { ladder: ["full", "partial"], when: opensTo("partial") } });
  await breaks();
  await order("probe", "k-probe"); // the one that is tried whole

  const first = await order("a", "k-a");
  world.gone = false;
  const again = await order("a", "k-a");

  assert.deepEqual([first.status, first.rung, first.body], [201, "partial", { paid: false }]);
  assert.deepEqual([again.status, again.rung, again.body, again.headers.get("idempotency-replayed")], [201, "partial", { paid: false }, "true"]);
  assert.deepEqual(await node.open(orders).get("a"), { paid: false });
  assert.equal(world.charged, 0);
});

test("a durable request that fails is not answered from below: it is finished by the handler that began it", async () => {
  const { world, node, order, breaks, clock } = await shop({ "desk.order": { ladder: ["full", "partial"], when: opensTo("partial") } });
  world.half = true;
  const lost = await order("a", "k-a");
  assert.deepEqual([lost.status, lost.rung], [504, null], "it may have been charged");
  await breaks();
  world.gone = world.half = false;

  await clock.advance(5_000);
  await order("probe", "k-probe");
  const finished = await order("a", "k-a");

  assert.deepEqual([finished.status, finished.rung, finished.body], [201, null, { paid: true }]);
  assert.deepEqual(await node.open(orders).get("a"), { paid: true });
});

test("a plain change that failed has left nothing behind, and is answered from below", async () => {
  const { world, node, ask } = await shop({ "desk.note": { ladder: ["full", "partial"], when: opensTo("partial") } });
  world.gone = true;

  const answered = await ask("/notes/a", { method: "POST" });

  assert.deepEqual([answered.status, answered.rung, answered.body], [200, "partial", { paid: false }]);
  assert.equal(await node.open(orders).get("a"), undefined);
});

test("a route without a rung to answer is a 503 that says when to come back, logged once; a stream is one too", async () => {
  const { ask, breaks, lines } = await shop({
    "desk.order": { ladder: ["full", "unavailable"], when: opensTo("unavailable") },
    "desk.follow": { ladder: ["full", "unavailable"], when: opensTo("unavailable") },
  });
  await breaks();

  for (let call = 0; call < 5; call++) {
    const refused = await ask("/orders/a", { method: "POST", headers: { "idempotency-key": "k" } });
    assert.deepEqual(
      [refused.status, refused.rung, refused.headers.get("retry-after"), refused.body["code"]],
      [503, "unavailable", "1", "degradation.unavailable"],
    );
  }
  assert.equal((await ask("/follow")).status, 503);
  assert.equal(lines.filter(({ operation }) => operation === "order").length, 1);
  assert.deepEqual(
    lines.filter(({ level }) => level === "error"),
    [],
  );
});

test("in dark mode nothing is answered otherwise, and what would be is told", async () => {
  const { ask, breaks, metrics, lines } = await shop({ "desk.product": { ladder: ["full", "static"], when: opensTo("static") } }, { mode: "dark" });
  await breaks();

  const failed = await ask("/products/cup");

  assert.deepEqual([failed.status, failed.rung, failed.body["code"]], [503, null, "breaker.open"]);
  assert.ok(lines.some(({ message, mode }) => message === "desk.product would answer with static" && mode === "dark"));
  const samples = await metrics();
  assert.ok(samples.includes('trestle_degradation_level{component="desk",operation="product"} 3'));
  assert.ok(!samples.some((sample) => sample.startsWith("trestle_degraded_answers_total")));
});

test("what a route declares for its rungs is checked where it is declared", () => {
  const bad = (make: () => unknown, told: RegExp) =>
    assert.throws(make, (fault) => (Fault.is(fault, "service.bad-degrade") || Fault.is(fault, "option.out-of-range")) && told.test(fault.message));
  const declared = (route: unknown) => () => service("s", {}, { route: route as never });

  bad(declared(get("/a", { degrade: { static: "x" as never } }, () => "y")), /need `returns`/);
  bad(declared(post("/a", { returns: z.string(), degrade: { static: "x" } as never }, () => "y")), /stale and static are for GET/);
  bad(declared(sse("/a", { degrade: { stale: { for: "1m" } } } as never, async function* () {})), /not for streams/);
  bad(declared(get("/a", { degrade: { stale: { for: 0 } } }, () => "y")), /degrade\.stale\.for must be a number from 1 /);
  bad(declared(get("/a", { degrade: { stale: { for: "1m", keys: 0 } } }, () => "y")), /degrade\.stale\.keys must be an integer from 1 /);
});

test("an answer that is for one caller only is not kept for another", () => {
  const kept = new StaleAnswers({ forMs: 1_000, keys: 10 }, virtualClock());
  const isKept = (headers: Readonly<Record<string, string>>) => {
    const key = JSON.stringify(headers);
    kept.keep(key, { kind: "answer", answer: { status: 200, body: "{}", headers, refused: false }, replayed: false });
    return kept.get(key) !== undefined;
  };
  assert.ok(isKept({ "content-type": "application/json" }) && isKept({ vary: "Accept-Encoding, Cookie" }));
  for (const headers of [
    { "set-cookie": "sid=1" },
    { "Set-Cookie": "sid=1" },
    { "cache-control": "Private" },
    { "Cache-Control": "no-store" },
    { vary: "*" },
    { vary: "x-plan" },
  ])
    assert.ok(!isKept(headers as never), JSON.stringify(headers));
  const variant = (headers: Record<string, string>) => variantOf(new Headers(headers));
  assert.notEqual(variant({ "x-api-key": "a" }), variant({ "x-api-key": "b" }));
  assert.equal(variant({ "x-request-id": "a" }), variant({ "x-request-id": "b" }));
});

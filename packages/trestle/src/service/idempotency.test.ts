/** Over 400 lines because every state of a key is one story: what it takes to enter it, and what each caller gets meanwhile. */
import { after, test } from "node:test";
import assert from "node:assert/strict";
import { z } from "zod";
import { app, start, type Node, type StartOptions } from "../app/index.ts";
import { declareComponent, refuse, type Component, type NodeServices } from "../component/index.ts";
import { external, mutation } from "../external/index.ts";
import { Fault, virtualClock } from "../kernel/index.ts";
import { queue } from "../messaging/index.ts";
import { records } from "../records/index.ts";
import { memoryStore, runNode } from "../messaging/testing.ts";
import { created, get, post, service } from "./index.ts";
import { decodeToken, encodeToken, parseIdempotencyKey, tokenKeyOf } from "./idempotency-key.ts";
import { completionQueue } from "./completion-payload.ts";
import { invoke, type Outcome } from "./invoke.ts";
import type { Operation } from "./operation.ts";
import { interiorOf } from "./interior.ts";
import { ServiceState } from "./state.ts";

const Order = z.object({ sku: z.string(), quantity: z.int().positive() });
const orders = records("orders", { key: z.string(), value: Order });
const jobs = queue("jobs", { input: z.object({ id: z.string() }), uses: {} }, () => {});

/** A gate that a handler waits at, so that a test decides what happens meanwhile. */
function gate(): { readonly passed: Promise<void>; readonly reached: Promise<void>; open(): void; reach(): void } {
  let open: () => void = () => undefined;
  let reach: () => void = () => undefined;
  const passed = new Promise<void>((resolve) => (open = resolve));
  const reached = new Promise<void>((resolve) => (reach = resolve));
  return { passed, reached, open, reach };
}

function shopWith(during: () => Promise<void> | void = () => undefined, whenInFlight: "conflict" | "wait" = "conflict") {
  let runs = 0;
  const shop = service(
    "shop",
    { uses: { orders, jobs } },
    {
      place: post("/orders", { body: Order, idempotent: { whenInFlight }, refuses: { "sold-out": 409 } }, async ({ body }, { orders, jobs }, { newId }) => {
        runs += 1;
        const id = newId();
        orders.put(id, body);
        if (body.sku === "NONE") return refuse("sold-out", { left: 0 });
        jobs.send({ id });
        await during();
        return created({ id }, { location: `/orders/${id}` });
      }),
      other: post("/others", { body: Order, idempotent: true }, ({ body }) => body),
      list: get("/orders", {}, async (_request, { orders }) => ({ orders: (await orders.list({ limit: 100 })).items })),
    },
  );
  return { shop, runs: () => runs };
}

const nodes: Node[] = [];
after(async () => {
  for (const node of nodes) await node.stop(); // also those of a test that failed
});
let services: NodeServices | undefined;
/** Looks at the node from inside. */
const spy = declareComponent<Component>("spy", "spy", {
  annotations: {},
  uses: {},
  edge: "read",
  role: "any",
  prepare: async (node) => void (services = node),
});
const unfinished = async (service: string): Promise<number> =>
  (await (services as NodeServices).store.read.jobs({ queue: completionQueue(service), limit: 10 })).length;

async function running(components: readonly Component[], options: StartOptions = {}): Promise<Node> {
  const node = await start(app("test", [...components, spy]), { store: "memory:", log: () => undefined, ...options });
  nodes.push(node);
  return node;
}

function place(node: Node, key: string | undefined, body: unknown = { sku: "A", quantity: 1 }, path = "/orders"): Promise<Response> {
  return node.fetch(
    new Request(`http://x${path}`, {
      method: "POST",
      body: JSON.stringify(body),
      headers: { "content-type": "application/json", ...(key === undefined ? {} : { "idempotency-key": key }) },
    }),
  );
}
async function codeOf(response: Response): Promise<string> {
  return ((await response.json()) as { readonly code: string }).code;
}
async function countOrders(node: Node): Promise<number> {
  return ((await (await node.fetch(new Request("http://x/orders"))).json()) as { readonly orders: unknown[] }).orders.length;
}

test("[MSG-12] asking again with the same key repeats the answer byte for byte, and nothing happens twice", async () => {
  const { shop, runs } = shopWith();
  await using node = await running([shop]);
  const first = await place(node, "k1");
  assert.equal(first.status, 201);
  assert.equal(first.headers.get("idempotency-replayed"), null);
  const bytes = Buffer.from(await first.arrayBuffer());
  for (let again = 0; again < 3; again++) {
    const repeated = await place(node, "k1");
    assert.equal(repeated.status, 201);
    assert.equal(repeated.headers.get("idempotency-replayed"), "true");
    assert.equal(repeated.headers.get("location"), first.headers.get("location"));
    assert.equal(repeated.headers.get("content-type"), first.headers.get("content-type"));
    assert.deepEqual(Buffer.from(await repeated.arrayBuffer()), bytes);
  }
  assert.deepEqual([runs(), await countOrders(node)], [1, 1]);
});

test("[MSG-12] a missing key is a 400, and so is one that is no key", async () => {
  const { shop, runs } = shopWith();
  await using node = await running([shop]);
  const missing = await place(node, undefined);
  assert.deepEqual([missing.status, await codeOf(missing)], [400, "idempotency.key-missing"]);
  for (const key of [" ", "a b", "a,b", '"unclosed', '""', "x".repeat(256), "a;b", '"a";p=1', "ключ"]) {
    assert.throws(
      () => parseIdempotencyKey(key, "x"),
      (fault) => Fault.is(fault, "idempotency.key-malformed"),
      JSON.stringify(key),
    );
  }
  const twice = new Headers([
    ["idempotency-key", "a"],
    ["idempotency-key", "b"],
    ["content-type", "application/json"],
  ]);
  const doubled = await node.fetch(new Request("http://x/orders", { method: "POST", body: '{"sku":"A","quantity":1}', headers: twice }));
  assert.deepEqual([doubled.status, await codeOf(doubled)], [400, "idempotency.key-malformed"]);
  assert.equal(runs(), 0);
});

test("[MSG-12] a key in quotes, as the draft writes it, is the same key without them", async () => {
  const { shop, runs } = shopWith();
  await using node = await running([shop]);
  await place(node, "8e03978e-40d5-43dd-bc93-6894a57f9324");
  assert.equal((await place(node, '"8e03978e-40d5-43dd-bc93-6894a57f9324"')).headers.get("idempotency-replayed"), "true");
  assert.equal(parseIdempotencyKey('"a \\"b\\" \\\\c"', "x"), 'a "b" \\c');
  assert.equal(runs(), 1);
});

test("[MSG-12] the same key with another payload is a 422, also when the first was refused", async () => {
  const { shop } = shopWith();
  await using node = await running([shop]);
  await place(node, "k1");
  const other = await place(node, "k1", { sku: "A", quantity: 2 });
  assert.deepEqual([other.status, await codeOf(other)], [422, "idempotency.key-reused"]);
  await place(node, "k2", { sku: "NONE", quantity: 1 });
  assert.equal((await place(node, "k2")).status, 422);
  assert.equal(await countOrders(node), 1);
});

test("a key belongs to its operation: elsewhere the same text is another key", async () => {
  const { shop } = shopWith();
  await using node = await running([shop]);
  assert.equal((await place(node, "k1")).status, 201);
  assert.equal((await place(node, "k1", { sku: "A", quantity: 1 }, "/others")).status, 200);
  const keys = [
    tokenKeyOf("s.o", undefined, "anonymous", "k"),
    tokenKeyOf("s.o", "t", "anonymous", "k"),
    tokenKeyOf("s.o", undefined, "user:anonymous", "k"),
    tokenKeyOf("s.p", undefined, "anonymous", "k"),
    tokenKeyOf("s.o", undefined, "user:a/b", "k"),
    tokenKeyOf("s.o", undefined, "user:a", "b/k"),
  ];
  assert.equal(new Set(keys).size, keys.length, "tenant, caller and operation");
  assert.ok(Buffer.byteLength(tokenKeyOf("s".repeat(64) + "." + "o".repeat(64), "t".repeat(60), "u".repeat(5_000), "k".repeat(255))) <= 512);
});

test("[MSG-12] a refusal is an answer: it is kept and repeated", async () => {
  const { shop, runs } = shopWith();
  await using node = await running([shop]);
  const refused = await place(node, "k1", { sku: "NONE", quantity: 1 });
  assert.equal(refused.status, 409);
  const text = await refused.text();
  const again = await place(node, "k1", { sku: "NONE", quantity: 1 });
  assert.deepEqual(
    [again.status, again.headers.get("idempotency-replayed"), again.headers.get("content-type"), await again.text()],
    [409, "true", "application/problem+json", text],
  );
  assert.deepEqual([runs(), await countOrders(node)], [1, 0], "and what the handler wrote before it refused is not");
});

test("a fault is no answer: nothing is kept, and the key works", async () => {
  let failing = true;
  const { shop, runs } = shopWith(() => {
    if (failing) throw new Error("not today");
  });
  await using node = await running([shop]);
  assert.equal((await place(node, "k1")).status, 500);
  assert.equal(await countOrders(node), 0);
  failing = false;
  const second = await place(node, "k1");
  assert.deepEqual([second.status, second.headers.get("idempotency-replayed")], [201, null]);
  assert.deepEqual([runs(), await countOrders(node)], [2, 1]);
});

test("a request that does not fit uses up no key", async () => {
  const { shop } = shopWith();
  await using node = await running([shop]);
  assert.equal((await place(node, "k1", { sku: "A", quantity: -1 })).status, 422);
  assert.equal((await place(node, "k1")).status, 201);
});

test("[MSG-12] while a request is in flight the same key is a 409 that says when to come back, another payload a 422", async () => {
  const door = gate();
  const { shop, runs } = shopWith(() => (door.reach(), door.passed));
  await using node = await running([shop]);
  const first = place(node, "k1");
  await door.reached;
  const second = await place(node, "k1");
  assert.deepEqual([second.status, second.headers.get("retry-after"), await codeOf(second)], [409, "1", "idempotency.in-flight"]);
  assert.equal((await place(node, "k1", { sku: "B", quantity: 1 })).status, 422);
  door.open();
  assert.equal((await first).status, 201);
  assert.equal((await place(node, "k1")).headers.get("idempotency-replayed"), "true");
  assert.equal(runs(), 1);
});

test("[MSG-12] with `wait`, whoever asks meanwhile gets the first one's answer", async () => {
  const door = gate();
  const { shop, runs } = shopWith(() => (door.reach(), door.passed), "wait");
  await using node = await running([shop]);
  const first = place(node, "k1");
  await door.reached;
  const others = Array.from({ length: 49 }, () => place(node, "k1"));
  door.open();
  const answers = await Promise.all([first, ...others]);
  assert.deepEqual(new Set(answers.map(({ status }) => status)), new Set([201]));
  assert.equal(new Set(await Promise.all(answers.map((response) => response.text()))).size, 1);
  assert.deepEqual([runs(), await countOrders(node)], [1, 1]);
});

test("[MSG-12] 50 identical requests at once: one effect, every other a 409 or the same answer", async () => {
  const { shop, runs } = shopWith();
  await using node = await running([shop]);
  const answers = await Promise.all(Array.from({ length: 50 }, () => place(node, "k1")));
  const texts = new Set<string>();
  for (const response of answers) {
    if (response.status === 201) texts.add(await response.text());
    else assert.equal(response.status, 409);
  }
  assert.deepEqual([texts.size, runs(), await countOrders(node)], [1, 1, 1]);
});

test("[F12] an answer is kept for `keepFor` as a token of its window, and then the key is new", async () => {
  const clock = virtualClock();
  const kept = service(
    "kept",
    { uses: { orders } },
    {
      place: post("/orders", { body: Order, idempotent: { keepFor: "1h" } }, ({ body }, { orders }, { newId }) => {
        const id = newId();
        orders.put(id, body);
        return created({ id });
      }),
      list: get("/orders", {}, async (_request, { orders }) => ({ orders: (await orders.list({ limit: 100 })).items })),
    },
  );
  await using node = await running([kept], { clock });
  // The store's work needs the clock's turns; nothing here waits for time.
  const first = await place(node, "k1");
  await clock.advance(59 * 60_000);
  const repeated = await place(node, "k1");
  assert.equal(await repeated.text(), await first.text());
  await clock.advance(3 * 3_600_000);
  await place(node, "other"); // a batch, which drops the windows whose time is over
  assert.equal((await place(node, "k1")).headers.get("idempotency-replayed"), null);
  assert.equal(await countOrders(node), 3);
});

test("a token is read as it was written, whatever its body", () => {
  for (const body of [undefined, "", '{"a":"\\n"}', "zeile\nzwei", Buffer.from([0, 10, 255])]) {
    const token = decodeToken(
      encodeToken({ kind: "done", fingerprint: "f", answer: { status: 201, headers: { "content-type": "x" }, body, refused: body === "" } }),
    );
    assert.ok(token.kind === "done");
    assert.deepEqual(token.answer.body === undefined ? undefined : Buffer.from(token.answer.body), body === undefined ? undefined : Buffer.from(body));
    assert.equal(token.answer.refused, body === "");
  }
  assert.deepEqual(decodeToken(encodeToken({ kind: "running", fingerprint: "f", invocation: "i", untilMs: 5 })), {
    kind: "running",
    fingerprint: "f",
    invocation: "i",
    untilMs: 5,
  });
});

test("an idempotent Response is kept and repeated, and one without end is a fault", async () => {
  const pages = service(
    "pages",
    {},
    {
      page: post("/page", { idempotent: true }, () => new Response("<p>\u00fc", { status: 203, headers: { "content-type": "text/html", "x-page": "1" } })),
      endless: post(
        "/endless",
        { idempotent: true },
        () => new Response(new ReadableStream({ pull: (controller) => controller.enqueue(new Uint8Array(100_000)) })),
      ),
    },
  );
  await using node = await running([pages]);
  const ask = (path: string) => node.fetch(new Request(`http://x${path}`, { method: "POST", headers: { "idempotency-key": "k" } }));
  for (const replayed of [null, "true"]) {
    const response = await ask("/page");
    assert.deepEqual(
      [
        response.status,
        response.headers.get("content-type"),
        response.headers.get("x-page"),
        response.headers.get("idempotency-replayed"),
        await response.text(),
      ],
      [203, "text/html", "1", replayed, "<p>\u00fc"],
    );
  }
  assert.equal((await ask("/endless")).status, 500);
});

// ---- recovery points --------------------------------------------------------------------------------------------------

/** A provider without a socket: its ledger, and how it behaves. */
function provider() {
  const ledger = new Map<string, { readonly paymentId: string }>();
  const asked: string[] = [];
  let behave: (key: string, charge: () => { readonly paymentId: string }) => Promise<unknown> = async (_key, charge) => charge();
  const payments = external(
    "payments",
    { retry: false, breaker: false, timeout: "2s" },
    {
      charge: mutation({ input: z.object({ cents: z.int() }), returns: z.object({ paymentId: z.string() }) }, (_input, { key }) => {
        asked.push(key);
        return behave(key, () => {
          const known = ledger.get(key) ?? { paymentId: `p-${ledger.size + 1}` };
          ledger.set(key, known);
          return known;
        });
      }),
    },
  );
  return { ledger, asked, payments, behaves: (as: typeof behave) => void (behave = as) };
}

function paying(from: ReturnType<typeof provider>, after: () => Promise<void> | void = () => undefined) {
  const { payments } = from;
  return service(
    "paying",
    { uses: { orders, payments }, timeout: "5s" },
    {
      pay: post("/orders", { body: Order, idempotent: true }, async ({ body }, { orders, payments }, { newId }) => {
        const id = newId();
        orders.put(id, body);
        const { paymentId } = await payments.charge({ cents: body.quantity });
        await after();
        orders.put(`${id}-paid`, body);
        return created({ id, paymentId });
      }),
      list: get("/orders", {}, async (_request, { orders }) => ({ orders: (await orders.list({ limit: 100 })).items })),
    },
  );
}

test("[F16] a crash between the charge and the answer: the job finishes it after the lease, under the same provider key", async () => {
  const clock = virtualClock();
  const from = provider();
  let crash = true;
  // The handler stops for ever after the charge, as a process does that is killed there.
  const shop = paying(from, () => (crash ? new Promise(() => undefined) : undefined));
  await using node = await running([shop], { clock });
  const lost = place(node, "k1");
  await clock.advance(4_000);
  assert.deepEqual([from.ledger.size, await countOrders(node)], [1, 1], "charged, and the order is durable with the intent");
  crash = false;
  await clock.advance(1_000);
  assert.equal((await lost).status, 504);

  await clock.advance(10_000);
  await node.idle();
  const answer = await place(node, "k1");
  assert.deepEqual([answer.status, answer.headers.get("idempotency-replayed")], [201, "true"], "the job has stored the answer");
  assert.equal(from.ledger.size, 1);
  assert.equal(new Set(from.asked).size, 1, "one provider key");
  assert.equal(await unfinished("paying"), 0, "and the job is done");
  assert.equal(await countOrders(node), 2);
});

test("[F16] whoever asks again after a crash goes on with the same run, at once when its lease is over", async () => {
  const clock = virtualClock();
  const from = provider();
  from.behaves(async (_key, charge) => {
    charge(); // taken
    throw new Error("connection reset"); // and nobody heard
  });
  await using node = await running([paying(from)], { clock });
  const first = await place(node, "k1");
  assert.equal(first.status, 504, "whether it happened is not known, and it says so");
  assert.equal(await codeOf(first), "external.outcome-unknown");
  from.behaves(async (_key, charge) => charge());
  const second = await place(node, "k1");
  assert.deepEqual([second.status, second.headers.get("idempotency-replayed")], [201, null]);
  assert.deepEqual([from.ledger.size, new Set(from.asked).size, await countOrders(node)], [1, 1, 2]);
  assert.equal(await unfinished("paying"), 0, "the job that would have finished it is gone");
  const third = await place(node, "k1");
  assert.equal(await third.text(), await second.text());
  await clock.advance(60_000);
  await node.idle();
  assert.equal(from.asked.length, 2);
});

test("[MSG-12] while a request is between two recovery points its key is in flight, and in no danger", async () => {
  const clock = virtualClock();
  const from = provider();
  const door = gate();
  from.behaves(async (_key, charge) => (door.reach(), await door.passed, charge()));
  await using node = await running([paying(from)], { clock });
  const first = place(node, "k1");
  await door.reached;
  assert.equal((await place(node, "k1")).status, 409);
  assert.equal((await place(node, "k1", { sku: "A", quantity: 9 })).status, 422);
  door.open();
  assert.equal((await first).status, 201);
  assert.equal(await unfinished("paying"), 0, "what would have finished it is gone");
});

test("[F16] out of attempts with the outcome unknown, the request is kept as undetermined, and asking again still works", async () => {
  const clock = virtualClock();
  const from = provider();
  from.behaves(async () => {
    throw new Error("reset");
  });
  const shop = paying(from);
  await using node = await running([shop], { clock });
  assert.equal((await place(node, "k1")).status, 504);
  for (let minutes = 0; minutes < 30; minutes++) await clock.advance(60_000);
  assert.ok(from.asked.length >= 20, `${from.asked.length} tries`);
  const tries = from.asked.length;
  await clock.advance(3_600_000);
  assert.equal(from.asked.length, tries, "and then no more");
  assert.equal(new Set(from.asked).size, 1, "all under one key");
  from.behaves(async (_key, charge) => charge());
  assert.equal((await place(node, "k1")).status, 201);
  assert.equal(from.ledger.size, 1);
});

// ---- two processes ----------------------------------------------------------------------------------------------------

/** What two processes over one store would do: one node asked through two states, so that neither knows what the other is doing. */
async function twoProcesses(shop: Component, options: StartOptions = {}) {
  const node = await running([shop], options);
  const own = services as NodeServices;
  return { node, one: asking(shop, own), two: asking(shop, own) };
}
/** A process that knows nothing of the others. */
function asking(shop: Component, own: NodeServices): (key: string, body?: unknown) => Promise<Outcome> {
  const state = new ServiceState(own);
  const operation = [...interiorOf(shop).operations.values()].find(({ method }) => method === "POST") as Operation;
  return (key, body = { sku: "A", quantity: 1 }) =>
    invoke(
      { operation, component: shop, node: own, state },
      {
        raw: { params: {}, query: {}, body, raw: () => new Request("http://x/") },
        tenant: undefined,
        principal: undefined,
        scope: "anonymous",
        key,
        target: "/orders",
        text: JSON.stringify(body),
      },
    );
}
const bodyOf = (outcome: Outcome): string => (outcome.kind === "answer" ? Buffer.from(outcome.answer.body as string).toString() : "");

test("[F12] two processes run one key at once: one commits, the other repeats its answer", async () => {
  const door = gate();
  let inside = 0;
  const { shop, runs } = shopWith(() => {
    if (++inside === 2) door.reach();
    return door.passed;
  });
  const { node, one, two } = await twoProcesses(shop);
  const both = Promise.all([one("k1"), two("k1")]);
  await door.reached;
  door.open();
  const [a, b] = await both;
  assert.equal(bodyOf(a), bodyOf(b));
  assert.deepEqual([a, b].map((outcome) => outcome.kind === "answer" && outcome.replayed).sort(), [false, true]);
  assert.deepEqual([runs(), await countOrders(node)], [2, 1], "both ran, one committed");
  await assert.rejects(two("k1", { sku: "B", quantity: 1 }), (fault) => Fault.is(fault, "idempotency.key-reused"));
  await node.stop();
});

test("[F16] between two recovery points another process is told to wait, and goes on only when the lease is over; then both cannot go on", async () => {
  const clock = virtualClock();
  const from = provider();
  const door = gate();
  let held = true;
  from.behaves(async (_key, charge) => {
    const charged = charge();
    if (held) await (door.reach(), door.passed);
    return charged;
  });
  const { node, one, two } = await twoProcesses(paying(from), { clock, roles: [] }); // no worker: nobody else finishes it
  const first = one("k1").catch((fault: unknown) => fault);
  await door.reached;
  await assert.rejects(two("k1"), (fault) => Fault.is(fault, "idempotency.in-flight"));
  held = false;
  await clock.advance(2_500); // the call's own time is over, and with it the first one's run
  assert.ok(Fault.is(await first, "external.outcome-unknown"));
  const second = await two("k1");
  door.open(); // the answer to the first call comes too late for anyone
  await clock.advance(10);
  assert.equal(from.ledger.size, 1);
  assert.equal(bodyOf(await one("k1")), bodyOf(second));
  await node.stop();
});

test("[F16] a request that a node began whose clock is an hour ahead is finished after its lease, as any other", async () => {
  const { clock, store } = await memoryStore();
  const from = provider();
  let crash = true;
  const shop = paying(from, () => (crash ? new Promise(() => undefined) : undefined));
  const ahead = await runNode([shop], { store, clock: { ...clock, wallMs: () => clock.wallMs() + 3_600_000 } });
  const lost = asking(shop, ahead)("k1").catch((fault: unknown) => fault);
  await clock.advance(1_000);
  ahead.crash();
  crash = false;

  const other = await runNode([shop], { store, clock });
  await clock.advance(10_000);
  await other.idle();

  const answer = await asking(shop, other)("k1");
  assert.ok(answer.kind === "answer" && answer.replayed);
  assert.equal(new Set(from.asked).size, 1);
  void lost;
  await other.stop();
});

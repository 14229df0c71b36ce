/** The kind, through an app's door. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { z } from "zod";
import { app, open, start } from "../app/index.ts";
import { definitionOf, execute, refuse, type Component, type Observer } from "../component/index.ts";
import { testNode } from "../component/testing.ts";
import { Fault, virtualClock } from "../kernel/index.ts";
import { records } from "../records/index.ts";
import { get, noContent, post, service } from "../service/index.ts";
import { limiter, type LimiterHandle, type Took } from "./index.ts";

const logins = limiter("logins", { key: z.string(), rate: "5/m", burst: 5 });
const seen = records("seen", { key: z.string(), value: z.number() });
const account = service(
  "account",
  { uses: { logins, seen } },
  {
    logIn: post(
      "/login",
      { body: z.object({ user: z.string(), password: z.string() }), refuses: { "over-limit": 429, "wrong-password": 401 } },
      async ({ body }, { logins, seen }) => {
        const admitted = await logins.take(body.user);
        if (!admitted.ok) return admitted;
        seen.add(body.user, 1);
        return body.password === "right" ? { left: admitted.left } : refuse("wrong-password");
      },
    ),
    careless: post("/careless", { body: z.object({ user: z.string() }) }, async ({ body }, { logins }) => {
      await logins.take(body.user, 5);
      return noContent();
    }),
    peek: get("/peek", { query: z.object({ user: z.string() }) }, async ({ query }, { logins }) => {
      const took = await logins.take(query.user);
      return { admitted: took.ok };
    }),
  },
);

async function running() {
  const clock = virtualClock();
  const node = await start(app("bank", [account]), { store: "memory:", clock, log: () => undefined });
  const ask = (path: string, body: object) =>
    node.fetch(new Request(`http://bank${path}`, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) }));
  return { node, clock, logIn: (user: string, password: string) => ask("/login", { user, password }), careless: (user: string) => ask("/careless", { user }) };
}

test("[RES-08] what a handler takes stays taken when it refuses: five wrong passwords, and the right one has to wait", async () => {
  const { node, clock, logIn } = await running();
  await using _stopped = node;

  for (let nth = 0; nth < 5; nth++) assert.equal((await logIn("ada", "wrong")).status, 401);
  const refused = await logIn("ada", "right");

  assert.equal(refused.status, 429);
  assert.deepEqual([((await refused.json()) as { code: string }).code, (await logIn("grace", "right")).status], ["over-limit", 200]);
  await clock.advance(12_000);
  assert.equal((await logIn("ada", "right")).status, 200);
});

test("a conflict that runs a handler again takes nothing a second time", async () => {
  const clock = virtualClock();
  const counted = records("counted", { key: z.string(), value: z.number() });
  let runs = 0;
  const racing = service(
    "racing",
    { uses: { logins, counted } },
    {
      race: post("/race", { body: z.object({}) }, async (_request, { logins, counted }) => {
        const admitted = await logins.take("ada");
        const before = (await counted.get("n")) ?? 0;
        if (runs++ === 0) await meddle();
        counted.put("n", before + 1);
        return { left: admitted.ok ? admitted.left : -1 };
      }),
      meddle: post("/meddle", { body: z.object({}) }, (_request, { counted }) => {
        counted.put("n", 100);
        return noContent();
      }),
    },
  );
  await using node = await start(app("races", [racing]), { store: "memory:", clock, log: () => undefined });
  const ask = (path: string) => node.fetch(new Request(`http://x${path}`, { method: "POST", headers: { "content-type": "application/json" }, body: "{}" }));
  const meddle = () => ask("/meddle");

  const answer = (await (await ask("/race")).json()) as { left: number };

  assert.deepEqual([runs, answer.left], [2, 4]);
  const next = await node.open(logins).take("ada");
  assert.deepEqual(next, { ok: true, left: 3 });
});

test("a refusal that a handler does not look at is a fault", async () => {
  const { node, careless } = await running();
  await using _stopped = node;

  assert.ok((await careless("ada")).ok);
  const answer = await careless("ada");

  assert.equal(answer.status, 500);
});

test("a limiter may be asked by a handler that only reads, and outside of any", async () => {
  const { node } = await running();
  await using _stopped = node;
  const peek = async () => (await (await node.fetch(new Request("http://bank/peek?user=ada"))).json()) as { admitted: boolean };

  for (let nth = 0; nth < 4; nth++) assert.deepEqual(await peek(), { admitted: true });
  const outside = node.open(logins);
  assert.deepEqual(await outside.take("ada"), { ok: true, left: 0 });
  assert.deepEqual(await peek(), { admitted: false });
  const refused = await outside.take("ada");
  assert.ok(!refused.ok && refused.refused === "over-limit" && refused.retryAfterMs > 11_000 && refused.retryAfterMs <= 12_000, JSON.stringify(refused));
});

test("a tenant's keys are its own", async () => {
  const node = await testNode();
  const takeFor = async (tenant: string | undefined) => {
    const ended = await execute<Took>({
      node,
      component: { kind: "app", name: "test" } as Component,
      operation: "",
      mode: "write",
      uses: { logins },
      id: node.ids.next(),
      timeoutMs: 60_000,
      tenant,
      run: (handles) => (handles as { readonly logins: LimiterHandle<string> }).logins.take("ada"),
      conclude: () => ({ keep: true, end: "ok" }),
    });
    return ended.kind === "answered" && ended.answer.ok ? ended.answer.left : -1;
  };

  assert.deepEqual([await takeFor("acme"), await takeFor("acme"), await takeFor("globex"), await takeFor(undefined)], [4, 3, 4, 4]);
});

test("[RES-10] a limiter of the fleet counts for all nodes of the store together, and a tenant's keys are its own there too", async () => {
  const shared = limiter("imports", { key: z.string(), rate: "1/h", burst: 3, across: "fleet", whenUnreachable: "refuse" });
  const first = await testNode();
  const nodes = [first, await testNode({ store: first.store, seed: "second" })];
  const [here, there] = nodes.map((node) => definitionOf(shared).live?.(node) as LimiterHandle<string>) as [LimiterHandle<string>, LimiterHandle<string>];
  const takeFor = async (tenant: string) => {
    const ended = await execute<Took>({
      node: first,
      component: { kind: "app", name: "test" } as Component,
      operation: "",
      mode: "read",
      uses: { shared },
      id: first.ids.next(),
      timeoutMs: 60_000,
      tenant,
      run: (handles) => (handles as { readonly shared: LimiterHandle<string> }).shared.take("ada"),
      conclude: () => ({ keep: true, end: "ok" }),
    });
    return ended.kind === "answered" && ended.answer.ok ? ended.answer.left : -1;
  };

  const took = [await here.take("ada"), await there.take("ada"), await here.take("ada"), await there.take("ada"), await here.take("grace")];

  assert.deepEqual(
    took.map((one) => (one.ok ? one.left : one.refused)),
    [2, 1, 0, "over-limit", 2],
  );
  assert.deepEqual([await takeFor("acme"), await takeFor("acme"), await takeFor("globex")], [2, 1, 2]);
});

test("alone, without an app", async () => {
  await using alone = await open(logins, { store: "memory:" });

  assert.deepEqual(await alone.take("ada", 4.5), { ok: true, left: 0 });
});

test("its decisions are told, and the keys for which there was no room", async () => {
  const told: unknown[] = [];
  const node = await testNode();
  const observer: Observer = { ...node.observer, limited: (...all) => void told.push(all) };
  const { take } = definitionOf(logins).live?.({ ...node, observer }) as LimiterHandle<string>;

  for (let nth = 0; nth < 6; nth++) await take("ada");

  assert.deepEqual(told, [...Array<unknown>(5).fill(["logins", "take", "logins", "admitted", 0]), ["logins", "take", "logins", "refused", 0]]);
});

test("what is wrong with a limiter is said where it is declared, and what is wrong with a take where it is taken", async () => {
  assert.throws(
    () => limiter("bad", { key: z.string() } as never),
    (thrown) => Fault.is(thrown, "quantity.not-a-rate") && /limiter "bad": rate must be/.test(thrown.message),
  );
  for (const nothing of [undefined, null])
    assert.throws(
      () => limiter("bad", nothing as never),
      (thrown) => Fault.is(thrown, "quantity.not-a-rate") && /limiter "bad": rate must be/.test(thrown.message),
    );
  assert.throws(
    () => limiter("bad", { key: z.string(), rate: "1/s", burst: 0 }),
    (thrown) => Fault.is(thrown, "option.out-of-range") && /limiter "bad": burst/.test(thrown.message),
  );
  await using alone = await open(logins, { store: "memory:" });
  for (const cost of [0, -1, NaN, Infinity, 6])
    await assert.rejects(alone.take("ada", cost), /limiter "logins": cost must be a number from 0.000001 to 5, got/);
  await assert.rejects(alone.take({} as never), (thrown) => Fault.is(thrown, "component.bad-key"));
});

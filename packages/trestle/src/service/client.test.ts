import { test } from "node:test";
import assert from "node:assert/strict";
import { z } from "zod";
import { app, start, type Node, type StartOptions } from "../app/index.ts";
import { refuse, type Component } from "../component/index.ts";
import { Fault, virtualClock } from "../kernel/index.ts";
import { queue } from "../messaging/index.ts";
import { records } from "../records/index.ts";
import { created, get, post, service, sse } from "./index.ts";

const invoices = records("invoices", { key: z.string(), value: z.object({ orderId: z.string() }) });
const heard = records("heard", { key: z.string(), value: z.object({ text: z.string() }) });

function world() {
  let made = 0;
  let touched = 0;
  let afterCall: () => void = () => undefined;
  let duringTouch: () => Promise<void> | void = () => undefined;
  const billing = service(
    "billing",
    { uses: { invoices } },
    {
      invoice: post(
        "/invoices",
        { body: z.object({ orderId: z.string() }), idempotent: true, refuses: { "no-such-order": 404 } },
        ({ body }, { invoices }, { newId }) => {
          if (body.orderId === "none") return refuse("no-such-order", { asked: body.orderId });
          made += 1;
          const id = newId();
          invoices.put(id, body);
          return created({ id, n: made });
        },
      ),
      touch: post("/touch", {}, async () => {
        touched += 1;
        await duringTouch();
        return { touched };
      }),
      read: get("/invoices/:id", { query: z.object({ as: z.string().optional() }), refuses: { gone: 410 } }, async ({ params, query }, { invoices }) => {
        const invoice = await invoices.get(params.id);
        return invoice ? { ...invoice, as: query.as ?? "plain" } : refuse("gone");
      }),
      count: sse("/count", {}, async function* () {
        yield 1;
        yield 2;
      }),
    },
  );
  const work = queue(
    "work",
    { input: z.object({ id: z.string(), orderId: z.string() }), uses: { billing, heard }, timeout: "2s", retry: { attempts: 5, from: "1s", upTo: "1s" } },
    async ({ id, orderId }, { billing, heard }) => {
      const invoice = await billing.invoice({ body: { orderId } });
      if (!invoice.ok) return heard.put(id, { text: `${invoice.refused} ${invoice.asked}` });
      const touch = await billing.touch();
      afterCall();
      heard.put(id, { text: touch.ok ? `${invoice.body.n} ${touch.body.touched}` : `${invoice.body.n} ${touch.refused}` });
    },
  );
  const careless = queue("careless", { input: z.object({}), uses: { billing }, retry: { attempts: 1 } }, async (_message, { billing }) => {
    await billing.invoice({ body: { orderId: "none" } });
  });
  const front = service(
    "front",
    { uses: { billing } },
    {
      show: get("/show/:id", {}, async ({ params }, { billing }) => {
        const invoice = await billing.read({ params: { id: params.id }, query: { as: "shown" } });
        return invoice.ok ? invoice.body : { none: invoice.refused };
      }),
      sneak: post("/sneak", {}, async (_request, { billing }) => {
        await (billing as unknown as { touch(): Promise<unknown> }).touch();
        return "x";
      }),
    },
  );
  return {
    billing,
    work,
    careless,
    front,
    made: () => made,
    touched: () => touched,
    afterCall: (what: () => void) => void (afterCall = what),
    duringTouch: (what: () => Promise<void>) => void (duringTouch = what),
  };
}
async function running(components: readonly Component[], options: StartOptions = {}): Promise<Node> {
  return start(app("test", components), { store: "memory:", log: () => undefined, clock: virtualClock(), ...options });
}
async function textOf(node: Node, id: string): Promise<string | undefined> {
  return (await node.open(heard).get(id))?.text;
}

test("a handler calls another service through its typed client, and reads its refusals", async () => {
  const of = world();
  const clock = virtualClock();
  await using node = await running([of.work, of.front], { clock });
  await node.open(of.work).send({ id: "a", orderId: "1" });
  await node.open(of.work).send({ id: "b", orderId: "none" });
  await clock.advance(1_000);
  await node.idle();
  assert.deepEqual([await textOf(node, "a"), await textOf(node, "b")], ["1 1", "no-such-order none"]);
  const answer = await node.open(of.billing).invoice({ body: { orderId: "2" } });
  assert.ok(answer.ok);
  const shown = await node.fetch(new Request(`http://x/show/${answer.body.id}`));
  assert.deepEqual(await shown.json(), { orderId: "2", as: "shown" });
  assert.deepEqual(await (await node.fetch(new Request("http://x/show/nothing"))).json(), { none: "gone" });
});

test("a handler that runs again after its calls gets their answers, and the other service is not asked twice", async () => {
  const of = world();
  const clock = virtualClock();
  let failing = 2;
  of.afterCall(() => {
    if (failing-- > 0) throw new Error("after both calls");
  });
  await using node = await running([of.work], { clock });
  await node.open(of.work).send({ id: "a", orderId: "1" });
  for (let second = 0; second < 10; second++) await clock.advance(1_000);
  await node.idle();
  assert.deepEqual([await textOf(node, "a"), of.made(), of.touched()], ["1 1", 1, 1]);
});

test("a call that is not idempotent is not made again when its answer was lost: the caller is told that it does not know", async () => {
  const of = world();
  const clock = virtualClock();
  of.duringTouch(() => new Promise(() => undefined)); // and then the caller's time is over
  await using node = await running([of.work], { clock });
  await node.open(of.work).send({ id: "a", orderId: "1" });
  for (let second = 0; second < 10; second++) await clock.advance(1_000);
  await node.idle();
  assert.deepEqual([await textOf(node, "a"), of.made(), of.touched()], ["1 outcome-unknown", 1, 1]);
});

test("a refusal of another service that nobody looked at fails the handler", async () => {
  const of = world();
  const clock = virtualClock();
  await using node = await running([of.careless], { clock });
  await node.open(of.careless).send({});
  await clock.advance(1_000);
  await node.idle();
  assert.equal((await node.open(of.careless).depth()).dead, 1);
});

test("a changing call from a handler that nobody finishes is a fault, should the compiler be talked out of it", async () => {
  const of = world();
  await using node = await running([of.front]);
  assert.equal((await node.fetch(new Request("http://x/sneak", { method: "POST" }))).status, 500);
  assert.equal(of.touched(), 0);
});

test("outside handlers every idempotent call has a key of its own", async () => {
  const of = world();
  await using node = await running([of.billing]);
  const client = node.open(of.billing);
  const [one, two] = [await client.invoice({ body: { orderId: "1" } }), await client.invoice({ body: { orderId: "1" } })];
  assert.ok(one.ok && two.ok);
  assert.notEqual(one.body.id, two.body.id);
  await assert.rejects(client.read({ params: {} as never }), (fault) => Fault.is(fault, "request.params-invalid"));
});

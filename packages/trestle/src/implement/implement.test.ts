import { test } from "node:test";
import assert from "node:assert/strict";
import { z } from "zod";
import { app, open, start } from "../app/index.ts";
import { refuse } from "../component/index.ts";
import { Fault } from "../kernel/index.ts";
import { queue } from "../messaging/index.ts";
import { records } from "../records/index.ts";
import { get, post, service } from "../service/index.ts";
import { implement } from "./index.ts";

const quiet = { store: "memory:", log: () => undefined } as const;
const pages = records("pages", { key: z.string(), value: z.object({ links: z.int() }) });
const fetchPage = queue("fetch-page", { input: z.object({ url: z.string() }) });
const parsePage = queue("parse-page", { input: z.object({ url: z.string(), links: z.array(z.string()) }) });
const fetcher = implement(fetchPage, { uses: { parsePage }, owner: "crawlers" }, ({ url }, { parsePage }) => {
  parsePage.send({ url, links: url === "/" ? ["/a", "/b"] : [] });
});
const parser = implement(parsePage, { uses: { fetchPage, pages }, concurrency: 4, role: "parsing" }, ({ url, links }, { fetchPage, pages }) => {
  pages.put(url, { links: links.length });
  for (const link of links) fetchPage.send({ url: link });
});

const Invoice = z.object({ number: z.string(), cents: z.int() });
const billing = service(
  "billing",
  { uses: {} },
  {
    invoice: post("/invoices", { body: z.object({ orderId: z.string() }), idempotent: true, returns: Invoice, refuses: { "no-such-order": 404 } }),
    read: get("/invoices/:number", { returns: Invoice, refuses: { "no-such-invoice": 404 } }),
  },
);
const invoices = records("invoices", { key: z.string(), value: Invoice });
const billingHere = implement(
  billing,
  { uses: { invoices } },
  {
    invoice: async ({ body }, { invoices }) => {
      const invoice = { number: `R-${body.orderId}`, cents: 100 };
      invoices.put(invoice.number, invoice);
      return invoice;
    },
    read: async ({ params }, { invoices }) => (await invoices.get(params.number)) ?? refuse("no-such-invoice"),
  },
);
const letters = records("letters", { key: z.string(), value: z.object({ text: z.string() }) });
const asking = queue("asking", { input: z.object({ orderId: z.string() }), uses: { billing, letters } }, async ({ orderId }, { billing, letters }) => {
  const invoice = await billing.invoice({ body: { orderId } });
  letters.put(orderId, { text: invoice.ok ? invoice.body.number : invoice.refused });
});

test("queues that need each other are declared first and implemented after; each message is handled under the queue's name", async () => {
  const crawl = app("crawl", [fetcher, parser]);
  await using node = await start(crawl, quiet);

  await node.open(fetchPage).send({ url: "/" });
  await node.idle();

  assert.deepEqual([await node.open(pages).get("/"), await node.open(pages).get("/b")], [{ links: 2 }, { links: 0 }]);
  assert.deepEqual(crawl.graph.components.map(({ kind, name, role }) => `${kind} ${name} ${role}`).sort(), [
    "queue fetch-page worker",
    "queue parse-page parsing",
    "records pages any",
  ]);
  assert.deepEqual(crawl.graph.components.find(({ name }) => name === "fetch-page")?.annotations, { owner: "crawlers" });
  assert.deepEqual(crawl.graph.edges.map(({ from, operation, to }) => `${from} ${operation} ${to}`).sort(), [
    "fetch-page send parse-page",
    "parse-page send fetch-page",
    "parse-page write pages",
  ]);
});

test("what is declared elsewhere is sent, and waits in the store for the app that implements it", async () => {
  const mine = app("mine", [fetcher], { elsewhere: [parsePage] });
  await using node = await start(mine, quiet);

  await node.open(fetchPage).send({ url: "/" });
  await node.idle();

  assert.equal((await node.open(parsePage).depth()).waiting, 1);
});

test("an app that uses what nobody implements does not start, and says what; nor does one that implements it twice", async () => {
  const forgetting = app("forgetting", [fetcher] as never);
  const twice = app("twice", [fetcher, parser, implement(fetchPage, {}, () => undefined)]);

  await assert.rejects(start(forgetting, quiet), (thrown) => Fault.is(thrown, "app.not-implemented") && thrown.message.includes('queue "parse-page"'));
  await assert.rejects(start(twice, quiet), (thrown) => Fault.is(thrown, "app.implemented-twice"));
  assert.throws(
    () => implement(asking as never, {}, undefined as never),
    (thrown) => Fault.is(thrown, "app.implemented-twice"),
  );
});

test("a contract is served, and called in process, where it is implemented", async () => {
  await using node = await start(app("shop", [asking, billingHere]), { ...quiet, port: 0 });

  await node.open(asking).send({ orderId: "7" });
  await node.idle();
  const answered = await fetch(`${node.url}/invoices/R-7`);
  const unknown = await node.open(billing).read({ params: { number: "R-8" } });

  assert.deepEqual(await node.open(letters).get("7"), { text: "R-7" });
  assert.deepEqual([answered.status, await answered.json()], [200, { number: "R-7", cents: 100 }]);
  assert.deepEqual(unknown.ok || unknown.refused, "no-such-invoice");
});

test("a contract that another app runs is called by its URL; without one the call says so, and nothing is recorded as done", async () => {
  await using there = await start(app("billing-app", [billingHere]), { ...quiet, port: 0 });
  const here = app("shop", [asking], { elsewhere: [billing] });
  await using node = await start(here, { ...quiet, services: { billing: there.url as `http://${string}` } });
  await using lost = await start(here, quiet);

  await node.open(asking).send({ orderId: "9" });
  await node.idle();

  assert.deepEqual(await node.open(letters).get("9"), { text: "R-9" });
  await assert.rejects(lost.open(billing).read({ params: { number: "R-9" } }), (thrown) => Fault.is(thrown, "service.not-here"));
  assert.equal(node.url, "", "it serves nothing of its own");
});

test("a contract is implemented whole: half of one, an operation too few and one too many are faults where they are declared", () => {
  const half = () => service("half", {}, { here: get("/here", {}, () => "x"), there: get("/there", { returns: z.string() }) });

  assert.throws(half, (thrown) => Fault.is(thrown, "service.half-a-contract"));
  assert.throws(
    () => implement(billing, {}, { invoice: async () => ({ number: "", cents: 1 }) } as never),
    (thrown) => Fault.is(thrown, "service.not-in-contract"),
  );
  assert.throws(
    () => implement(billing, {}, { invoice: async () => ({ number: "", cents: 1 }), read: async () => ({ number: "", cents: 1 }), extra: () => 1 } as never),
    (thrown) => Fault.is(thrown, "service.not-in-contract"),
  );
  assert.throws(
    () => queue("q", { input: z.object({}), concurrency: 4 } as never),
    (thrown) => Fault.is(thrown, "queue.without-handler"),
  );
});

test("an open queue alone can be sent to, and one with its handler works", async () => {
  await using alone = await open(fetchPage, { store: "memory:" });

  await alone.send({ url: "/" });

  assert.equal((await alone.depth()).waiting, 1);
});

/** What a run tells of a call of a service that an earlier run has made, or has tried to: what may have happened is never told as what did not. */
import assert from "node:assert/strict";
import { after, test } from "node:test";
import { z } from "zod";
import { app, start, type Node } from "../app/index.ts";
import {
  decodeJournal,
  execute,
  journalKey,
  refuse,
  type Component,
  type Conclusion,
  type Exchange,
  type Exchanged,
  type NodeServices,
} from "../component/index.ts";
import { testNode, type TestNode } from "../component/testing.ts";
import { external, mutation, query } from "../external/index.ts";
import { Fault, virtualClock } from "../kernel/index.ts";
import { queue } from "../messaging/index.ts";
import { records } from "../records/index.ts";
import { post, service } from "./index.ts";

const codeOf = (thrown: unknown) => (Fault.is(thrown) ? thrown.code : String(thrown));
const unknown = "external.outcome-unknown";
const unreachable = "external.unreachable";
const never = () => new Promise<never>(() => undefined);

const nodes: Node[] = [];
after(async () => {
  for (const node of nodes) await node.stop(); // also those of a test that failed
});

// ---- by URL -----------------------------------------------------------------------------------------------------------

type Carry = (asked: Exchange) => Promise<Exchanged>;
const answers =
  (status: number, body: object, type = "application/json"): Carry =>
  async () => ({ status, headers: { "content-type": type }, text: JSON.stringify(body) });
const problem = (status: number, code: string, more: object = {}) => answers(status, { status, code, detail: "no", ...more }, "application/problem+json");
const done = answers(200, { n: 1 });
const reset: Carry = () => Promise.reject(new TypeError("fetch failed", { cause: Object.assign(new Error(), { code: "ECONNRESET" }) })); // it may have arrived
const shut: Carry = () => Promise.reject(new TypeError("fetch failed", { cause: Object.assign(new Error(), { code: "ECONNREFUSED" }) })); // it has not
const notLetIn: readonly Carry[] = [
  shut,
  problem(503, "request.not-admitted", { retryAfterMs: 50 }),
  problem(429, "request.limit-exceeded"),
  problem(409, "commit.conflict"),
  problem(422, "request.body-invalid"),
  problem(404, "request.no-route"),
];

const id = "0197a1b2-0000-7000-8000-000000000001";
const worker: Component = { kind: "queue", name: "worker" };
const saved: Conclusion = { keep: false, end: "fault", journal: "save" };
const far = service(
  "far",
  {},
  {
    book: post("/bookings", { body: z.object({}), idempotent: true, refuses: { full: 409 } }, (): { n: number } | ReturnType<typeof refuse<"full">> =>
      refuse("full"),
    ),
    ring: post("/ring", {}, () => ({ n: 0 })),
  },
);

let processes = 0;
/** One run, in a process of its own on the store that they share. Answers what the handler was told. */
async function run(first: TestNode, operation: "book" | "ring", carry: Carry): Promise<string> {
  const made = await testNode({ store: first.store, clock: first.clock, seed: `process ${++processes}` });
  const nowhere = () => Promise.reject(new Error("no external here"));
  const node: NodeServices = { ...made, serviceUrl: () => "http://far.example", outside: { call: nowhere, lookup: nowhere, exchange: carry } };
  const [row] = await first.store.read.records([journalKey(id)]);
  let told = "nothing";
  await execute<unknown>({
    node,
    component: worker,
    operation: "",
    mode: "durable",
    uses: { far },
    id,
    timeoutMs: 3_600_000,
    journal: row && decodeJournal(row.value, row.version),
    run: async (uses: object) => {
      const { far: handle } = uses as { readonly far: Record<"book" | "ring", (request?: object) => Promise<{ ok: boolean; refused?: string }>> };
      await handle[operation](operation === "book" ? { body: {} } : {}).then(
        ({ ok, refused }) => {
          told = ok ? "done" : (refused as string);
          throw new Error("after it"); // and so it runs again
        },
        (fault: unknown) => {
          told = codeOf(fault);
          throw fault;
        },
      );
    },
    conclude: () => ({ keep: true, end: "ok" }),
    fail: () => saved,
  });
  return told;
}

/** A run whose process dies as soon as its call has begun. */
async function dies(first: TestNode, operation: "book" | "ring"): Promise<void> {
  await new Promise<void>((resolve) => void run(first, operation, () => (resolve(), never())));
}

test("[F16] an idempotent call whose end one run left open stays so for those after it that get no answer, whatever they are told", async () => {
  for (const open of [(first: TestNode) => run(first, "book", reset), (first: TestNode) => dies(first, "book")]) {
    const first = await testNode();
    await open(first);

    for (const carry of notLetIn) assert.equal(await run(first, "book", carry), unknown);
    assert.equal(await run(first, "book", done), "done");
    assert.equal(await run(first, "book", shut), "done", "the answer is remembered");
  }
});

test("[F16] a refusal is an answer, also to a call that an earlier run left open", async () => {
  const first = await testNode();
  await dies(first, "book");

  assert.equal(await run(first, "book", problem(409, "full")), "full");
});

test("[F16] an idempotent call that no run has made is told as such by each, and one that dies in it after that leaves it open", async () => {
  const first = await testNode();
  assert.equal(await run(first, "book", shut), unreachable);
  assert.equal(await run(first, "book", problem(503, "request.not-admitted")), "request.not-admitted");
  assert.equal(await run(first, "book", problem(422, "request.body-invalid")), "external.refused");
  assert.equal(await run(first, "book", shut), unreachable);
  await dies(first, "book");

  assert.equal(await run(first, "book", shut), unknown);
});

test("[F16] a call that is not idempotent is made again after a run that certainly has not called, and is `outcome-unknown` after any other", async () => {
  const first = await testNode();
  for (const carry of notLetIn) assert.notEqual(await run(first, "ring", carry), "outcome-unknown");
  assert.equal(await run(first, "ring", done), "done");

  for (const open of [(second: TestNode) => dies(second, "ring"), (second: TestNode) => run(second, "ring", shut).then(() => dies(second, "ring"))]) {
    const second = await testNode();
    await open(second);
    assert.equal(await run(second, "ring", () => assert.fail("it was called again")), "outcome-unknown");
  }
  const third = await testNode();
  assert.equal(await run(third, "ring", reset), "outcome-unknown");
  assert.equal(await run(third, "ring", done), "outcome-unknown", "what the handler was told is remembered");
});

// ---- requests that have begun -----------------------------------------------------------------------------------------

const begun = records("begun", { key: z.string(), value: z.string() });
const paidOtherwise = records("paid-otherwise", { key: z.string(), value: z.string() });

/** A desk whose route fails as it is told, before or behind its recovery point. */
function bank() {
  let fails: { readonly at: "before" | "behind"; readonly with: unknown } | undefined;
  const till = external(
    "till",
    { retry: false, breaker: false },
    {
      look: query({ input: z.object({}), returns: z.unknown() }, async () => {
        if (fails?.at === "before") throw fails.with;
      }),
      pay: mutation({ input: z.object({}), returns: z.unknown() }, async () => ({})),
    },
  );
  const desk = service(
    "desk",
    { uses: { till, begun } },
    {
      lend: post("/loans", { body: z.object({ id: z.string() }), idempotent: true, timeout: "1s" }, async ({ body }, { till, begun }) => {
        await till.look({});
        begun.put(body.id, "yes");
        await till.pay({});
        if (fails?.at === "behind") throw fails.with;
        return { lent: body.id };
      }),
    },
  );
  const told: string[] = [];
  const buying = queue(
    "buying",
    { input: z.object({ id: z.string() }), uses: { desk, paidOtherwise }, retry: { attempts: 20, from: "1s", upTo: "1s" } },
    async ({ id }, { desk, paidOtherwise }) => {
      try {
        const loan = await desk.lend({ body: { id } });
        told.push(loan.ok ? loan.body.lent : "refused");
      } catch (fault) {
        told.push(codeOf(fault));
        if (Fault.is(fault, unknown)) throw fault;
        paidOtherwise.put(id, codeOf(fault));
      }
    },
  );
  return { desk, buying, told, fails: (at: "before" | "behind" | undefined, how?: unknown) => void (fails = at && { at, with: how }) };
}
const faults = [
  Fault.create("external.unreachable", "the door is shut", "Wait."),
  Fault.create("external.refused", "no", "none", { details: { status: 402 } }),
  Fault.create("request.not-admitted", "no place", "Wait."),
  Fault.create("commit.conflict", "somebody else", "Ask again."),
  new Error("broken"),
];

test("[F16] in the same process a fault of a route behind its recovery point is told as open, as what has begun will be finished; before it, as it is", async () => {
  const { desk, buying, told, fails } = bank();
  const clock = virtualClock();
  const node = await start(app("test", [desk, buying]), { store: "memory:", log: () => undefined, clock });
  nodes.push(node);
  for (const [n, fault] of faults.entries()) {
    told.length = 0;
    fails("behind", fault);
    await node.open(buying).send({ id: `behind ${n}` });
    await clock.advance(500);
    assert.deepEqual([new Set(told), await node.open(begun).get(`behind ${n}`)], [new Set([unknown]), "yes"], codeOf(fault));
    fails(undefined);
    await clock.advance(60_000);
    assert.deepEqual([told.at(-1), await node.open(paidOtherwise).get(`behind ${n}`)], [`behind ${n}`, undefined], "asked again, it has its answer");

    fails("before", fault);
    await node.open(buying).send({ id: `before ${n}` });
    await clock.advance(60_000);
    const asItIs = fault instanceof Error && !Fault.is(fault) ? unreachable : codeOf(fault); // what code of a query throws may be anything: it is no answer
    assert.deepEqual([await node.open(paidOtherwise).get(`before ${n}`), await node.open(begun).get(`before ${n}`)], [asItIs, undefined]);
  }
});

test("[F16] out of tries a job whose call has begun is undetermined, and outside of handlers that call is open as well", async () => {
  const { desk, buying, fails } = bank();
  const clock = virtualClock();
  const node = await start(app("test", [desk, buying]), { store: "memory:", log: () => undefined, clock });
  nodes.push(node);
  fails("behind", faults[0]);
  await node.open(buying).send({ id: "a" });
  await clock.advance(60_000);

  const metrics = async () => (await fetch(`${node.url}/_trestle/metrics`)).text();
  await metrics(); // queues are found with the first look
  assert.match(await metrics(), /trestle_queue_jobs\{queue="buying",state="undetermined"\} 1/);
  await assert.rejects(node.open(desk).lend({ body: { id: "b" } }), (fault) => Fault.is(fault, unknown) && Fault.is(fault.cause, unreachable));
});

test("[F16] a problem says whether its request is unfinished, and its caller by URL is told that it is open", async () => {
  const { desk, fails } = bank();
  const node = await start(app("test", [desk]), { store: "memory:", log: () => undefined, clock: virtualClock() });
  nodes.push(node);
  const headers = { "content-type": "application/json", "idempotency-key": "k" };
  const ask = (key: string) =>
    node.fetch(new Request("http://x/loans", { method: "POST", body: '{"id":"a"}', headers: { ...headers, "idempotency-key": key } }));
  for (const at of ["before", "behind"] as const)
    for (const [n, fault] of faults.entries()) {
      fails(at, fault);
      const answer = await ask(`${at} ${n}`.replace(" ", "-"));
      const { unfinished } = (await answer.json()) as { readonly unfinished?: boolean };
      assert.equal(unfinished, at === "behind" ? true : undefined, `${at} ${codeOf(fault)}`);
    }
  for (const [status, code] of [
    [409, "commit.conflict"],
    [503, "request.not-admitted"],
    [502, "external.refused"],
  ] as const)
    assert.equal(await run(await testNode(), "book", problem(status, code, { unfinished: true })), unknown, code);
});

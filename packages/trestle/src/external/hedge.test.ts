/** A query that is asked of another replica when one takes long, and what else of an external then sees two tries of one attempt. */
import assert from "node:assert/strict";
import { after, test } from "node:test";
import { z } from "zod";
import { app, start, type Node } from "../app/index.ts";
import { Fault, sleep, virtualClock } from "../kernel/index.ts";
import { queue } from "../messaging/index.ts";
import { get, service } from "../service/index.ts";
import { external, mutation, query, type ExternalSpec, type Wire } from "./index.ts";

const Input = z.object({ id: z.string() });
const Result = z.object({ replica: z.number() });

const nodes: Node[] = [];
after(async () => {
  for (const node of nodes) await node.stop(); // also those of a test that failed
});

/** Two replicas with one ledger of what they were asked. `takesMs`: of each replica in turn, for the query, or for what an operation of this name says. */
async function replicas(
  spec: ExternalSpec,
  takesMs: (asked: { readonly operation: string; readonly replica: number; readonly nth: number }) => number | Fault,
) {
  const clock = virtualClock();
  const ledger: { readonly operation: string; readonly replica: number; readonly attempt: number; readonly atMs: number; ended: string }[] = [];
  const asked =
    (operation: string) =>
    async (_input: unknown, { attempt, signal }: Wire) => {
      const replica = (attempt - 1) % 2;
      const entry = { operation, replica, attempt, atMs: clock.monotonicMs(), ended: "never" };
      ledger.push(entry);
      const ms = takesMs({ operation, replica, nth: ledger.filter((one) => one.operation === operation).length });
      if (typeof ms !== "number") throw ms;
      try {
        await sleep(clock, ms, signal);
        entry.ended = "answered";
      } catch (thrown) {
        entry.ended = Fault.is(thrown) ? thrown.code : String(thrown);
        throw thrown;
      }
      return { replica };
    };
  const far = external(
    "far",
    { timeout: "1s", breaker: false, ...spec },
    {
      look: query({ input: Input, returns: Result }, asked("look")),
      report: query({ input: Input, returns: Result }, asked("report")),
      change: mutation({ input: Input, returns: Result, lookup: asked("lookup") }, asked("change")),
    },
  );
  const work = queue("work", { input: Input, uses: { far }, retry: { attempts: 3, from: "1s", upTo: "1s" } }, async (message, { far }) => {
    await far.change(message);
  });
  const door = service("door", {}, { open: get("/", {}, () => "open") }); // so that there is a socket to ask for metrics
  const node = await start(app("test", [work, far, door]), { store: "memory:", log: () => undefined, clock });
  nodes.push(node);
  /** Its answer, or the code of its fault, and how long that took. */
  const ask = async (operation: "look" | "report" = "look") => {
    const startedMs = clock.monotonicMs();
    const answer = node
      .open(far)
      [operation]({ id: "a" })
      .then(
        ({ replica }) => replica,
        (fault: unknown) => (Fault.is(fault) ? fault.code : String(fault)),
      )
      .then((end) => ({ end, tookMs: clock.monotonicMs() - startedMs }));
    let ended = false;
    void answer.then(() => (ended = true));
    while (!ended) await clock.advance(1);
    return answer;
  };
  return { clock, node, work, ledger, ask };
}
const unreachable = () => Fault.create("external.unreachable", "nobody there", "Wait.");

test("a query that takes long is asked of another replica, whose answer is the call's, and the slow one is told to stop", async () => {
  const { ask, ledger } = await replicas({ hedge: { after: "50ms" } }, ({ replica }) => (replica === 0 ? 700 : 20));
  const { end, tookMs } = await ask();

  assert.equal(end, 1);
  assert.ok(tookMs >= 70 && tookMs < 80, `${tookMs} ms`);
  assert.deepEqual(
    ledger.map(({ attempt, ended }) => [attempt, ended]),
    [
      [1, "hedge.lost"],
      [2, "answered"],
    ],
  );
});

test("what changes something is asked once at a time, and so is its lookup, however long they take", async () => {
  const { clock, node, work, ledger } = await replicas({ hedge: { after: "50ms" }, retry: false }, ({ operation, nth }) =>
    operation === "change" && nth === 1 ? 5_000 : 700,
  );
  await node.open(work).send({ id: "a" });
  await clock.advance(20_000);
  await node.idle();

  assert.deepEqual(
    ledger.map(({ operation, ended }) => [operation, ended]),
    [
      ["change", "deadline.exceeded"],
      ["lookup", "answered"],
    ],
  );
});

test("a percentile is of the answers to that query: what is usual for one is long for another", async () => {
  const { ask, ledger } = await replicas({ hedge: { after: "p95" }, retry: { budget: "100%" } }, ({ operation, nth }) =>
    operation === "report" ? 500 : nth > 25 ? 400 : 10,
  );
  for (let i = 0; i < 25; i++) for (const operation of ["look", "report"] as const) await ask(operation);
  assert.equal(ledger.length, 50, "none was hedged");

  const { tookMs } = await ask("look");
  assert.equal(ledger.length, 52);
  assert.ok((ledger[51] as { atMs: number }).atMs - (ledger[50] as { atMs: number }).atMs < 20, "after what is usual for it");
  assert.ok(tookMs <= 420, `${tookMs} ms`);
});

test("retries and hedges have one budget: in a brown-out the additional tries of both stay a share of the calls", async () => {
  for (const retry of [{ attempts: 3, budget: "10%" }, false] as const) {
    const { ask, ledger, clock } = await replicas({ hedge: { after: "50ms" }, retry }, ({ nth }) => (nth % 3 === 0 ? unreachable() : 100));
    const startedMs = clock.monotonicMs();
    const calls = 200;
    const ends = [];
    for (let i = 0; i < calls; i++) ends.push((await ask()).end);
    const share = retry ? 0.1 : 0.2;
    const most = 10 + share * calls + (clock.monotonicMs() - startedMs) / 1_000;
    const additional = ledger.length - calls;

    assert.ok(additional > 20 && additional <= most, `${additional} of ${most}`);
    if (retry) assert.ok(ends.includes("retry.budget-spent"));
  }
});

test("each try takes a place: where there is none for another, the first goes on", async () => {
  const { ask, ledger } = await replicas({ hedge: { after: "50ms" }, concurrency: 1 }, () => 300);
  const [first, second] = await Promise.all([ask(), ask("report")]);

  assert.deepEqual([first.end, second.end], [0, 0]);
  assert.ok(first.tookMs >= 300 && first.tookMs < 310 && second.tookMs >= 600 && second.tookMs < 610, `${first.tookMs} ms, ${second.tookMs} ms`);
  const others = ledger.filter(({ attempt }) => attempt > 1);
  assert.ok(others.every(({ ended }) => ended === "hedge.lost") && others.length <= 2, JSON.stringify(others));
  assert.equal(ledger.find(({ operation, attempt }) => operation === "report" && attempt === 1)?.ended, "answered");
});

test("a try that fails waits for the other; the time of each is its own, and when both are over the call is tried again", async () => {
  const { ask, ledger } = await replicas({ hedge: { after: "600ms" }, retry: { attempts: 2 } }, ({ nth }) => (nth <= 2 ? 5_000 : 30));
  const { end, tookMs } = await ask();

  assert.deepEqual(
    [end, ledger.map(({ attempt, ended }) => [attempt, ended])],
    [
      0,
      [
        [1, "deadline.exceeded"],
        [2, "deadline.exceeded"],
        [3, "answered"],
      ],
    ],
  );
  assert.ok(tookMs >= 1_630 && tookMs < 2_000, `${tookMs} ms: both tries, then the back-off`);
});

test("a breaker hears of the tries that failed, not of those that another one was quicker than", async () => {
  const slow = await replicas({ hedge: { after: "50ms" }, retry: { budget: "100%" }, breaker: { failureRate: 0.5 } }, ({ replica }) =>
    replica === 0 ? 900 : 10,
  );
  for (let i = 0; i < 40; i++) assert.equal((await slow.ask()).end, 1);

  const hung = await replicas({ hedge: { after: "50ms" }, retry: false, breaker: { failureRate: 0.5, cooldown: "1m" } }, () => 5_000);
  const ends = [];
  for (let i = 0; i < 40; i++) ends.push((await hung.ask()).end);
  assert.equal(ends[0], "deadline.exceeded");
  assert.equal(ends.at(-1), "breaker.open");
});

test("hedges are counted, by whether they were first", async () => {
  const { ask, node } = await replicas({ hedge: { after: "50ms" }, retry: { budget: "100%" } }, ({ nth }) => [200, 10, 60, 200][nth - 1] ?? 1);
  for (let i = 0; i < 3; i++) await ask();
  const text = await (await fetch(`${node.url}/_trestle/metrics`)).text();

  for (const end of ["won", "lost"]) assert.match(text, new RegExp(`trestle_calls_hedged_total\\{component="far",end="${end}"\\} 1\\n`));
});

test("what cannot be hedged is a fault where it is declared", () => {
  const look = query({ input: Input, returns: Result }, async () => ({ replica: 0 }));
  const change = mutation({ input: Input, returns: Result }, async () => ({ replica: 0 }));
  const code = (expected: string) => (fault: unknown) => Fault.is(fault, expected as "breaker.open");

  assert.throws(() => external("a", { hedge: { after: "p95" } }, { change }), code("external.bad-hedge"));
  for (const after of ["5s", "1m", 5_000] as const) assert.throws(() => external("b", { hedge: { after } }, { look }), code("external.bad-hedge"));
  assert.throws(() => external("c", { hedge: { after: "p95", tries: 6 } }, { look }), code("option.out-of-range"));
  assert.throws(() => external("d", { hedge: { after: "p75" as "p95" } }, { look }), code("quantity.not-a-duration"));
});

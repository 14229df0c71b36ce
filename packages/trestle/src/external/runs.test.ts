/** What a run tells of a call that an earlier run has made, or has tried to: what may have happened is never told as what did not. */
import assert from "node:assert/strict";
import { after, test } from "node:test";
import { z } from "zod";
import { app, start, type Node } from "../app/index.ts";
import { decodeJournal, execute, journalKey, type Component, type Conclusion, type Work, type WorkContext } from "../component/index.ts";
import { testNode, type TestNode } from "../component/testing.ts";
import { Fault, systemClock, virtualClock } from "../kernel/index.ts";
import { queue } from "../messaging/index.ts";
import { declined, gatePolicy } from "../resilience/index.ts";
import { get, service } from "../service/index.ts";
import type { Commit, Store } from "../store/index.ts";
import { external, mutation, type ExternalSpec, type MutationSpec } from "./index.ts";

const Input = z.object({ id: z.string() });
const Result = z.object({ done: z.string() });
type Options = Partial<Pick<MutationSpec<typeof Input, typeof Result>, "lookup" | "outcome">>;

const codeOf = (thrown: unknown) => (Fault.is(thrown) ? thrown.code : String(thrown));
const reset = () => Promise.reject(new Error("reset")); // it may have arrived
const shut = () => Promise.reject(Fault.create("external.unreachable", "the door is shut", "Wait.", { details: { retryAfterMs: 5_000 } })); // it has not
const later = () => Promise.reject(Fault.create("external.refused", "not now", "Wait.", { details: { status: 429 } }));
const refused = () => Promise.reject(Fault.create("external.refused", "no", "none", { details: { status: 402 } }));
const never = () => new Promise<never>(() => undefined);
type Behave = () => Promise<unknown>;

const nodes: Node[] = [];
after(async () => {
  for (const node of nodes) await node.stop(); // also those of a test that failed
});

/** A job of so many tries as there are behaviours; `handled` is whether its handler goes on when it was not called. */
async function job(
  behaves: readonly Behave[],
  { handled = true, spec, options, before }: { handled?: boolean; spec?: ExternalSpec; options?: Options; before?: (attempt: number) => void } = {},
) {
  const clock = virtualClock();
  const told: string[] = [];
  let [calls, compensated] = [0, 0];
  const far = external(
    "far",
    { retry: false, breaker: false, ...spec },
    { change: mutation({ input: Input, returns: Result, ...options }, ({ id }) => (id === "a" ? (behaves[calls++] as Behave)() : reset())) },
  );
  const work = queue(
    "work",
    { input: Input, uses: { far }, retry: { attempts: behaves.length, from: "1s", upTo: "1s" } },
    async (message, { far }, { attempt }) => {
      before?.(attempt);
      try {
        told.push((await far.change(message)).done);
      } catch (fault) {
        told.push(codeOf(fault));
        if (!handled || !Fault.is(fault, "external.unreachable")) throw fault;
        compensated += 1;
      }
    },
  );
  const door = service("door", {}, { open: get("/", {}, () => "open") }); // so that there is a socket to ask for metrics
  const node = await start(app("test", [work, door]), { store: "memory:", log: () => undefined, clock });
  nodes.push(node);
  await node.open(work).send({ id: "a" });
  const states = async () => {
    const text = async () => (await fetch(`${node.url}/_trestle/metrics`)).text();
    await text(); // queues are found with the first look
    const found = await text();
    return ["dead", "undetermined"].filter((state) => found.includes(`trestle_queue_jobs{queue="work",state="${state}"} 1`));
  };
  return {
    live: node.open(far),
    async end() {
      for (let second = 0; second < 30; second++) await clock.advance(1_000);
      await node.idle();
      return { told, calls, compensated, states: await states() };
    },
    clock,
    told,
  };
}

const unknown = "external.outcome-unknown";
const unreachable = "external.unreachable";

test("[F16] what one run left open stays so when the next finds the door shut, whatever shut it: nothing is compensated, and out of tries the job is undetermined", async () => {
  let lets = 1;
  const gate = { refused: "own.declined", enter: () => (lets-- > 0 ? 0 : declined), fault: () => Fault.create("own.declined", "not now", "Wait.") };
  for (const [door, end] of [
    ["no connection", async () => (await job([reset, shut, shut])).end()],
    ["refused for now", async () => (await job([reset, later, later])).end()],
    ["policy", async () => (await job([reset, reset, reset], { spec: { policy: () => gatePolicy("own", gate) } })).end()],
    [
      "breaker",
      async () => {
        const { live, clock, told, end } = await job([reset, reset], { spec: { breaker: { failureRate: 0.5, cooldown: "1m" } } });
        while (told.length === 0) await clock.advance(1);
        for (let i = 0; i < 25; i++) await live.change({ id: "x" }).catch(() => undefined);
        return end();
      },
    ],
  ] as const) {
    const { told, calls, compensated, states } = await end();
    assert.deepEqual(new Set(told), new Set([unknown]), door);
    assert.deepEqual([told.length, calls], { breaker: [2, 1], policy: [3, 1] }[door as string] ?? [3, 3], door);
    assert.deepEqual([compensated, states], [0, ["undetermined"]], door);
  }
});

test("[F16] what no run has called is told as such by each, is not looked up, and out of tries the job is dead", async () => {
  let lookups = 0;
  const lookup = async () => void (lookups += 1);
  const passed = await (await job([shut, later, shut], { handled: false, options: { lookup } })).end();
  assert.deepEqual(passed, { told: [unreachable, "external.refused", unreachable], calls: 3, compensated: 0, states: ["dead"] });

  let tries = 0;
  const handled = await (await job([shut, shut, reset], { options: { lookup }, before: (attempt) => void (tries = attempt) })).end();
  assert.deepEqual([handled, tries], [{ told: [unreachable], calls: 1, compensated: 1, states: [] }, 1]);
  assert.equal(lookups, 0);

  const before = (attempt: number) => {
    if (attempt === 2) throw new Error("before it calls");
  };
  const failedElsewhere = await (await job([shut, shut], { handled: false, before })).end();
  assert.deepEqual(failedElsewhere, { told: [unreachable], calls: 1, compensated: 0, states: ["dead"] });
});

test("[F16] an answer settles what an earlier run left open: a refusal is the call's, and a later run that is not let in was not called", async () => {
  const { told, calls, states } = await (await job([reset, refused, shut], { handled: false })).end();

  assert.deepEqual([told, calls, states], [[unknown, "external.refused", unreachable], 3, ["dead"]]);
});

test("[F16] that the other side knows of no call is no proof: not let in after that, it stays open", async () => {
  const asked: string[] = [];
  const { told, states } = await (await job([reset, shut], { options: { lookup: async () => void asked.push("lookup") } })).end();

  assert.deepEqual([told, states], [[unknown, unknown], ["undetermined"]]);
  assert.ok(asked.length >= 3, "after the first, before the second and after it");
});

test("[F16] of a mutation that `may-repeat` the next run is told the same, as an ordinary failure", async () => {
  const { told, compensated, states } = await (await job([reset, shut, shut], { options: { outcome: "may-repeat" } })).end();

  assert.deepEqual([told, compensated, states], [[unknown, unknown, unknown], 0, ["dead"]]);
});

test("a job whose call stays open waits as long as whoever declined it has asked for", async () => {
  const { clock, told } = await job([reset, shut, reset]);
  const seen = [];
  for (let ms = 0; ms < 8_000 && told.length < 3; ms += 10) {
    await clock.advance(10);
    if (told.length > seen.length) seen.push(ms);
  }
  assert.ok((seen[2] as number) - (seen[1] as number) >= 5_000, seen.join());
});

// ---- processes that die -----------------------------------------------------------------------------------------------

const id = "0197a1b2-0000-7000-8000-000000000001";
const worker: Component = { kind: "queue", name: "worker" };
const saved: Conclusion = { keep: false, end: "fault", journal: "save" };

let processes = 0;
/** One run, in a process of its own on the store that they share. Answers what the handler was told. */
async function run(first: TestNode, behave: Behave, { store = first.store, guard }: { store?: Store; guard?: Work<unknown>["guard"] } = {}): Promise<string> {
  const far = external("far", { retry: false, breaker: false, timeout: "1h" }, { change: mutation({ input: Input, returns: Result }, behave) });
  const node = await testNode({ store, clock: first.clock, seed: `process ${++processes}` });
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
    guard,
    run: async (uses: object, _context: WorkContext) => {
      const { far: handle } = uses as { readonly far: { change(input: { id: string }): Promise<{ done: string }> } };
      await handle.change({ id: "a" }).then(
        ({ done }) => (told = done),
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
async function dies(first: TestNode, options: Parameters<typeof run>[2] = {}): Promise<void> {
  await new Promise<void>((resolve) => void run(first, () => (resolve(), never()), options));
}

test("[F16] a process that dies in its call leaves it open for all who come after, until one has an answer", async () => {
  const first = await testNode();
  await dies(first);

  assert.equal(await run(first, shut), unknown);
  assert.equal(await run(first, shut), unknown);
  assert.equal(await run(first, refused), "external.refused");
  assert.equal(await run(first, shut), unreachable);
});

test("[F16] a run that was not let in leaves nothing open, and one that dies in its call after that does", async () => {
  const first = await testNode();
  assert.equal(await run(first, shut), unreachable);
  assert.equal(await run(first, shut), unreachable);
  await dies(first);

  assert.equal(await run(first, shut), unknown);
});

test("[F16] a process that dies before it has noted that it was not let in leaves the call open", async () => {
  const first = await testNode();
  let commits = 0;
  const store = new Proxy(first.store, {
    get: (target, name) => (name === "commit" ? (one: Commit) => (++commits === 1 ? target.commit(one) : never()) : (Reflect.get(target, name) as unknown)),
  });
  await new Promise<void>((resolve) => void run(first, () => (systemClock.soon(resolve), shut()), { store }));

  assert.equal(await run(first, shut), unknown);
});

test("[F16] a call that was not made is made again only by who still owns the work", async () => {
  const first = await testNode();
  await run(first, shut);
  let calls = 0;
  const lost: Work<unknown>["guard"] = () => ({ expects: [{ kind: "claim", job: id, fence: { epoch: 1, n: 1 } }], writes: [] });

  await run(first, async () => void (calls += 1), { guard: lost });

  assert.equal(calls, 0);
  assert.equal(await run(first, shut), unreachable);
});

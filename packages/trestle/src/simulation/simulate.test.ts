import assert from "node:assert/strict";
import { test } from "node:test";
import { z } from "zod";
import { app } from "../app/index.ts";
import type { Handles } from "../component/index.ts";
import { Fault } from "../kernel/index.ts";
import { records } from "../records/index.ts";
import { post, service } from "../service/index.ts";
import { checkLinearizable, counter, search, simulate, sometimes, type Checked, type CounterCall, type History, type Scenario } from "./index.ts";

const Amount = z.object({ id: z.string(), cents: z.int() });
const sums = records("sums", { key: z.string(), value: z.object({ cents: z.int() }) });
const payments = records("payments", { key: z.string(), value: z.object({ cents: z.int() }) });

/** A till that keeps a sum, and each payment by its id: where one payment counts twice, the two differ. */
const uses = { sums, payments };
async function enter({ id, cents }: z.infer<typeof Amount>, held: Handles<typeof uses, "write">) {
  const sum = (await held.sums.get("all")) ?? { cents: 0 };
  held.sums.put("all", { cents: sum.cents + cents });
  held.payments.put(id, { cents });
  return {};
}
const surely = service("surely", { uses }, { pay: post("/payments", { body: Amount, idempotent: true }, ({ body }, uses) => enter(body, uses)) });
const plainly = service("plainly", { uses }, { pay: post("/payments", { body: Amount }, ({ body }, uses) => enter(body, uses)) });

const booksAgree = async ({ sums, payments }: { sums: any; payments: any }) => {
  const { items } = await payments.list({ limit: 1_000 });
  return ((await sums.get("all"))?.cents ?? 0) === items.reduce((sum: number, { cents }: { cents: number }) => sum + cents, 0);
};

const sure: Scenario<{ surely: typeof surely; sums: typeof sums; payments: typeof payments }> = {
  uses: { surely, sums, payments },
  seeds: 40,
  clients: {
    count: 4,
    each: async ({ surely }, chance) => {
      const answer = await surely.pay({ body: { id: chance.id(), cents: chance.integer(1, 100) } });
      sometimes("a payment was taken", answer.ok);
    },
  },
  always: { "the sum is that of the payments": booksAgree },
  eventually: { "the sum is that of the payments": booksAgree },
};

test("an app that keeps its promises keeps them whatever crashes, is cut off, lost, repeated or late", async () => {
  const found = await search(app("till", [surely, sums, payments]), sure);

  assert.equal(found.broken, undefined, found.broken?.message);
  assert.equal(found.seeds, 40);
});

test("a client that pays again when it hears nothing pays twice at a route without a key: the seed is found, made smaller, and breaks again", async () => {
  const careless: Scenario<{ plainly: typeof plainly; sums: typeof sums; payments: typeof payments }> = {
    uses: { plainly, sums, payments },
    seeds: 200,
    nodes: 2,
    for: "5s",
    clients: {
      count: 4,
      each: async ({ plainly }, chance) => {
        const body = { id: chance.id(), cents: chance.integer(1, 100) };
        for (let tries = 0; ; tries++) {
          try {
            await plainly.pay({ body });
            return;
          } catch (fault) {
            if (tries === 5) throw fault;
          }
        }
      },
    },
    eventually: { "the sum is that of the payments": booksAgree },
  };
  const till = app("till", [plainly, sums, payments]);

  const fault = await simulate(till, careless).then(
    () => undefined,
    (thrown: unknown) => thrown,
  );

  assert.ok(Fault.is(fault, "simulation.promise-broken"), String(fault));
  const { seed, plan, clients } = fault.details as { seed: `0x${string}`; plan: readonly unknown[]; clients: number };
  assert.match(fault.message, /the sum is that of the payments/);
  assert.ok(plan.length <= 4, `the plan that is left has ${plan.length} faults`);
  assert.ok(clients <= 4);
  await assert.rejects(simulate(till, { ...careless, seeds: [seed] }), (again) => Fault.is(again, "simulation.promise-broken"));
});

const { now } = Date;
const hasty = service(
  "hasty",
  { uses },
  {
    pay: post("/payments", { body: Amount, idempotent: true }, async ({ body }, uses) => {
      // A clock that was kept before the simulation began decides how much is read.
      for (let left = now() % 7; left > 0; left--) await uses.payments.get(`earlier-${left}`);
      return enter(body, uses);
    }),
  },
);

test("an app that asks a clock behind the simulation's back is told so, with the event where two runs went apart", async () => {
  const fault = await simulate(app("hasty", [hasty, sums, payments]), {
    uses: { hasty, sums, payments },
    seeds: 5,
    faults: {},
    clients: { count: 4, each: async ({ hasty }, chance) => void (await hasty.pay({ body: { id: chance.id(), cents: 1 } })) },
  }).then(
    () => undefined,
    (thrown: unknown) => thrown,
  );

  assert.ok(Fault.is(fault, "simulation.nondeterministic"), String(fault));
  assert.match(fault.message, /at event \d+/);
});

const tallies = records("tallies", { key: z.string(), value: z.object({ n: z.int() }) });
const sloppy = service(
  "sloppy",
  { uses: { tallies } },
  {
    count: post("/counts", {}, async (_request, { tallies }) => {
      const [one] = (await tallies.list({ limit: 1 })).items; // a list is no precondition: of two that count at once one is lost
      const n = (one?.n ?? 0) + 1;
      tallies.put("all", { n });
      return { n };
    }),
  },
);
const counting = (judge: (history: readonly unknown[]) => Checked | boolean): Scenario<{ sloppy: typeof sloppy }> => ({
  uses: { sloppy },
  seeds: 20,
  for: "100ms",
  faults: {},
  clients: {
    count: 3,
    each: async ({ sloppy }, _chance, history) => {
      const add = history.invoke({ kind: "add", amount: 1 });
      const answer = await sloppy.count();
      if (answer.ok) add.ok(answer.body.n);
    },
  },
  eventually: { "each call counts": (_world, history) => judge(history.history()) },
});

test("what clients saw is judged by a checker, seed by seed, and what it found is told", async () => {
  const lengths: number[] = [];
  const { broken } = await search(
    app("tally", [sloppy]),
    counting((history) => {
      lengths.push(history.length);
      return checkLinearizable(history as History<CounterCall, number>, counter());
    }),
  );

  assert.ok(Fault.is(broken, "simulation.promise-broken"), String(broken));
  assert.match(broken.message, /each call counts.*not-linearizable/s);
  assert.ok(Math.max(...lengths) <= 15, "a history has what its own seed's clients did, and nothing else");
});

test("a check that is never certain breaks nothing, and is told as something that was never seen", async () => {
  const seen: boolean[] = [];
  const unsure: Checked = { verdict: "unknown", problems: [], explored: { operations: 0, states: 0 } };

  const { broken } = await search(
    app("tally", [sloppy]),
    counting(() => unsure),
    { onSeed: ({ sometimes }) => void seen.push(sometimes.get("each call counts") as boolean) },
  );

  assert.equal(broken, undefined);
  assert.deepEqual(new Set(seen), new Set([false]));
});

test("what would reach outside of the process fails the seed, and says what to do instead", async () => {
  const { broken } = await search(app("reaching", [sums]), {
    uses: { sums },
    seeds: 1,
    faults: {},
    clients: { count: 1, each: async () => void (await (await import("node:fs/promises")).readFile("/etc/hostname")) },
  });

  assert.match(String(broken?.message), /fs\/promises\.readFile was called inside a simulation/);
});

test("who waits for what, and since when, is told of a client whose call never ends", async () => {
  const { broken, result } = await search(app("stuck", [sums]), {
    uses: { sums },
    seeds: 1,
    nodes: 1,
    for: "1s",
    faults: {},
    clients: {
      count: 1,
      times: 1,
      each: async ({ sums }) => {
        await sums.get("all");
        await new Promise(() => undefined);
      },
    },
  });

  assert.match(String(broken?.message), /after 10 minutes without faults 1 calls of clients are not answered/);
  assert.match(String(broken?.message), /\n {2}client-1#1 is in its call since [\d.]+ s and waits for nothing that can happen any more/);
  assert.deepEqual(broken?.details["blocked"], result?.failure?.blocked);
});

test("an external without a model is named before anything runs", async () => {
  const { external, mutation } = await import("../external/index.ts");
  const bank = external("bank", {}, { charge: mutation({ input: Amount, returns: z.object({}) }, (input, wire) => wire.post("/", input)) });

  await assert.rejects(
    simulate(app("modelless", [bank, sums]), { uses: { sums }, clients: { count: 1, each: () => Promise.resolve() } }),
    (fault) => Fault.is(fault, "simulation.no-model") && /"bank"/.test(fault.message),
  );
});

test("what may go wrong is what is named, or all but what is named with false", async () => {
  const kinds = async (faults: Scenario<Record<never, never>>["faults"]) => {
    const seen = new Set<string>();
    const quiet: Scenario<Record<never, never>> = {
      uses: {},
      nodes: 1,
      for: "2s",
      seeds: 30,
      ...(faults && { faults }),
      clients: { count: 1, times: 1, each: () => Promise.resolve() },
    };
    await search(app("quiet", [sums]), quiet, { onSeed: ({ plan }) => plan.forEach(({ kind }) => seen.add(kind)) });
    return seen;
  };

  assert.deepEqual(await kinds({}), new Set());
  assert.deepEqual(await kinds({ crash: true, pause: false }), new Set(["crash"]));
  const most = await kinds({ crash: false });
  assert.ok(most.size > 5 && !most.has("crash") && !most.has("lagging-standby"), [...most].join());
});

test("a seed is the same history whether it is run first or after others, and after one that ended in the middle of its work", async () => {
  const till = app("till", [surely, sums, payments]);
  const hashesOf = async (seeds: readonly string[], scenario: Scenario<any> = sure): Promise<Map<string, string>> => {
    const hashes = new Map<string, string>();
    await search(till, scenario, { seeds, onSeed: ({ seed, hash, events }) => void hashes.set(seed, `${events} events, ${hash}`) });
    return hashes;
  };
  const seeds = ["0x1", "0x2", "0x3"];

  const after = await hashesOf(seeds);
  const first = new Map<string, string>();
  for (const seed of seeds) for (const [of, hash] of await hashesOf([seed])) first.set(of, hash);
  const broken = await hashesOf(["0xbad"], {
    ...sure,
    always: { "nothing is ever paid": async ({ payments }: any) => (await payments.list({ limit: 1 })).items.length === 0 },
  });
  const afterBroken = await hashesOf(seeds.toReversed());

  assert.deepEqual(first, after);
  assert.equal(broken.size, 1);
  assert.deepEqual(new Map([...afterBroken].reverse()), after);
});

import assert from "node:assert/strict";
import { test } from "node:test";
import { z } from "zod";
import { app } from "../app/index.ts";
import { sleep } from "../kernel/index.ts";
import { records } from "../records/index.ts";
import { post, service } from "../service/index.ts";
import { search, type Scenario } from "./index.ts";
import { currentLife, type Life } from "./world.ts";

const payments = records("payments", { key: z.string(), value: z.object({ cents: z.int() }) });
const till = service(
  "till",
  { uses: { payments } },
  {
    pay: post("/payments", { body: z.object({ id: z.string(), cents: z.int() }), idempotent: true }, async ({ body: { id, cents } }, { payments }) => {
      payments.put(id, { cents });
      return {};
    }),
  },
);

/** Clients pay, and look some seconds later whether what was answered is still there. */
const keeping: Scenario<{ till: typeof till; payments: typeof payments }> = {
  uses: { till, payments },
  store: "postgres",
  for: "10s",
  clients: {
    count: 4,
    times: 4,
    each: async ({ till, payments }, chance) => {
      const id = chance.id();
      await till.pay({ body: { id, cents: 1 } });
      await sleep((currentLife() as Life).clock, 3_000);
      if ((await payments.get(id)) === undefined) throw new Error("what was answered is gone");
    },
  },
};

test("a fail-over to a standby that follows takes back nothing that was answered, whatever else goes wrong", async () => {
  const found = await search(app("till", [till, payments]), { ...keeping, seeds: 30 });

  assert.equal(found.broken, undefined, found.broken?.message);
  assert.equal(found.seeds, 30);
});

test("a fail-over to a standby that lags takes back what was answered, and the seed is found and made smaller", async () => {
  const found = await search(app("till", [till, payments]), { ...keeping, seeds: 200, faults: { "fail-over": true, "lagging-standby": true } });

  assert.match(found.broken?.message ?? "", /what was answered is gone/);
  assert.deepEqual(found.result?.plan.map(({ kind }) => kind).sort(), ["fail-over", "lagging-standby"]);
});

test("what only PostgreSQL shows is not drawn for a store that is SQLite", async () => {
  const kinds = new Set<string>();

  await search(
    app("till", [till, payments]),
    { ...keeping, store: "sqlite", seeds: 30 },
    {
      onSeed: ({ plan }) => {
        for (const { kind } of plan) kinds.add(kind);
      },
    },
  );

  assert.ok(kinds.size >= 8);
  for (const kind of ["fail-over", "lagging-standby", "deadlock"]) assert.ok(!kinds.has(kind), kind);
});

import { test } from "node:test";
import assert from "node:assert/strict";
import { z } from "zod";
import { app, start } from "../app/index.ts";
import { refuse } from "../component/index.ts";
import { projection } from "../events/index.ts";
import { Fault, virtualClock } from "../kernel/index.ts";
import { post, service } from "../service/index.ts";
import { topic } from "./index.ts";

const paid = topic("paid", { events: { Paid: z.object({ order: z.string(), cents: z.int() }) }, key: ({ data }) => data.order });
const sums = projection(
  "sums",
  { from: paid, row: z.object({ cents: z.int() }), when: "in-commit" },
  {
    creates: { Paid: ({ cents }) => ({ cents }) },
    updates: { Paid: (row, { cents }) => ({ cents: row.cents + cents }) },
  },
);
const hooks = service(
  "hooks",
  { uses: { paid } },
  {
    paid: post("/paid/:id", { refuses: { "moved-on": 409 } }, async ({ params }, { paid }) => {
      const fresh = await paid.publishOnce.Paid(params.id, { order: "1", cents: 5 });
      const again = await paid.publishOnce.Paid(params.id, { order: "1", cents: 5 });
      return { fresh, again };
    }),
    third: post("/third", { refuses: { "moved-on": 409 } }, async (_request, { paid }) => {
      if ((await paid.version("1")) !== 2) return refuse("moved-on");
      paid.publish.Paid({ order: "1", cents: 1 });
      return "published";
    }),
  },
);
const house = app("house", [hooks, sums]);
const quiet = { store: "memory:", log: () => undefined } as const;
const ask = (node: { fetch(request: Request): Promise<Response> }, path: string) => node.fetch(new Request(`http://x${path}`, { method: "POST" }));

test("[MSG-11] an event that is published again under its id is one event, at once and one after the other, and its in-commit followers see one", async () => {
  await using node = await start(house, quiet);

  const answers = await Promise.all(
    Array.from({ length: 20 }, async (_, i) => (await ask(node, `/paid/hook-${i % 4}`)).json() as Promise<{ fresh: boolean; again: boolean }>),
  );
  const later = (await (await ask(node, "/paid/hook-1")).json()) as { fresh: boolean };
  const events = [];
  for await (const event of node.open(paid).history({ key: "1" })) events.push(event);

  assert.equal(answers.filter(({ fresh }) => fresh).length, 4);
  assert.ok(
    answers.every(({ again }) => !again),
    "nor twice in one handler",
  );
  assert.equal(later.fresh, false);
  assert.deepEqual(
    events.map(({ version }) => version),
    [1, 2, 3, 4],
  );
  assert.deepEqual(await node.open(sums).get("1"), { cents: 20 });
});

test("an id is remembered for a day at least, per topic and tenant", async () => {
  const clock = virtualClock();
  await using node = await start(house, { ...quiet, clock });
  const publish = () => node.open(paid).publishOnce.Paid("hook", { order: "1", cents: 5 });

  const [first, second] = [await publish(), await publish()];
  await clock.advance(23.9 * 3_600_000);
  const third = await publish();

  assert.deepEqual([first, second, third], [true, false, false]);
});

test("[EVS-01] of many who expect a version of a key exactly one wins, and there is no gap", async () => {
  await using node = await start(house, quiet);
  for (let i = 0; i < 2; i++) await node.open(paid).publish.Paid({ order: "1", cents: 1 });

  const answers = await Promise.all(Array.from({ length: 100 }, () => ask(node, "/third")));

  assert.deepEqual(answers.map(({ status }) => status).sort(), [200, ...Array.from({ length: 99 }, () => 409)]);
  assert.equal(await node.open(paid).version("1"), 3);
});

test("a key's history is read from either end, between two versions, and over many pages", async () => {
  await using node = await start(house, quiet);
  await node.commit({ paid }, ({ paid }) => {
    for (let cents = 1; cents <= 700; cents++) paid.publish.Paid({ order: "1", cents });
  });
  const read = async (options: object): Promise<number[]> => {
    const versions = [];
    for await (const { version } of node.open(paid).history({ key: "1", ...options })) versions.push(version);
    return versions;
  };

  assert.deepEqual(
    await read({}),
    Array.from({ length: 700 }, (_, i) => i + 1),
  );
  assert.deepEqual(
    await read({ order: "newest" }),
    Array.from({ length: 700 }, (_, i) => 700 - i),
  );
  assert.deepEqual(await read({ after: 3, before: 6 }), [4, 5]);
  assert.deepEqual(
    await read({ after: 100, before: 601, order: "newest" }),
    Array.from({ length: 500 }, (_, i) => 600 - i),
  );
  assert.throws(
    () => node.open(paid).history({ order: "sideways" as "newest" }),
    (thrown) => Fault.is(thrown, "history.bad-option"),
  );
});

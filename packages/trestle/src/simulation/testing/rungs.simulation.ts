/** Ladders of routes: while a system outside is cut off or slow, who asks gets less; afterwards nodes answer with the whole again, unaided. */
import { z } from "zod";
import { app, external, get, query, records, schedule, service } from "../../index.ts";
import { always, model, scenario, sometimes } from "../index.ts";

const prices = external(
  "prices",
  { timeout: "500ms", retry: false, breaker: { cooldown: "1s" }, health: { ask: "of", input: { name: "health" }, every: "2s" } },
  { of: query({ input: z.object({ name: z.string() }), returns: z.object({ cents: z.int() }) }, ({ name }, wire) => wire.get(`/prices/${name}`)) },
);
const Product = z.object({ name: z.string(), cents: z.int().optional() });
const shop = service(
  "shop",
  { uses: { prices } },
  {
    product: get(
      "/products/:name",
      { returns: Product, degrade: { stale: { for: "3s" }, partial: ({ params: { name } }) => ({ name }) } },
      async ({ params: { name } }, { prices }) => ({ name, ...(await prices.of({ name })) }),
    ),
  },
);

const centsOf = (name: string) => name.length * 100;

const seen = records("seen", { key: z.string(), value: z.boolean() });
/** Asks the node that it runs on, more than it would probe. */
const watching = schedule("watching", { every: "1s", uses: { shop, seen } }, async ({ due }, { shop, seen }) => {
  const answers = await Promise.all(["cup", "table", "lamp"].map((name) => shop.product({ params: { name } })));
  seen.put(
    String(due),
    answers.every(({ body }) => body.cents !== undefined),
  );
});

export const answersWithLess = scenario(app("rungs", [shop, watching]), {
  uses: { shop, seen },
  for: "20s",
  outside: [model(prices, { of: ({ name }) => ({ cents: centsOf(name) }) })],
  degradation: {
    policies: {
      version: 1,
      mode: "enforce",
      routes: {
        "shop.product": {
          ladder: ["full", "stale", "partial"],
          dwell: "2s",
          probe: "500ms",
          when: [
            { breaker: "prices", serve: "stale" },
            { health: "prices", serve: "partial" },
          ],
        },
      },
    },
  },
  clients: {
    count: 3,
    times: 20,
    each: async ({ shop }, chance) => {
      const name = chance.pick(["cup", "table", "lamp"]);
      const { body } = await shop.product({ params: { name } });
      always("an answer is that of its product", body.name === name && (body.cents === undefined || body.cents === centsOf(name)), body);
      sometimes("an answer has no price", body.cents === undefined);
    },
  },
  eventually: {
    "the last ten seconds have seen the whole": async ({ seen }) => (await seen.list({ limit: 1_000 })).items.slice(-10).every(Boolean),
  },
});

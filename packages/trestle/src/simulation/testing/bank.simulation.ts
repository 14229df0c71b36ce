/** Commits over several records: nothing is lost, nothing is made from nothing, and what two of them promise together holds together. */
import { z } from "zod";
import { app, post, records, refuse, service } from "../../index.ts";
import { scenario, sometimes } from "../index.ts";

const names = ["ada", "ben", "cyd"] as const;
const Name = z.enum(names);
const firstCents = 100;
const accounts = records("accounts", {
  key: Name,
  value: z.object({ cents: z.int() }),
  seed: names.map((name) => [name, { cents: firstCents }] as const),
});
const taken = records("taken", { key: z.string(), value: z.object({ cents: z.int() }) });
const tally = records("tally", { key: z.string(), value: z.int() });

const bank = service(
  "bank",
  { uses: { accounts, taken, tally } },
  {
    transfer: post(
      "/transfers",
      { body: z.object({ from: Name, to: Name, cents: z.int().positive() }), idempotent: true, refuses: { "too-little": 409 } },
      async ({ body: { from, to, cents } }, { accounts, tally }) => {
        const [one, other] = [(await accounts.get(from))?.cents ?? 0, (await accounts.get(to))?.cents ?? 0];
        if (from === to || one < cents) return refuse("too-little");
        accounts.put(from, { cents: one - cents });
        accounts.put(to, { cents: other + cents });
        tally.add("transfers", 1);
        return {};
      },
    ),
    /** From one account, as long as two of them together have enough: what two such handlers read must not both be old. */
    takeFromPair: post(
      "/takes",
      { body: z.object({ id: z.string(), from: Name, beside: Name, cents: z.int().positive() }), idempotent: true, refuses: { "too-little": 409 } },
      async ({ body: { id, from, beside, cents } }, { accounts, taken }) => {
        const [one, other] = [(await accounts.get(from))?.cents ?? 0, (await accounts.get(beside))?.cents ?? 0];
        if (from === beside || one + other < cents) return refuse("too-little");
        accounts.put(from, { cents: one - cents });
        taken.put(id, { cents });
        return {};
      },
    ),
  },
);

export const movingMoney = scenario(app("bank", [bank]), {
  uses: { bank, accounts, taken, tally },
  for: "10s",
  clients: {
    count: 5,
    times: 4,
    each: async ({ bank }, chance) => {
      if (chance.next() < 0.6) {
        const answer = await bank.transfer({ body: { from: chance.pick(names), to: chance.pick(names), cents: chance.integer(1, 60) } });
        sometimes("money is moved", answer.ok);
      } else {
        const answer = await bank.takeFromPair({ body: { id: chance.id(), from: "ada", beside: "ben", cents: chance.integer(50, 150) } });
        sometimes("money is taken", answer.ok);
      }
    },
  },
  always: {
    "no money comes or goes but what was taken": async ({ accounts, taken }) => {
      const kept = (await accounts.list({ limit: 10 })).items.reduce((sum, { cents }) => sum + cents, 0);
      const gone = (await taken.list({ limit: 1_000 })).items.reduce((sum, { cents }) => sum + cents, 0);
      return kept + gone === firstCents * names.length;
    },
    "together they never owe": async ({ accounts }) => {
      const all = (await accounts.list({ limit: 10 })).items.reduce((sum, { cents }) => sum + cents, 0);
      return all >= 0;
    },
  },
});

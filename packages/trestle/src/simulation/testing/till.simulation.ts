/** Idempotent routes: whatever is lost, repeated or taken over, a payment counts once, and the same key gets the same answer. */
import { z } from "zod";
import { app, post, records, refuse, service } from "../../index.ts";
import { scenario, sometimes } from "../index.ts";

const Payment = z.object({ id: z.string(), cents: z.int() });
const sums = records("sums", { key: z.string(), value: z.object({ cents: z.int(), count: z.int() }) });
const payments = records("payments", { key: z.string(), value: z.object({ cents: z.int(), number: z.int() }) });

const tips = records("tips", { key: z.string(), value: z.int() });

const till = service(
  "till",
  { uses: { sums, payments, tips } },
  {
    pay: post("/payments", { body: Payment, idempotent: true, refuses: { "too-much": 422 } }, async ({ body }, { sums, payments }) => {
      const sum = (await sums.get("all")) ?? { cents: 0, count: 0 };
      sums.put("all", { cents: sum.cents + body.cents, count: sum.count + 1 });
      if (body.cents > 90) return refuse("too-much"); // discards what was put
      payments.put(body.id, { cents: body.cents, number: sum.count + 1 });
      return { number: sum.count + 1 };
    }),
    /** Without a key: at most once for each call, and surely once where it was answered. */
    tip: post("/tips", { body: z.object({ id: z.string() }) }, async ({ body: { id } }, { tips }) => {
      tips.put(id, ((await tips.get(id)) ?? 0) + 1);
      return {};
    }),
  },
);

export const payingOnce = scenario(app("till", [till]), {
  uses: { till, sums, payments, tips },
  for: "10s",
  clients: {
    count: 4,
    times: 4,
    each: async ({ till, payments, tips }, chance) => {
      const id = chance.id();
      if (chance.next() < 0.3) {
        await till.tip({ body: { id } });
        if ((await tips.get(id)) === undefined) throw new Error(`tip ${id} was answered and is not there`);
        return;
      }
      const answer = await till.pay({ body: { id, cents: chance.integer(1, 100) } });
      if (!answer.ok) return sometimes("a payment is refused");
      sometimes("a payment is taken");
      const kept = await payments.get(id).catch(() => undefined);
      if (kept && kept.number !== answer.body.number)
        throw new Error(`payment ${id} was answered as number ${answer.body.number} and is number ${kept.number}`);
    },
  },
  always: {
    "no tip counts twice": async ({ tips }) => (await tips.list({ limit: 1_000 })).items.every((times) => times === 1),
    "the sum and the count are those of the payments": async ({ sums, payments }) => {
      const { items } = await payments.list({ limit: 1_000 });
      const sum = (await sums.get("all")) ?? { cents: 0, count: 0 };
      return sum.count === items.length && sum.cents === items.reduce((all, { cents }) => all + cents, 0);
    },
  },
});

/** Transactions over several records: there is one order of all of them, and it is that of time. */
import { z } from "zod";
import { app, get, post, records, service } from "../../index.ts";
import { checkListAppend, scenario, sometimes, type MicroOperation, type Transaction, type Value } from "../index.ts";

const names = ["x", "y", "z"] as const;
const Name = z.enum(names);
const Step = z.discriminatedUnion("kind", [
  z.object({ kind: z.literal("append"), key: Name, value: z.string() }),
  z.object({ kind: z.literal("read"), key: Name }),
]);
const Steps = z.object({ steps: z.array(Step) });
const lists = records("lists", { key: Name, value: z.array(z.string()) });
type Lists = { get(key: z.infer<typeof Name>): Promise<string[] | undefined>; put(key: z.infer<typeof Name>, value: string[]): void };

async function carryOut(steps: z.infer<typeof Steps>["steps"], lists: Lists): Promise<{ seen: (string[] | null)[] }> {
  const seen: (string[] | null)[] = [];
  for (const step of steps) {
    const list = (await lists.get(step.key)) ?? [];
    if (step.kind === "append") lists.put(step.key, [...list, step.value]);
    seen.push(step.kind === "read" ? list : null);
  }
  return { seen };
}

const desk = service(
  "desk",
  { uses: { lists } },
  {
    surely: post("/surely", { body: Steps, idempotent: true }, ({ body: { steps } }, { lists }) => carryOut(steps, lists)),
    once: post("/once", { body: Steps }, ({ body: { steps } }, { lists }) => carryOut(steps, lists)),
    look: get("/lists", { consistent: true }, async (_request, { lists }) => ({
      seen: await Promise.all(names.map(async (name) => (await lists.get(name)) ?? [])),
    })),
  },
);

const looking: readonly MicroOperation[] = names.map((key) => ({ kind: "read", key }));

export const keepingLists = scenario(app("desk", [desk]), {
  uses: { desk, lists },
  for: "10s",
  clients: {
    count: 4,
    times: 4,
    each: async ({ desk }, chance, history) => {
      const how = chance.next();
      if (how < 0.2) {
        const look = history.invoke(looking);
        return look.ok((await desk.look()).body.seen);
      }
      const steps = Array.from({ length: chance.integer(1, 3) }, (): z.infer<typeof Step> => {
        const key = chance.pick(names);
        return chance.next() < 0.6 ? { kind: "append", key, value: chance.id() } : { kind: "read", key };
      });
      const transaction = history.invoke(steps);
      const answer = how < 0.7 ? await desk.surely({ body: { steps } }) : await desk.once({ body: { steps } });
      if (answer.ok) transaction.ok(answer.body.seen);
    },
  },
  eventually: {
    "all transactions have one order": async ({ lists }, history) => {
      const look = history.invoke(looking);
      const all = await Promise.all(names.map(async (name) => (await lists.get(name)) ?? []));
      look.ok(all);
      sometimes("lists grow long", all.flat().length > 8);
      const transactions: readonly Transaction[] = history.history<readonly MicroOperation[], readonly (readonly Value[] | null)[]>();
      return checkListAppend(transactions, { order: "realtime" });
    },
  },
});

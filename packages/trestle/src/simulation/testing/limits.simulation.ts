/** Limits over the fleet, and pauses: what all nodes together begin is never more than was said, and nothing while it is paused. */
import { z } from "zod";
import { app, post, queue, records, service } from "../../index.ts";
import { scenario, sometimes } from "../index.ts";

const atOnce = 2;
const perSecond = 10;
/** What is late is made up for within this; and the first may go at once. */
const slackMs = 100;

const done = records("done", { key: z.string(), value: z.int() });
const gates = records("gates", { key: z.string(), value: z.object({ n: z.int(), isOpen: z.boolean() }) });
const pressing = queue(
  "pressing",
  {
    input: z.object({ id: z.string() }),
    uses: { done },
    retry: { attempts: 50, from: "20ms", upTo: "500ms" },
    fleetConcurrency: atOnce,
    rate: `${perSecond}/s`,
  },
  async ({ id }, { done }) => {
    await new Promise((resolve) => setTimeout(resolve, Math.random() * 300));
    done.put(id, ((await done.get(id)) ?? 0) + 1);
  },
);
const press = service(
  "press",
  { uses: { pressing, gates } },
  {
    print: post("/prints", { body: z.object({ ids: z.array(z.string()) }), idempotent: true }, ({ body: { ids } }, { pressing }) => {
      pressing.sendMany(ids.map((id) => ({ id })));
      return {};
    }),
    turn: post("/gate", { body: z.object({ isOpen: z.boolean() }), idempotent: true }, async ({ body: { isOpen } }, { pressing, gates }) => {
      gates.put("gate", { n: ((await gates.get("gate"))?.n ?? 0) + 1, isOpen });
      if (isOpen) pressing.resume();
      else pressing.pause();
      return {};
    }),
  },
);

/** What one look saw. Jobs that are done or run have been begun, each at least once. */
interface Look {
  readonly atMs: number;
  readonly begun: number;
  readonly gate: number;
  readonly isOpen: boolean;
}

export const printingWithinLimits = scenario(app("press", [press, pressing]), {
  uses: { press, pressing, done, gates },
  for: "10s",
  clients: {
    count: 3,
    times: 4,
    each: async ({ press }, chance) => {
      if (chance.next() < 0.6) await press.print({ body: { ids: Array.from({ length: chance.integer(1, 5) }, () => chance.id()) } });
      else await press.turn({ body: { isOpen: chance.next() < 0.6 } });
    },
  },
  always: {
    "no more run, or are begun, than was said, and none while it is paused": async ({ pressing, done, gates }, history) => {
      const { running } = await pressing.depth();
      const { n: gate, isOpen } = (await gates.get("gate")) ?? { n: 0, isOpen: true };
      const looked = history.invoke<Look>({ kind: "look" });
      const begun = running + (await done.list({ limit: 1_000 })).items.length;
      const looks = history.history<unknown, Look>();
      const { invokedAt: atMs } = looks.at(-1) as (typeof looks)[number];
      const last = looks.at(-2)?.result;
      sometimes("as many run as may", running === atOnce);
      sometimes("it is paused", !isOpen);
      looked.ok({ atMs, begun, gate, isOpen });
      if (running > atOnce) return false;
      if (last && !isOpen && last.gate === gate && begun > last.begun) return false;
      return looks.every(({ result }) => !result || begun - result.begun <= ((atMs - result.atMs + slackMs) / 1_000) * perSecond + 1);
    },
    "no job takes effect twice": async ({ done }) => (await done.list({ limit: 1_000 })).items.every((times) => times === 1),
  },
  eventually: {
    "every job is done, unless it is paused": async ({ pressing }) => {
      const { waiting, running, dead, paused } = await pressing.depth();
      return dead === 0 && running === 0 && (paused || waiting === 0);
    },
  },
});

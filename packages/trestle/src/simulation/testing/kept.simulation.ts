/** Jobs that fail for good: none is lost, each is kept for a person, and put back it is done once. */
import { z } from "zod";
import { app, post, queue, records, service, subscription, topic } from "../../index.ts";
import { scenario, sometimes } from "../index.ts";

const token = "a-token-for-the-console";
const names = ["oak", "elm"] as const;
const Name = z.enum(names);
const tools = records("tools", { key: z.string(), value: z.boolean() });
const sent = records("sent", { key: z.string(), value: z.int() });
const done = records("done", { key: z.string(), value: z.array(z.int()) });
const retry = { attempts: 5, from: "20ms", upTo: "100ms" } as const;

const mending = queue("mending", { input: z.object({ n: z.int() }), uses: { tools, done }, retry }, async ({ n }, { tools, done }) => {
  if (!(await tools.get("there"))) throw new Error("there are no tools");
  done.put("mending", [...((await done.get("mending")) ?? []), n]);
});
const felled = topic("felled", { events: { Felled: z.object({ name: Name, n: z.int() }) }, key: ({ data }) => data.name });
/** A key stops at an event that keeps failing. */
const sawing = subscription(
  "sawing",
  { to: felled, uses: { tools, done }, retry },
  {
    Felled: async ({ data: { name, n } }, { tools, done }) => {
      if (!(await tools.get("there")) && n % 2 === 0) throw new Error("this one is too thick");
      done.put(name, [...((await done.get(name)) ?? []), n]);
    },
  },
);
const yard = service(
  "yard",
  { uses: { sent, mending, felled } },
  {
    mend: post("/jobs", { idempotent: true }, async (_request, { sent, mending }) => {
      const n = ((await sent.get("mending")) ?? 0) + 1;
      sent.put("mending", n);
      mending.send({ n });
      return {};
    }),
    fell: post("/trees", { body: z.object({ name: Name }), idempotent: true }, async ({ body: { name } }, { sent, felled }) => {
      const n = ((await sent.get(name)) ?? 0) + 1;
      sent.put(name, n);
      felled.publish.Felled({ name, n });
      return {};
    }),
  },
);

/** As a person would, at the console. */
const putBack = (queue: string, state: string) =>
  fetch(`http://yard.app/_trestle/queues/${queue}/redrive`, {
    method: "POST",
    headers: { authorization: `Bearer ${token}`, "content-type": "application/json" },
    body: JSON.stringify({ state }),
  });

export const mendingLater = scenario(app("yard", [yard, mending, sawing]), {
  uses: { yard, tools, sent, done, mending },
  for: "10s",
  settings: { TRESTLE_TOKEN: token },
  clients: {
    count: 4,
    times: 4,
    each: async ({ yard, tools }, chance) => {
      const how = chance.next();
      if (how < 0.35) await yard.mend();
      else if (how < 0.7) await yard.fell({ body: { name: chance.pick(names) } });
      else {
        // Some put back what will fail again; the last ones find the tools.
        if (chance.next() < 0.5) await tools.put("there", true);
        for (const [queue, state] of [
          ["mending", "dead"],
          ["sawing", "parked"],
        ] as const) {
          const answer = await putBack(queue, state);
          if (answer.ok) sometimes("jobs are put back", ((await answer.json()) as { jobs: number }).jobs > 0);
          else if (answer.status < 500) throw new Error(`the console answered ${answer.status}: ${await answer.text()}`);
        }
      }
    },
  },
  always: {
    "every job waits, runs, is kept, or was done once": async ({ sent, done, mending }) => {
      const { waiting, running, dead } = await mending.depth();
      const numbers = (await done.get("mending")) ?? [];
      sometimes("a job is dead", dead > 0);
      return new Set(numbers).size === numbers.length && waiting + running + dead + numbers.length === ((await sent.get("mending")) ?? 0);
    },
    "a key stops where it fails, and goes on from there": async ({ done }) => {
      for (const name of names) if (!((await done.get(name)) ?? []).every((n, at) => n === at + 1)) return false;
      return true;
    },
  },
  eventually: {
    "nothing waits any more": async ({ mending }) => {
      const { waiting, running } = await mending.depth();
      return waiting + running === 0;
    },
    "a key has stopped only at what fails": async ({ sent, done }) => {
      for (const name of names) {
        const [all, some] = [(await sent.get(name)) ?? 0, ((await done.get(name)) ?? []).length];
        if (some !== all && (some + 1) % 2 !== 0) return false;
      }
      return true;
    },
  },
});

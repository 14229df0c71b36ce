/** A queue with keys: each job takes effect once, in the order its key's jobs were sent, whatever fails, and none is forgotten. */
import { z } from "zod";
import { app, post, queue, records, service } from "../../index.ts";
import { scenario, sometimes } from "../index.ts";

const keys = ["red", "blue"] as const;
const Key = z.enum(keys);
const sent = records("sent", { key: Key, value: z.int() });
/** The numbers of a key's jobs, in the order in which they took effect. */
const lines = records("lines", { key: Key, value: z.array(z.int()) });
const loose = records("loose", { key: z.string(), value: z.int() });

const painting = queue(
  "painting",
  { input: z.object({ key: Key, n: z.int() }), key: ({ key }) => key, uses: { lines }, retry: { attempts: 50, from: "20ms", upTo: "500ms" }, timeout: "20s" },
  async ({ key, n }, { lines }, { attempt }) => {
    if (Math.random() < 0.2) throw new Error("the brush fell");
    // Sometimes longer than its own patience, and often long enough that its node dies or stands still on it.
    await new Promise((resolve) => setTimeout(resolve, Math.random() < 0.05 ? 30_000 : Math.random() * 50));
    sometimes("a job is tried again", attempt > 1);
    const line = (await lines.get(key)) ?? [];
    lines.put(key, [...line, n]);
  },
);
const sweeping = queue(
  "sweeping",
  { input: z.object({ id: z.string() }), uses: { loose }, retry: { attempts: 50, from: "20ms", upTo: "500ms" } },
  async ({ id }, { loose }) => {
    if (Math.random() < 0.1) throw new Error("the broom broke");
    loose.put(id, ((await loose.get(id)) ?? 0) + 1);
  },
);

const studio = service(
  "studio",
  { uses: { sent, painting, sweeping, loose } },
  {
    paint: post("/paintings", { body: z.object({ key: Key }), idempotent: true }, async ({ body: { key } }, { sent, painting }) => {
      const n = ((await sent.get(key)) ?? 0) + 1;
      sent.put(key, n);
      painting.send({ key, n });
      return { n };
    }),
    sweep: post("/sweepings", { body: z.object({ id: z.string() }), idempotent: true }, ({ body: { id } }, { sweeping, loose }) => {
      loose.put(id, 0);
      sweeping.send({ id }, Math.random() < 0.3 ? { in: "300ms" } : {});
      return {};
    }),
  },
);

export const workingInOrder = scenario(app("studio", [studio, painting, sweeping]), {
  uses: { studio, sent, lines, loose },
  for: "15s",
  regressions: new URL("./work.seeds.json", import.meta.url),
  clients: {
    count: 4,
    times: 4,
    each: async ({ studio }, chance) =>
      void (chance.next() < 0.6 ? await studio.paint({ body: { key: chance.pick(keys) } }) : await studio.sweep({ body: { id: chance.id() } })),
  },
  always: {
    "the jobs of a key take effect once each, in the order they were sent": async ({ lines }) => {
      for (const key of keys) if (!((await lines.get(key)) ?? []).every((n, at) => n === at + 1)) return false;
      return true;
    },
    "no job takes effect twice": async ({ loose }) => (await loose.list({ limit: 1_000 })).items.every((times) => times <= 1),
  },
  eventually: {
    "every job that was sent has taken effect": async ({ sent, lines, loose }) => {
      for (const key of keys) if (((await lines.get(key)) ?? []).length !== ((await sent.get(key)) ?? 0)) return false;
      return (await loose.list({ limit: 1_000 })).items.every((times) => times === 1);
    },
  },
});

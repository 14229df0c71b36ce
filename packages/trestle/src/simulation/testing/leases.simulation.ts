/** Leases: a node that stands still for longer than it holds a job, and goes on, changes nothing any more. */
import { z } from "zod";
import { app, post, queue, records, service } from "../../index.ts";
import { scenario, sometimes } from "../index.ts";

const sent = records("sent", { key: z.string(), value: z.int() });
const done = records("done", { key: z.string(), value: z.int() });
const digging = queue(
  "digging",
  { input: z.object({ id: z.string() }), uses: { done }, retry: { attempts: 50, from: "20ms", upTo: "500ms" }, timeout: "120s" },
  async ({ id }, { done }, { attempt }) => {
    sometimes("a job is given to another node", attempt > 1);
    await new Promise((resolve) => setTimeout(resolve, 500 + Math.random() * 3_000));
    // An addition reads nothing, so no precondition stands beside the claim.
    done.add(id, 1);
  },
);
const site = service(
  "site",
  { uses: { sent, digging } },
  {
    dig: post("/holes", { body: z.object({ id: z.string() }), idempotent: true }, ({ body: { id } }, { sent, digging }) => {
      sent.put(id, 1);
      digging.send({ id });
      return {};
    }),
  },
);

export const diggingOnce = scenario(app("site", [site, digging]), {
  uses: { site, sent, done },
  // Long enough for nodes that stand still, or are cut off, for longer than a lease.
  for: "90s",
  faults: { pause: true, partition: true, crash: true, "clock-skew": true },
  clients: { count: 3, times: 4, each: async ({ site }, chance) => void (await site.dig({ body: { id: chance.id() } })) },
  always: {
    "no hole is dug twice": async ({ done }) => (await done.list({ limit: 1_000 })).items.every((times) => times === 1),
  },
  eventually: {
    "every hole is dug": async ({ sent, done }) => (await sent.list({ limit: 1_000 })).items.length === (await done.list({ limit: 1_000 })).items.length,
  },
});

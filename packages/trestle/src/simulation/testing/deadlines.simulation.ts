/** Deadlines to begin: what could not be begun in time is dead, and is not done after all. */
import { z } from "zod";
import { app, post, queue, records, service } from "../../index.ts";
import { checkDelivery, scenario, sometimes, type DeliveryCall } from "../index.ts";
import { nowReceived } from "./received.ts";

const withinMs = 2_000;
const served = records("served", { key: z.string(), value: z.array(z.string()) });
const sent = records("sent", { key: z.string(), value: z.int() });
const cooking = queue(
  "cooking",
  { input: z.object({ id: z.string() }), uses: { served }, retry: { attempts: 50, from: "20ms", upTo: "500ms" }, timeout: "5s" },
  async ({ id }, { served }) => served.put("all", [...((await served.get("all")) ?? []), id]),
);
const kitchen = service(
  "kitchen",
  { uses: { cooking, sent } },
  {
    order: post("/orders", { body: z.object({ id: z.string() }), idempotent: true }, ({ body: { id } }, { cooking, sent }) => {
      sent.add("all", 1);
      cooking.send({ id }, { startWithin: `${withinMs}ms` });
      return {};
    }),
  },
);

/** From when on nothing is wrong any more; within which what had been begun by then has ended, leases included; and what is longer than all of it. */
const [forMs, endsMs, closedMs] = [10_000, 40_000, 70_000];
const wait = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

export const servingInTime = scenario(app("kitchen", [kitchen, cooking]), {
  uses: { kitchen, served, sent, cooking },
  for: `${forMs}ms`,
  clients: {
    count: 3,
    times: 3,
    each: async ({ kitchen, cooking }, chance, history) => {
      const isClosed = chance.next() < 0.4;
      if (isClosed) await cooking.pause().catch(() => undefined);
      const id = chance.id();
      const send = history.invoke({ kind: "send", id }, "all");
      await kitchen.order({ body: { id } }).then(
        () => send.ok(),
        () => undefined,
      );
      if (!isClosed) return;
      await wait(closedMs);
      while (
        !(await cooking.resume().then(
          () => true,
          () => false,
        ))
      )
        await wait(500);
    },
  },
  always: {
    "an order is waiting, running, dead or served": async ({ served, sent, cooking }, history) => {
      const all = (await served.get("all")) ?? [];
      nowReceived(history, "all", all);
      const { waiting, running, dead } = await cooking.depth();
      sometimes("an order is too late", dead > 0);
      return waiting + running + dead + all.length === ((await sent.get("all")) ?? 0);
    },
  },
  eventually: {
    "all orders have ended, and none was served late": async ({ cooking }, history) => {
      const { waiting, running } = await cooking.depth();
      if (waiting + running > 0) return false;
      return checkDelivery(history.history<DeliveryCall>(), { delivery: "at-most-once", lagMaxMs: withinMs + forMs + endsMs });
    },
  },
});

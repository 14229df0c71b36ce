/** Jobs that answer, and jobs that are cancelled: an answer is that of the one effect, and what was cancelled leaves nothing behind. */
import { z } from "zod";
import { app, post, queue, records, service } from "../../index.ts";
import { checkDelivery, scenario, sometimes, type DeliveryCall, type History } from "../index.ts";
import { nowReceived } from "./received.ts";

const drawn = records("drawn", { key: z.string(), value: z.object({ id: z.string(), number: z.int(), times: z.int() }) });
const drawing = queue(
  "drawing",
  {
    input: z.object({ id: z.string() }),
    returns: z.object({ number: z.int() }),
    uses: { drawn },
    retry: { attempts: 50, from: "20ms", upTo: "500ms" },
  },
  async ({ id }, { drawn }) => {
    if (Math.random() < 0.15) throw new Error("the pen broke");
    await new Promise((resolve) => setTimeout(resolve, Math.random() * 400));
    const number = Math.floor(Math.random() * 1_000_000);
    drawn.put(id, { id, number, times: ((await drawn.get(id))?.times ?? 0) + 1 });
    return { number };
  },
);
const delaysMs = { "0ms": 0, "500ms": 500, "5s": 5_000 } as const;
const studio = service(
  "studio",
  { uses: { drawing } },
  {
    draw: post("/drawings", { body: z.object({ id: z.string(), in: z.enum(["0ms", "500ms", "5s"]) }), idempotent: true }, ({ body }, { drawing }) => ({
      job: drawing.send({ id: body.id }, { in: body.in }).id,
    })),
  },
);

type Ledger = (DeliveryCall & { readonly dueInMs?: number }) | { readonly kind: "never"; readonly id: string };

export const answeringOnce = scenario(app("studio", [studio, drawing]), {
  uses: { studio, drawn, drawing },
  for: "10s",
  regressions: new URL("./answers.seeds.json", import.meta.url),
  // A clock that runs 5 % wrong is out by most of a second since its node has heard from the store, and here nothing may be early by a millisecond.
  faults: { "clock-skew": false },
  clients: {
    count: 4,
    times: 3,
    each: async ({ studio, drawn, drawing }, chance, history) => {
      const id = chance.id();
      const how = chance.next();
      const delay = how < 0.15 ? "5s" : chance.pick(["0ms", "500ms"] as const);
      const isCancelled = how < 0.4;
      const sentAtMs = Date.now();
      const send = history.invoke({ kind: "send", id, dueInMs: delaysMs[delay] }, isCancelled ? "cancelled" : "drawn");
      const { job } = (await studio.draw({ body: { id, in: delay } })).body;
      send.ok();
      if (isCancelled) {
        const was = await drawing.cancel(job);
        sometimes("a job is cancelled in time", was);
        sometimes("a job is cancelled too late", !was);
        // One that was not due yet is gone for certain.
        if (was && delay === "5s" && Date.now() < sentAtMs + 5_000) history.invoke({ kind: "never", id }, "cancelled").ok();
        return;
      }
      const result = await drawing.result(job, { within: "10s" });
      if (!result.ok) {
        // It runs, or waits for the lease of a node that died; anything else it cannot be.
        if (result.refused !== "pending") throw new Error(`job ${job} was sent, and its result is ${result.refused}`);
        return sometimes("an answer is late");
      }
      sometimes("an answer comes");
      const one = await drawn.get(id);
      if (one?.number !== result.value.number) throw new Error(`job ${job} answered ${result.value.number}, and drew ${one?.number}`);
    },
  },
  always: {
    "no drawing is made twice": async ({ drawn }, history) => {
      const { items } = await drawn.list({ limit: 1_000 });
      nowReceived(
        history,
        "drawn",
        items.map(({ id }) => id),
      );
      return items.every(({ times }) => times === 1);
    },
    "nothing is drawn before it is due": (_world, history) => {
      const dueMs = new Map<string | number, number>();
      return history.history<Ledger>().every(({ call, invokedAt }) => {
        if (call.kind === "send") dueMs.set(call.id, invokedAt + (call.dueInMs ?? 0));
        return call.kind !== "receive" || invokedAt >= (dueMs.get(call.id) ?? 0);
      });
    },
    "what was cancelled before it was due is not drawn": async ({ drawn }, history) => {
      const never = new Set(history.history<Ledger>().flatMap(({ call }) => (call.kind === "never" ? call.id : [])));
      return (await drawn.list({ limit: 1_000 })).items.every(({ id }) => !never.has(id));
    },
  },
  eventually: {
    "what nobody cancelled is drawn, and nothing is left": async ({ drawing }, history) => {
      const { waiting, running, dead } = await drawing.depth();
      if (waiting + running + dead > 0) return false;
      const ledger = history.history<Ledger>();
      const cancelled = new Set(ledger.filter(({ key }) => key === "cancelled").map(({ call }) => call.id));
      return checkDelivery(ledger.filter(({ call }) => !cancelled.has(call.id)) as History<DeliveryCall>, { delivery: "effectively-once" });
    },
  },
});

/**
 * Admission: more is asked of a service than it has places for, while everything fails that can. No urgent request is declined for want of a place, because there are never more of them than the line has room for, and all
 * others make way; whoever was declined had no effect; and what is over is a place again, however it ended.
 */
import { z } from "zod";
import { Fault } from "../../kernel/index.ts";
import { app, post, records, service } from "../../index.ts";
import { scenario, sometimes, type SeedHistory } from "../index.ts";

const Ask = z.object({ id: z.string(), forMs: z.int() });
const done = records("done", { key: z.string(), value: z.int() });

const faultsMs = 10_000;
const healWithinMs = 10_000;
const wait = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

const desk = service(
  "desk",
  { uses: { done }, admission: { running: 2, waiting: 8, wait: "5s" } },
  {
    urgent: post("/urgent", { body: Ask, priority: "high", timeout: "2s" }, async ({ body: { id, forMs } }, { done }) => {
      await wait(forMs);
      done.put(id, 1);
      return {};
    }),
    batch: post("/batch", { body: Ask, priority: "low", timeout: "2s" }, async ({ body: { id, forMs } }, { done }) => {
      await wait(forMs);
      done.put(id, 1);
      if (forMs < 10) throw new Error("this one breaks");
      return {};
    }),
  },
);

const probing = new WeakSet<SeedHistory>();

interface Asked {
  readonly id: string;
  readonly urgent: boolean;
}
const probe = "places are free";
const asked = (history: SeedHistory, outcome: "ok" | "failed") =>
  history.history<Asked | typeof probe>().flatMap(({ call, outcome: ended }) => (call !== probe && ended === outcome ? [call.id] : []));
/** Those that say something of who is served first: the line was full, or somebody's place was needed. */
const forWantOfPlace = ["full", "early", "displaced", "share"];

export const admittingTheUrgent = scenario(app("desk", [desk]), {
  uses: { desk, done },
  nodes: 2,
  for: `${faultsMs}ms`,
  clients: {
    count: 4,
    times: 8,
    each: async ({ desk }, chance, history) => {
      const ask = async (urgent: boolean) => {
        const id = chance.id();
        const told = history.invoke({ id, urgent } satisfies Asked);
        try {
          await desk[urgent ? "urgent" : "batch"]({ body: { id, forMs: chance.integer(5, 120) } });
          told.ok();
        } catch (thrown) {
          if (!(Fault.is(thrown, "request.not-admitted") || Fault.is(thrown, "request.share-exceeded"))) return; // whether it was done is not known
          told.failed();
          sometimes(urgent ? "an urgent request waits in vain" : "one that can wait is declined");
          const reason = String(thrown.details["reason"]);
          if (urgent && forWantOfPlace.includes(reason)) throw new Error(`an urgent request was declined: ${reason}`, { cause: thrown });
        }
      };
      for (let n = chance.integer(2, 12); n > 0; n--) void ask(false).catch(() => undefined);
      await ask(true);
      if (probing.has(history)) return;
      probing.add(history);
      const free = history.invoke(probe);
      void (async () => {
        await wait(faultsMs - performance.now());
        const served = () =>
          desk.batch({ body: { id: chance.id(), forMs: 50 } }).then(
            ({ ok }) => ok,
            () => false,
          );
        while (!(await Promise.all(Array.from({ length: 4 }, served))).every((ok) => ok)) await wait(200);
        free.ok();
      })();
    },
  },
  eventually: {
    "what was declined was not done": async ({ done }, history) => {
      const found = await Promise.all(asked(history, "failed").map((id) => done.get(id)));
      return found.every((value) => value === undefined);
    },
    "what was answered was done": async ({ done }, history) => {
      const found = await Promise.all(asked(history, "ok").map((id) => done.get(id)));
      return found.every((value) => value === 1);
    },
    "ten seconds after the last fault places are free": (_, history) =>
      history.history().every(({ call, returnedAt = Infinity }) => call !== probe || returnedAt < faultsMs + healWithinMs),
  },
});

/**
 * Load on a system that can do only so much: it is asked for more than that, it can do less than before, it is slow, or it hangs. What it can do is done all the while, the
 * critical calls first, and soon after all is as before. That no fault of another kind leaves a place taken, or a door shut, is the second scenario.
 */
import { z } from "zod";
import { Fault } from "../../kernel/index.ts";
import { app, external, post, query, service } from "../../index.ts";
import { model, scenario, sometimes, type ModelWire, type SeedHistory } from "../index.ts";

const Ask = z.object({ id: z.int() });
const Answer = z.object({ id: z.int() });

/** As many calls at once go at full speed; more of them slow each other down, and all together get less done. */
const knee = 8;
const kneeOfABrownOut = 3;
const thrash = 0.3;
const serviceMs = 80;
const perSecond = { usual: (1_000 / serviceMs) * knee, brownOut: (1_000 / serviceMs) * kneeOfABrownOut } as const;

const far = external(
  "far",
  { timeout: "400ms", retry: { attempts: 2 }, concurrency: "adaptive" },
  { look: query({ input: Ask, returns: Answer }, (asked, wire) => wire.post("/look", asked)) },
);
const front = service(
  "front",
  { uses: { far } },
  {
    critical: post("/critical", { body: Ask, priority: "high", timeout: "1s" }, ({ body }, { far }) => far.look(body)),
    prefetch: post("/prefetch", { body: Ask, priority: "low", timeout: "1s" }, ({ body }, { far }) => far.look(body)),
    weather: post("/weather", {}, (_, { far }) => far.look({ id: -1 })),
  },
);

const forMs = 14_000;
const [fromMs, untilMs] = [4_000, 8_000];
const isWrong = (atMs: number) => atMs >= fromMs && atMs < untilMs;
const kinds = ["rush", "brown-out", "slow", "hang"] as const;
const rushTimes = 12;

interface Far {
  readonly kind: (typeof kinds)[number];
  active: number;
}
/** What goes wrong is drawn by the system that it happens to. */
function farOf({ memory, chance }: ModelWire): Far {
  const known = memory.get("far") as Far | undefined;
  const made: Far = known ?? { kind: chance.pick(kinds), active: 0 };
  if (!known) memory.set("far", made);
  return made;
}

const wait = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));
/** For so long, or until nobody waits for it any more: this system notices. */
const working = (ms: number, signal: AbortSignal) =>
  new Promise<void>((resolve) => {
    setTimeout(resolve, ms);
    signal.addEventListener("abort", () => resolve(), { once: true });
  });

const serving = model(far, {
  look: async ({ id }, wire) => {
    const there = farOf(wire);
    if (id < 0) return { id: kinds.indexOf(there.kind) };
    const nowMs = performance.now();
    const wrong = isWrong(nowMs) ? there.kind : undefined;
    if (wrong === "hang") {
      await working(untilMs - nowMs, wire.signal);
      throw Fault.create("external.unreachable", "what hung was given up", "Ask again.");
    }
    const most = wrong === "brown-out" ? kneeOfABrownOut : wrong === "slow" ? 3 * knee : knee;
    there.active++;
    const over = Math.max(0, there.active - most) / most;
    await working(serviceMs * (0.5 + wire.chance.next()) * (wrong === "slow" ? 3 : 1) * (1 + over) * (1 + thrash * over), wire.signal);
    there.active--;
    return { id };
  },
});

interface Asked {
  readonly critical: boolean;
  readonly kind: number;
}
/** Nobody waits for an answer before asking for more, as people do not. */
function ask(history: SeedHistory, what: Asked, answer: Promise<unknown>): void {
  const asked = history.invoke(what);
  void answer.then(
    () => asked.ok(),
    () => asked.failed(),
  );
}

/** What was asked in a span of time. */
function of(history: SeedHistory, from: number, until: number, isOne: (asked: Asked) => boolean = () => true) {
  const all = history.history<Asked>().filter(({ call, invokedAt }) => invokedAt >= from && invokedAt < until && isOne(call));
  const served = all.filter(({ outcome }) => outcome === "ok").length;
  return { asked: all.length, served, share: all.length === 0 ? 1 : served / all.length };
}
const kindOf = (history: SeedHistory) => kinds[history.history<Asked>()[0]?.call.kind ?? -1];
const isCritical = ({ critical }: Asked) => critical;

/** What could have been done, second by second, by whoever knew what it can do. */
function possible(history: SeedHistory): number {
  const kind = kindOf(history);
  let sum = 0;
  for (let ms = 0; ms < forMs; ms += 1_000) {
    const most = isWrong(ms) && kind === "brown-out" ? perSecond.brownOut : isWrong(ms) && kind === "hang" ? 0 : perSecond.usual;
    sum += Math.min(most, of(history, ms, ms + 1_000).asked);
  }
  return sum;
}

/** What each client has been told of the weather. */
const told = new WeakMap<SeedHistory, number>();

export const servingThroughARush = scenario(app("front", [front]), {
  uses: { front },
  nodes: 1,
  for: `${forMs}ms`,
  faults: {},
  outside: [serving],
  clients: {
    count: 2,
    times: 280,
    evenly: true,
    each: async ({ front }, chance, history) => {
      let kind = told.get(history);
      if (kind === undefined) {
        const weather = await front.weather();
        told.set(history, (kind = weather.ok ? weather.body.id : -1));
      }
      const body = { id: chance.integer(1, 1_000_000) };
      if (chance.next() < 0.6) return ask(history, { critical: true, kind }, front.critical({ body }));
      const times = kinds[kind] === "rush" && isWrong(performance.now()) ? rushTimes : 1;
      for (let n = 0; n < times; n++) ask(history, { critical: false, kind }, front.prefetch({ body }));
    },
  },
  eventually: {
    "what is asked without trouble is served": (_, history) =>
      history.history().every(({ outcome }) => outcome !== "unknown") && of(history, 0, fromMs - 500).share > 0.97,
    // A few dozen calls a second: one is a hundredth. What larger load shows of shares is in `resilience/overload.test.ts`.
    "critical calls are served": (_, history) => {
      sometimes("prefetches are declined", of(history, fromMs, untilMs, ({ critical }) => !critical).share < 0.5);
      const kind = kindOf(history);
      // What takes three times as long all of a sudden is noticed when the first of its calls are over, and until then more are begun.
      // Of 400 seeds the least shares were 0.99, 0.91 and 0.52; a bound at the least of some is broken by one of more.
      return kind === "hang" || of(history, fromMs, untilMs, isCritical).share > (kind === "rush" ? 0.93 : kind === "slow" ? 0.8 : 0.4);
    },
    "four fifths of what can be done is done": (_, history) => of(history, 0, forMs).served > 0.8 * possible(history),
    "four seconds after the trouble all that is asked is served": (_, history) => of(history, untilMs + 4_000, forMs).share > 0.95,
  },
});

// ---- with everything else that fails --------------------------------------------------------------------------------------

const narrow = external(
  "narrow",
  { timeout: "1s", retry: { attempts: 3 }, concurrency: 3, breaker: { cooldown: "2s" } },
  { look: query({ input: Ask, returns: Answer }, (asked, wire) => wire.post("/look", asked)) },
);
const counter = service("counter", { uses: { narrow } }, { look: post("/look", { body: Ask, timeout: "3s" }, ({ body }, { narrow }) => narrow.look(body)) });

const faultsMs = 10_000;
const healWithinMs = 10_000;
const probing = new WeakSet<SeedHistory>();

export const leavingNoPlaceTaken = scenario(app("counter", [counter]), {
  uses: { counter },
  nodes: 2,
  for: `${faultsMs}ms`,
  outside: [
    model(narrow, {
      look: async ({ id }, { chance, signal }) => {
        await working(20 + chance.next() * 200, signal);
        if (chance.next() < 0.05) throw Fault.create("external.unreachable", "it is not there", "Ask again.");
        return { id };
      },
    }),
  ],
  clients: {
    count: 3,
    times: 60,
    each: async ({ counter }, chance, history) => {
      const look = () => counter.look({ body: { id: chance.integer(1, 1_000_000) } }).then(({ ok }) => ok);
      void look().catch(() => undefined);
      if (probing.has(history)) return;
      probing.add(history);
      // Each of the two nodes has three places, and as many in its line: every one of them is needed for what is asked here at once.
      const healed = history.invoke("all at once are served");
      void (async () => {
        await wait(faultsMs - performance.now());
        while (!(await Promise.all(Array.from({ length: 3 }, () => look().catch(() => false)))).every((ok) => ok)) await wait(200);
        healed.ok();
      })();
    },
  },
  eventually: {
    "ten seconds after the last fault all places are free, and the breakers let calls pass": (_, history) =>
      history.history().every(({ returnedAt = Infinity }) => returnedAt < faultsMs + healWithinMs),
  },
});

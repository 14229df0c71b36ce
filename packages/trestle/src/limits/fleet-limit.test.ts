/** Limits of several processes, each a `FleetLimit` of its own, over one store in memory, in virtual time. */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { Draw, Drawn, LimitPlace } from "../component/index.ts";
import { seededRandom, sleep, uuidv7Ids, virtualClock, type Rate, type VirtualClock } from "../kernel/index.ts";
import { openSqlite } from "../sqlite/index.ts";
import { storeKey } from "../store/index.ts";
import { fleetRule, type Across, type FleetRule } from "./across.ts";
import { bucketRule } from "./checks.ts";
import { FleetLimit } from "./fleet-limit.ts";
import { ReachedPlace } from "./reached-place.ts";

import { StorePlace } from "./store-place.ts";

/** A place that may be late, refuse connections, or never answer. */
class WeatheredPlace implements LimitPlace {
  readonly draws: Draw[] = [];
  delayMs = 1;
  mood: "well" | "refuses" | "silent" | "answers-lost" = "well";
  readonly #inner: LimitPlace;
  readonly #clock: VirtualClock;

  constructor(inner: LimitPlace, clock: VirtualClock) {
    this.#inner = inner;
    this.#clock = clock;
  }
  get processes(): number {
    return this.#inner.processes;
  }
  async draw(draw: Draw): Promise<Drawn> {
    this.draws.push(draw);
    const { mood, delayMs } = this;
    await sleep(this.#clock, delayMs / 2);
    if (mood === "refuses") throw new Error("refused");
    if (mood === "silent") return new Promise(() => undefined);
    const drawn = await this.#inner.draw(draw);
    await sleep(this.#clock, delayMs / 2);
    if (mood === "answers-lost") throw new Error("lost");
    return drawn;
  }
  close(): Promise<void> {
    return this.#inner.close();
  }
}

async function fleet(
  declared: { readonly rate: Rate; readonly burst?: number; readonly processes?: number } & Partial<Across & { readonly across: "fleet" }>,
  seed = "fleet",
) {
  const { rate, burst, processes = 2, ...across } = declared;
  const clock = virtualClock();
  const random = seededRandom(seed);
  const ids = uuidv7Ids(clock, random);
  const store = await openSqlite({ path: ":memory:", clock });
  const rule = fleetRule({ across: "fleet", whenUnreachable: "refuse", ...across }, bucketRule({ rate, burst }, "test"), "test", "test");
  assert.ok(rule);
  const nodes = Array.from({ length: processes }, (_, nth) => {
    const place = new WeatheredPlace(new StorePlace({ store, ids, clock, id: `node-${nth}` }), clock);
    const at = new ReachedPlace(place, clock);
    let unreachable = 0;
    const limit = new FleetLimit({ rule, at, clock, random, onUnreachable: () => void unreachable++ });
    /** Another limit of the same node. */
    const another = (more: Partial<FleetRule>) => new FleetLimit({ rule: { ...rule, name: "another", ...more }, at, clock, random });
    return { limit, another, place, unreachable: () => unreachable };
  });
  /** With the time that its answer takes. */
  const answered = async <T>(asked: T | Promise<T>): Promise<T> => {
    let answer: { readonly value: T } | undefined;
    const asking = Promise.resolve(asked).then((value) => (answer = { value }));
    for (let turns = 0; answer === undefined && turns < 5_000; turns++) await clock.advance(1);
    return (await asking).value;
  };
  return { clock, random, store, ids, nodes, node: nodes[0] as (typeof nodes)[number], answered };
}

interface Admitted {
  readonly atMs: number;
  readonly cost: number;
}
/** The most by which any window had more than `burst + rate * t`: what stands in a bucket that nobody refuses, above its size. */
function mostOver(admitted: readonly Admitted[], perMs: number, burst: number): number {
  let level = 0;
  let atMs = 0;
  let most = -burst;
  for (const each of [...admitted].sort((a, b) => a.atMs - b.atMs)) {
    level = Math.max(0, level - (each.atMs - atMs) * perMs) + each.cost;
    atMs = each.atMs;
    most = Math.max(most, level - burst);
  }
  return most;
}

test("[RES-10] exact: three processes that ask at random never get more together than the law, and are told when to come", async () => {
  for (const seed of ["one", "two", "three"]) {
    const { clock, random, nodes } = await fleet({ rate: "100/s", burst: 20, processes: 3 }, seed);
    const admitted: Admitted[] = [];
    let refused = 0;
    for (const { limit } of nodes)
      for (let nth = 0; nth < 300; nth++) {
        const cost = random.next() < 0.8 ? 1 : 3;
        clock.after(random.next() * 4_000, () => {
          const fromMs = clock.monotonicMs();
          void Promise.resolve(limit.take("key", cost)).then((waitMs) =>
            waitMs === 0 ? admitted.push({ atMs: (fromMs + clock.monotonicMs()) / 2, cost }) : refused++,
          );
        });
      }
    await clock.advance(5_000);

    assert.equal(admitted.length + refused, 900, `seed ${seed}`);
    assert.ok(refused > 100, `seed ${seed}: ${refused} refused`);
    // By the moment at which the place decided, which lies in the middle of asking and being told, give or take its clock's millisecond.
    assert.ok(mostOver(admitted, 0.1, 20) <= 0.3, `seed ${seed}: ${mostOver(admitted, 0.1, 20)} over`);
    const sum = admitted.reduce((all, { cost }) => all + cost, 0);
    assert.ok(sum > 0.9 * 400, `seed ${seed}: ${sum} of 420 were admitted`);
  }
});

test("takes that wait together are one draw, decided in their order; whoever keeps to the rate is never refused", async () => {
  const { clock, node, answered } = await fleet({ rate: "10/s", burst: 10 });

  const waits = await answered(Promise.all([4, 4, 4, 1, 1, 1].map(async (cost) => node.limit.take("key", cost))));
  assert.deepEqual(
    waits.map((waitMs) => waitMs === 0),
    [true, true, false, true, true, false],
  );
  assert.equal(node.place.draws.filter(({ wanted }) => wanted > 0).length, 1);
  assert.ok((waits[2] as number) > 100 && (waits[2] as number) <= 200, `${waits[2]}`);

  await clock.advance(1_000);
  for (let nth = 0; nth < 50; nth++) {
    assert.equal(await answered(node.limit.take("steady")), 0);
    await clock.advance(100);
  }
});

test("who comes when a refusal said is admitted; a decision says what is left of all", async () => {
  const { clock, nodes, answered } = await fleet({ rate: "1/s", burst: 3 });
  const [a, b] = nodes as [(typeof nodes)[number], (typeof nodes)[number]];

  assert.equal((await answered(a.limit.decide("key"))).left, 2);
  assert.equal((await answered(b.limit.decide("key"))).left, 1);
  assert.equal((await answered(a.limit.decide("key"))).left, 0);
  const { ok, retryAfterMs, resetMs } = await answered(b.limit.decide("key"));
  assert.deepEqual([ok, retryAfterMs > 900 && retryAfterMs <= 1_000, resetMs > 2_900 && resetMs <= 3_000], [false, true, true], `${retryAfterMs} ${resetMs}`);

  await clock.advance(retryAfterMs);
  assert.equal(await answered(b.limit.take("key")), 0);
});

test("a key over its limit costs its place ten draws a second, however many ask", async () => {
  const { clock, node } = await fleet({ rate: "1/m", burst: 1 });

  for (let ms = 0; ms < 1_000; ms += 2) {
    for (let nth = 0; nth < 20; nth++) void node.limit.take("hot");
    await clock.advance(2);
  }

  assert.ok(node.place.draws.length <= 12, `${node.place.draws.length} draws for 10,000 takes`);
});

test("[RES-10] leased: budgets are spent without asking, what is left of them is given back, and the fleet is over by no more than its rate gives in 100 ms, which it measures", async () => {
  for (const seed of ["one", "two", "three"]) {
    const { clock, random, nodes } = await fleet({ rate: "1000/s", burst: 1_000, processes: 4, exactness: "leased" }, seed);
    const admitted: Admitted[] = [];
    let [asked, atOnce] = [0, 0];
    // The first one busy all the time, the others in turns, together at three times the rate.
    const until = 6_000;
    for (let ms = 0; ms < until; ms++) {
      nodes.forEach(({ limit }, nth) => {
        if (nth > 0 && (ms >> 9) % 3 !== nth - 1) return;
        for (let each = 0; each < 1 + random.next() * 2; each++) {
          asked++;
          const taken = limit.take("key");
          if (typeof taken === "number") atOnce++;
          void Promise.resolve(taken).then((waitMs) => waitMs === 0 && admitted.push({ atMs: clock.monotonicMs(), cost: 1 }));
        }
      });
      await clock.advance(1);
    }
    await clock.advance(500);

    const over = mostOver(admitted, 1, 1_000);
    const measured = nodes.reduce((sum, { limit }) => sum + limit.overshootTokens, 0);
    const draws = nodes.reduce((sum, { place }) => sum + place.draws.length, 0);
    const said = `seed ${seed}: ${asked} asked, ${atOnce} at once, ${draws} draws, ${admitted.length} admitted, ${over} over, ${measured} measured`;
    assert.ok(over <= 100 + 5, said);
    assert.ok(measured >= over && measured <= 210, said);
    assert.ok(admitted.length >= 0.9 * (1_000 + until), said);
    assert.ok(atOnce > 0.9 * asked && draws < asked / 20, said);

    await clock.advance(2_000);
    assert.equal(
      nodes.reduce((sum, { limit }) => sum + limit.leasedTokens, 0),
      0,
    );
    const { left } = (await Promise.all([nodes[0]?.limit.decide("key"), clock.advance(50)]))[0] as { readonly left: number };
    assert.equal(left, 999, "what was not spent is back");
  }
});

test("[RES-10] leased: a budget that stands while its bucket fills again is what a fleet is over, and it is measured", async () => {
  const { clock, nodes } = await fleet({ rate: "1000/s", burst: 1_000, exactness: "leased" });
  const [a, b] = nodes as [(typeof nodes)[number], (typeof nodes)[number]];
  const admitted: Admitted[] = [];
  const take = ({ limit }: typeof a, cost: number) =>
    void Promise.resolve(limit.take("key", cost)).then((waitMs) => waitMs === 0 && admitted.push({ atMs: clock.monotonicMs(), cost }));
  // At its rate, until it has just drawn a budget again; then it stands still.
  for (let ms = 0; ms < 500 || a.limit.leasedTokens < 60; ms++) {
    take(a, 1);
    await clock.advance(1);
  }
  const stood = Math.floor(a.limit.leasedTokens);
  await clock.advance(80);
  take(b, 1_000);
  for (let cost = 512; cost >= 1; cost /= 2) take(b, cost);
  for (let nth = 0; nth < stood; nth++) take(a, 1);
  await clock.advance(20);

  const over = mostOver(admitted, 1, 1_000);
  const said = `${over} over, ${stood} stood, ${a.limit.overshootTokens} and ${b.limit.overshootTokens} measured`;
  assert.ok(over > 10 && over <= 100, said);
  await clock.advance(200);
  assert.ok(a.limit.overshootTokens + b.limit.overshootTokens >= over, said);
});

test("leased: a budget that follows one that was spent to nothing is not spent after its time, and is given back", async () => {
  const { clock, nodes, answered } = await fleet({ rate: "1000/s", burst: 1_000, exactness: "leased" });
  const [a, b] = nodes as [(typeof nodes)[number], (typeof nodes)[number]];
  let first = 0;
  // Until another budget has come while the one before it was not spent.
  for (let ms = 0; ms < 1_000; ms++) {
    first = a.limit.leasedTokens;
    await clock.advance(1);
    if (first > 0 && a.limit.leasedTokens > first) break;
    void a.limit.take("key");
  }
  assert.ok(first > 0 && a.limit.leasedTokens > first, `${a.limit.leasedTokens} after ${first}`);

  // No other one comes behind it.
  a.place.mood = "refuses";
  for (let nth = 0; nth < first; nth++) assert.equal(a.limit.take("key"), 0);
  assert.ok(a.limit.leasedTokens > 0);
  await clock.advance(500);

  assert.equal(a.limit.leasedTokens, 0);
  a.place.mood = "well";
  void a.limit.take("probe");
  await clock.advance(500);
  assert.equal((await answered(b.limit.decide("key"))).left, 999);
});

test("a place that cannot be reached: admit admits, refuse refuses, local-share admits its part; nobody waits twice, and all count again when it is back", async () => {
  for (const [whenUnreachable, outcome] of [
    ["admit", 40],
    ["refuse", 0],
    ["local-share", 10],
  ] as const) {
    const { clock, nodes, node, answered } = await fleet({ rate: "1/m", burst: 20, whenUnreachable, within: "250ms" });
    for (const { limit } of nodes) await answered(limit.take("other"));
    await clock.advance(11_000); // each has seen the other
    for (const { limit } of nodes) await answered(limit.take("other"));
    node.place.mood = "silent";

    const fromMs = clock.monotonicMs();
    const first = await answered(node.limit.take("key"));
    const waitedMs = clock.monotonicMs() - fromMs;
    const all = [first];
    for (let nth = 0; nth < 39; nth++) {
      const taken = node.limit.take("key");
      assert.equal(typeof taken, "number", "nobody waits any more");
      all.push(taken as number);
    }

    assert.ok(waitedMs >= 250 && waitedMs < 300, `${waitedMs}`);
    assert.equal(all.filter((waitMs) => waitMs === 0).length, outcome, whenUnreachable);
    assert.equal(node.unreachable(), 40);

    node.place.mood = "well";
    await clock.advance(2_500);
    await answered(node.limit.take("probe"));
    await clock.advance(50);
    assert.equal((await answered(node.limit.decide("after"))).left, 19, whenUnreachable);
    assert.equal(node.unreachable(), 41, "one more, whose draw was the probe");
  }
});

test("one limit whose takes have waited in vain says nothing of the others", async () => {
  const { clock, node, answered } = await fleet({ rate: "1/m", burst: 20, within: "50ms" });
  const patient = node.another({ withinMs: 1_000 });
  node.place.delayMs = 200;

  assert.ok((await answered(node.limit.take("key"))) > 0, "refused, as is declared");
  assert.equal(typeof node.limit.take("key"), "number", "nobody waits again");
  assert.deepEqual(await answered(Promise.all([patient.take("a"), patient.take("b")])), [0, 0]);

  node.place.delayMs = 1;
  await clock.advance(1_000);
  void node.limit.take("probe");
  await clock.advance(50);
  assert.equal(await answered(node.limit.take("again")), 0);
});

test("what stands under one key and is no bucket says nothing of other keys: its own takes are answered as is declared", async () => {
  const { node, answered, store, ids } = await fleet({ rate: "1/m", burst: 20 });
  await store.commit({ id: ids.next(), expects: [], writes: [{ kind: "put", key: storeKey("~limits", undefined, "test/foreign"), value: Buffer.from("x") }] });

  for (let nth = 0; nth < 3; nth++) {
    assert.ok((await answered(node.limit.take("foreign"))) > 0);
    assert.equal(await answered(node.limit.take(`key ${nth}`)), 0);
  }
  assert.equal(node.unreachable(), 3);
});

test("what was let in without its place is paid for when the draw was made after all", async () => {
  const { clock, nodes, answered } = await fleet({ rate: "1/m", burst: 10, whenUnreachable: "admit", within: "50ms" });
  const [slow, other] = nodes as [(typeof nodes)[number], (typeof nodes)[number]];
  slow.place.delayMs = 400;

  assert.deepEqual(await answered(Promise.all([slow.limit.take("key", 3), slow.limit.take("key", 2)])), [0, 0]);
  await clock.advance(1_000);

  assert.equal((await answered(other.limit.decide("key"))).left, 4);
});

test("a draw whose answer comes late gives back no more than its bucket has not gained meanwhile", async () => {
  const { clock, nodes, answered } = await fleet({ rate: "1/s", burst: 5, whenUnreachable: "refuse", within: "50ms" });
  const [slow, other] = nodes as [(typeof nodes)[number], (typeof nodes)[number]];
  slow.place.delayMs = 3_000;
  assert.ok((await answered(slow.limit.take("key", 2))) > 0);
  slow.place.delayMs = 1;

  // Drawn after 1.5 s, full again after 3.5, and answered after 3.
  await clock.advance(2_700);
  assert.equal(await answered(other.limit.take("key", 3)), 0);
  await clock.advance(600);
  assert.ok((await answered(other.limit.take("key", 3))) > 0, "six in 600 ms");
});

test("a draw whose answer is lost counts as made", async () => {
  const { nodes, answered } = await fleet({ rate: "1/m", burst: 10, whenUnreachable: "refuse" });
  const [lossy, other] = nodes as [(typeof nodes)[number], (typeof nodes)[number]];
  lossy.place.mood = "answers-lost";

  assert.ok((await answered(lossy.limit.take("key", 4))) > 0);

  assert.equal((await answered(other.limit.decide("key"))).left, 5);
});

test("keys of any length and any text are keys, and each its own", async () => {
  const { node, answered } = await fleet({ rate: "1/m", burst: 1 });
  const keys = ["", "\0", "\ud800", "\udc00", "x".repeat(2_000), `${"x".repeat(1_999)}y`, "a/b", "~processes/x"];

  for (const key of keys)
    assert.deepEqual([await answered(node.limit.take(key)), (await answered(node.limit.take(key))) > 0], [0, true], JSON.stringify(key.slice(0, 9)));
});

test("what is wrong with a fleet's limit is said where it is declared", () => {
  const declare = (across: object, rate: Rate = "100/s", burst = 100) => fleetRule(across as Across, bucketRule({ rate, burst }, "here"), "here", "here");

  assert.equal(declare({}), undefined);
  assert.throws(() => declare({ across: "world" }), /here: across must be "process" or "fleet", got "world"/);
  assert.throws(() => declare({ across: "fleet" }), /here: whenUnreachable must be "admit" or "refuse" or "local-share", got undefined/);
  assert.throws(() => declare({ across: "fleet", whenUnreachable: "admit", exactness: "about" }), /here: exactness must be "exact" or "leased"/);
  assert.throws(
    () => declare({ across: "fleet", whenUnreachable: "admit", exactness: "leased" }, "100/s", 9),
    /a burst of what its rate gives in 100 ms, 10, got 9/,
  );
  assert.throws(() => declare({ across: "fleet", whenUnreachable: "admit", within: 0 }), /here: within, in milliseconds, must be a number from 1 to 60000/);
  assert.throws(() => declare({ across: "fleet", whenUnreachable: "admit" }, "1/d", 400), /burst \/ rate, in milliseconds,/);
});

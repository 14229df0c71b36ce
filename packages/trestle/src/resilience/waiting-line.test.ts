import assert from "node:assert/strict";
import { test } from "node:test";
import { seededRandom } from "../kernel/index.ts";
import { WaitingLine } from "./index.ts";
import type { LineOptions, Order, Refusal, Waiter } from "./index.ts";

interface Guest extends Waiter {
  readonly name: string;
}

function setUp(options: Partial<LineOptions> & { readonly most?: number; readonly from?: number } = {}) {
  const line = new WaitingLine<Guest>({ order: "fifo", random: seededRandom("line"), ...options });
  line.most = options.most ?? 1_000;
  line.from = options.from ?? line.most;
  const told: string[] = [];
  const guest = (name: string, of: Partial<Waiter> = {}): Guest => {
    const one: Guest = {
      name,
      key: "k",
      priority: "normal",
      untilMs: Infinity,
      cost: 1,
      place: undefined,
      ...of,
      declined: () => told.push(`${name} ${String(one.place)}`),
    };
    return one;
  };
  const push = (name: string, of: Partial<Waiter> = {}, nowMs = 0): Refusal | undefined => line.push(guest(name, of), nowMs);
  const take = (nowMs = 0): string | undefined => (line.take(nowMs)?.waiter as Guest | undefined)?.name;
  const takeAll = (nowMs = 0): string => {
    let all = "";
    for (let name = take(nowMs); name !== undefined; name = take(nowMs)) all += name;
    return all;
  };
  return { line, told, guest, push, take, takeAll };
}

test("where fewer may wait than do, the least urgent are declined, of one class the last of the order, and the others keep their turn", () => {
  for (const order of ["fifo", "lifo", "fair", "deadline"] as const) {
    const { line, told, push, takeAll } = setUp({ order });
    for (const [at, priority] of (["low", "high", "normal", "high", "low", "normal"] as const).entries()) push(`${at}`, { priority, untilMs: 1_000 + at });
    line.shorten(6, 0);
    assert.deepEqual(told, []);

    line.shorten(3.5, 0);
    const [left, gone] = order === "lifo" ? ["315", ["0 full", "4 full", "2 full"]] : ["132", ["4 full", "0 full", "5 full"]];
    assert.deepEqual([told, line.size, line.refusals.full], [gone, 3, 3], order);
    assert.equal(takeAll(), left);
  }
});

test("each order serves whom it names first", () => {
  const served = (order: Order) => {
    const { push, takeAll } = setUp({ order });
    push("a", { untilMs: 30 });
    push("b", { untilMs: 10 });
    push("c", { untilMs: 20 });
    push("d");
    return takeAll();
  };
  assert.deepEqual([served("fifo"), served("lifo"), served("deadline"), served("fair")], ["abcd", "dcba", "bcad", "abcd"]);
});

test("a more urgent caller goes first, and one that waited while 32 more urgent ones were served has its turn", () => {
  const { push, takeAll, line } = setUp();
  push("l", { priority: "low" });
  push("n");
  for (let i = 0; i < 70; i++) push("h", { priority: "high" });
  assert.deepEqual([line.size, line.sizeOf("high"), line.sizeOf("low")], [72, 70, 1]);
  const served = takeAll();
  assert.equal(served.length, 72);
  assert.deepEqual([served.indexOf("l"), served.indexOf("n")], [32, 33], "both waited as long; the less urgent one has been passed by more");
});

test("nobody is served whose deadline is over or who has left, and nobody hears of it from the line", () => {
  for (const order of ["fifo", "lifo", "fair", "deadline"] as const) {
    const { line, guest, push, takeAll, told } = setUp({ order });
    const leaver = guest("x");
    line.push(leaver, 0);
    push("a", { untilMs: 10 });
    push("b", { untilMs: 11 });
    assert.equal(line.remove(leaver, 1), true);
    assert.equal(line.remove(leaver, 1), false, "once");
    assert.deepEqual([takeAll(10), line.passedOver, line.size, told], ["b", 1, 0, []]);
    assert.equal(push("late", { untilMs: 10 }, 10), "late");
  }
});

test("whoever has less time left than an operation takes is declined when its turn comes, before it is done in vain", () => {
  const { line, push, take, told } = setUp();
  line.paced(50);
  push("a", { untilMs: 149 });
  push("b", { untilMs: 199, cost: 2 });
  push("c", { untilMs: 150 });
  assert.deepEqual([take(100), told, line.refusals.late, line.size], ["c", ["a late", "b late"], 2, 0]);
});

test("who has been served does not leave the line any more", () => {
  const { line, guest } = setUp();
  const [a, b] = [guest("a"), guest("b")];
  line.push(a, 0);
  line.push(b, 0);
  line.take(0);
  assert.equal(line.remove(a, 0), false);
  assert.equal(line.size, 1);
});

test("in a full line a less urgent caller makes way for a more urgent one, and nobody for a less urgent one", () => {
  const { push, takeAll, told } = setUp({ most: 3 });
  push("a", { priority: "low" });
  push("b", { priority: "low" });
  push("c");
  assert.equal(push("d", { priority: "high" }), undefined);
  assert.deepEqual(told, ["b displaced"]);
  assert.equal(push("e", { priority: "low" }), "full");
  assert.equal(push("f"), undefined);
  assert.equal(push("g"), "full");
  assert.deepEqual([takeAll(), told], ["dcf", ["b displaced", "a displaced"]]);
});

test("a full line of one priority drops from its right end: fifo the newcomer, lifo the oldest, deadline one with more time", () => {
  const full = (order: Order) => {
    const { push, takeAll, told } = setUp({ order, most: 2 });
    push("a", { untilMs: 20 });
    push("b", { untilMs: 30 });
    const refused = push("c", { untilMs: 10 });
    return [refused, told.join(), takeAll()];
  };
  assert.deepEqual(full("fifo"), ["full", "", "ab"]);
  assert.deepEqual(full("lifo"), [undefined, "a displaced", "cb"]);
  assert.deepEqual(full("deadline"), [undefined, "b displaced", "ca"]);
});

test("a full fair line takes the place from the key with the most waiting", () => {
  const { push, takeAll, told } = setUp({ order: "fair", most: 60 });
  for (let i = 0; i < 60; i++) push(".", { key: "elephant" });
  assert.equal(push(".", { key: "elephant" }), "full");
  for (let i = 0; i < 5; i++) assert.equal(push("m", { key: "mouse" }), undefined);
  assert.deepEqual(told, new Array(5).fill(". share"));
  assert.equal(takeAll().slice(0, 11).replaceAll(".", "").length, 5, "its queues are new: one turn each before or beside the other's six");
});

test("which key has the most waiting is known after it has had its turns", () => {
  const { push, take, told } = setUp({ order: "fair", most: 900 });
  for (let i = 0; i < 600; i++) push("a", { key: "was the longest" });
  for (let i = 0; i < 597; i++) take();
  for (let i = 0; i < 897; i++) push("b", { key: "is the longest" });
  assert.equal(push("m", { key: "mouse" }), undefined);
  assert.deepEqual(told, ["b share"]);
});

test("between `from` and `most` ever more of those who come are turned away", () => {
  const turnedAway = (waiting: number) => {
    const { line, push } = setUp({ from: 200, most: 300, random: seededRandom(`red ${waiting}`) });
    line.most = line.from = 1_000;
    for (let i = 0; i < waiting; i++) push("a");
    line.from = 200;
    line.most = 300;
    let refused = 0;
    for (let i = 0; i < 1_000; i++) {
      if (push("b") !== undefined) refused++;
      else line.take(0);
    }
    return refused / 1_000;
  };
  assert.equal(turnedAway(200), 0);
  for (const waiting of [225, 250, 275]) assert.ok(Math.abs(turnedAway(waiting) - (waiting - 200) / 100) < 0.05, `${waiting}: ${turnedAway(waiting)}`);
  assert.equal(turnedAway(300), 1);
});

/** One comes and one is served each `gapMs`, behind `ahead` that were there. How many were served, and the longest wait of the last half. */
function standing(order: Order, ahead: number, codel: LineOptions["codel"]) {
  let longestMs = 0;
  const { line, guest, told } = setUp({ order, codel, most: 100_000 });
  const since = new Map<string, number>();
  const come = (name: string, nowMs: number) => {
    since.set(name, nowMs);
    line.push(guest(name), nowMs);
  };
  for (let i = 0; i < ahead; i++) come(`early ${i}`, 0);
  for (let i = 0; i < 1_000; i++) {
    come(`${i}`, i);
    const { name } = line.take(i)?.waiter as Guest;
    if (i >= 500) longestMs = Math.max(longestMs, i - (since.get(name) as number));
  }
  return { longestMs, declined: told.filter((text) => text.endsWith(" waited")).length, size: line.size };
}

test("a line that stands lets those go who have waited too long; one that smooths a burst lets nobody go", () => {
  const codel = { targetMs: 5, intervalMs: 100 };
  for (const order of ["fifo", "fair"] as const) {
    const stands = standing(order, 50, codel);
    assert.ok(stands.longestMs <= 10 && stands.declined >= 40 && stands.declined <= 50, `${order}: ${JSON.stringify(stands)}`);
  }
  assert.deepEqual(standing("fifo", 50, undefined), { longestMs: 50, declined: 0, size: 50 }, "the control: the line stands for ever");
  assert.deepEqual(standing("fifo", 5, codel), { longestMs: 5, declined: 0, size: 5 }, "what waits no longer than the target may stand");
  const lifo = standing("lifo", 50, codel);
  assert.deepEqual([lifo.longestMs, lifo.declined], [0, 50], "the old end of a lifo line is never served, and let go");
});

test("a line that was short in between does not stand", () => {
  const { line, push, take, told } = setUp({ codel: { targetMs: 5, intervalMs: 100 } });
  for (let round = 0; round < 4; round++) {
    const fromMs = 1_000 * round;
    for (let i = 0; i < 8; i++) push("x", {}, fromMs);
    for (let i = 0; i < 7; i++) take(fromMs + 10 + 10 * i);
    take(fromMs + 80);
    push("short", {}, fromMs + 90);
    take(fromMs + 91);
  }
  assert.deepEqual([told, line.size], [[], 0]);
});

test("bounds that nobody gave follow how long operations take", () => {
  const declinedAt = (msPerUnit: number) => {
    const { line, push, take, told } = setUp({ codel: {} });
    line.paced(msPerUnit);
    for (let ms = 0; ms < 1_000; ms++) {
      push("x", {}, ms);
      if (ms >= 8) take(ms);
    }
    return told.length;
  };
  assert.equal(declinedAt(0), 0, "8 ms are above the target of 5 and below its double");
  assert.equal(declinedAt(3), 0);
  const { line, push, told } = setUp({ codel: {}, most: 10_000 });
  line.paced(100);
  for (let ms = 0; ms < 1_900; ms++) push("x", {}, ms);
  assert.equal(told.length, 0, "with operations of 100 ms the interval is 2 s");
  for (let ms = 1_900; ms < 2_300; ms++) push("x", {}, ms);
  assert.ok(told.length > 1_800, String(told.length));
  const brisk = setUp({ codel: {} });
  for (let ms = 0; ms < 300; ms++) brisk.push("x", {}, ms);
  assert.ok(brisk.told.length > 200, "with short ones 100 ms");
});

test("where nothing is served, those who come find that the line stands", () => {
  const { push, told, line } = setUp({ codel: { targetMs: 5, intervalMs: 100 } });
  for (let ms = 0; ms < 400; ms += 1) push("x", {}, ms);
  assert.ok(told.length > 250, `${told.length} of 400 were let go`);
  assert.ok(line.size < 150);
});

test("a process that stood still for a second finds a long line, not one that stands", () => {
  const { push, told, take } = setUp({ codel: { targetMs: 5, intervalMs: 100 } });
  push("a", {}, 0);
  for (let i = 0; i < 50; i++) push("b", {}, 1_000);
  for (let i = 0; i < 50; i++) take(1_000 + i);
  assert.deepEqual(told, []);
});

test("with fair turns a quiet key waits for the next place, not for those who ask for more", () => {
  const position = (order: Order) => {
    const { push, take } = setUp({ order, most: 10_000 });
    for (let i = 0; i < 1_000; i++) push("elephant", { key: "elephant" });
    for (let i = 0; i < 100; i++) take();
    push("mouse", { key: "mouse" });
    for (let turn = 1; ; turn++) if (take() === "mouse") return turn;
  };
  assert.equal(position("fair"), 1);
  assert.equal(position("fifo"), 901, "the control");
});

test("fair turns give each of many keys about the same, whatever each asks for", () => {
  const { push, take } = setUp({ order: "fair", most: 100_000 });
  for (let key = 0; key < 20; key++) for (let i = 0; i < 200 * (key + 1); i++) push(String(key), { key: `tenant ${key}` });
  const served = new Map<string, number>();
  for (let i = 0; i < 2_000; i++) {
    const name = take() as string;
    served.set(name, (served.get(name) ?? 0) + 1);
  }
  assert.equal(served.size, 20);
  for (const [name, count] of served) assert.ok(count >= 60 && count <= 140, `tenant ${name} was served ${count} times of an even 100; some share a queue`);
});

test("fair turns weigh what operations took: a key that says 1 and takes 10 is served a tenth as often", () => {
  const shares = (charged: boolean) => {
    const { line, push } = setUp({ order: "fair", most: 100_000 });
    for (let i = 0; i < 3_000; i++) {
      push("dear", { key: "dear" });
      push("cheap", { key: "cheap" });
    }
    const served = { dear: 0, cheap: 0 };
    for (let i = 0; i < 1_100; i++) {
      const place = line.take(0);
      if (!place) break;
      const { name } = place.waiter as Guest;
      served[name as "dear" | "cheap"]++;
      if (charged) line.charge(place, name === "dear" ? 10 : 1, 0);
    }
    return served.dear / served.cheap;
  };
  assert.ok(Math.abs(shares(true) - 0.1) < 0.03, String(shares(true)));
  assert.ok(Math.abs(shares(false) - 1) < 0.05, "the control");
});

test("a declared cost counts before anything is measured", () => {
  const { push, take } = setUp({ order: "fair", most: 100_000 });
  for (let i = 0; i < 2_000; i++) {
    push("dear", { key: "dear", cost: 4 });
    push("cheap", { key: "cheap" });
  }
  let dear = 0;
  for (let i = 0; i < 1_000; i++) if (take() === "dear") dear++;
  assert.ok(dear >= 180 && dear <= 220, `${dear} of 1,000, 200 are a fifth`);
});

test("what a key owes is remembered while it has nobody waiting, forgiven with time, and never keeps a place free", () => {
  const { line, guest, push, take } = setUp({ order: "fair" });
  line.paced(1);
  push("dear", { key: "dear" });
  line.charge(line.take(0) as NonNullable<ReturnType<typeof line.take>>, 101, 0);
  const turnAmong50 = (nowMs: number) => {
    for (let i = 0; i < 50; i++) line.push(guest(`o${i}`, { key: `other ${i}` }), nowMs);
    line.push(guest("dear", { key: "dear" }), nowMs);
    for (let turn = 1, at = 0; ; turn++) {
      if (take(nowMs) === "dear") at = turn;
      if (line.size === 0) return at;
    }
  };
  assert.equal(turnAmong50(1), 51, "last, and served although it still owes");
  const free = setUp({ order: "fair" });
  free.push("dear", { key: "dear" });
  free.line.charge(free.line.take(0) as NonNullable<ReturnType<typeof line.take>>, 101, 0);
  for (let i = 0; i < 50; i++) free.push("o", { key: "other" }, 100);
  free.take(100); // the first turn of the others' queues is over
  for (let i = 0; i < 6; i++) free.take(100);
  free.push("dear", { key: "dear" }, 100);
  assert.equal(free.take(100), "dear", "100 ms have paid for 100 units of 1 ms");
});

test("a waiting line holds in any sequence of comings, goings and turns what a naive one holds", () => {
  const seed = process.env["SEED"] ?? "line-1";
  const random = seededRandom(seed);
  for (let run = 0; run < 200; run++) {
    const order = (["fifo", "lifo", "deadline"] as const)[run % 3] as Order;
    const { line, guest, told } = setUp({ order, most: 20 });
    let model: Guest[] = [];
    const pick = <T>(of: readonly T[]): T => of[Math.floor(random.next() * of.length)] as T;
    const left = new Set<Guest>();
    for (let step = 0; step < 200; step++) {
      const nowMs = step;
      const roll = random.next();
      if (roll < 0.55) {
        const one = guest(`${step}`, { priority: pick(["high", "normal", "low"]), untilMs: pick([Infinity, nowMs + 5, nowMs + 40]), key: pick(["a", "b"]) });
        const before = told.length;
        if (line.push(one, nowMs) === undefined) model.push(one);
        for (const text of told.slice(before)) model = model.filter(({ name }) => !text.startsWith(`${name} `));
      } else if (roll < 0.7 && model.length > 0) {
        const one = pick(model);
        left.add(one);
        assert.equal(line.remove(one, nowMs), true, `seed ${seed}`);
        model = model.filter((other) => other !== one);
      } else {
        const taken = line.take(nowMs)?.waiter as Guest | undefined;
        const alive = model.filter(({ untilMs }) => untilMs > nowMs);
        if (alive.length === 0) assert.equal(taken, undefined, `seed ${seed}`);
        else {
          assert.ok(taken && alive.includes(taken) && !left.has(taken), `seed ${seed}: ${taken?.name} was not waiting`);
          const peers = alive.filter(({ priority }) => priority === taken.priority);
          const first = { fifo: peers[0], lifo: peers.at(-1), deadline: peers.toSorted((a, b) => a.untilMs - b.untilMs)[0], fair: peers[0] }[order];
          if (order === "deadline") assert.equal(taken.untilMs, first?.untilMs, `seed ${seed}`);
          else assert.equal(taken, first, `seed ${seed}, ${order}`);
        }
        // Whoever stood before the one who was served and had no time left is gone as well.
        model = model.filter((one) => one !== taken && one.place !== undefined && typeof one.place !== "string");
      }
      assert.equal(line.size, model.length, `seed ${seed}, run ${run}, step ${step}`);
      assert.ok(line.size <= 20);
    }
  }
});

test("a fair line loses and repeats nobody in any sequence of comings, goings and turns", () => {
  const seed = process.env["SEED"] ?? "fair-1";
  const random = seededRandom(seed);
  for (let run = 0; run < 100; run++) {
    const { line, guest, told } = setUp({
      order: "fair",
      most: 60,
      codel: run % 2 ? { targetMs: 2, intervalMs: 10 } : undefined,
      random: seededRandom(`${seed} ${run}`),
    });
    const waiting = new Set<Guest>();
    let declined = 0;
    for (let step = 0; step < 400; step++) {
      const roll = random.next();
      if (roll < 0.5) {
        const one = guest(`${step}`, { key: `k${Math.floor(random.next() ** 3 * 40)}`, cost: 1 + Math.floor(random.next() * 4) });
        if (line.push(one, step) === undefined) waiting.add(one);
      } else if (roll < 0.6) {
        for (const one of waiting) {
          waiting.delete(one);
          line.remove(one, step);
          break;
        }
      } else {
        const place = line.take(step);
        if (!place) assert.equal(line.size, 0, `seed ${seed}: nobody was served while somebody waited`);
        else {
          assert.ok(waiting.delete(place.waiter as Guest), `seed ${seed}: served twice`);
          line.charge(place, random.next() * 20, step);
        }
      }
      for (const text of told.slice(declined)) for (const one of waiting) if (text.startsWith(`${one.name} `)) waiting.delete(one);
      declined = told.length;
      assert.equal(line.size, waiting.size, `seed ${seed}, run ${run}, step ${step}`);
    }
    while (line.take(1e6)) line.size;
    assert.equal(line.size, 0, `seed ${seed}`);
  }
});

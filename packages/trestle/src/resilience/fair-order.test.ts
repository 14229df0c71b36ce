/** What `fair` promises of turns, in random schedules. `SEED=…` repeats a failure. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { KeyedHash, seededRandom } from "../kernel/index.ts";
import { AbsentDebts } from "./absent-debts.ts";
import { WaitingLine } from "./index.ts";
import type { Waiter } from "./index.ts";

const seed = process.env["SEED"] ?? "fair-turns-1";

interface Guest extends Waiter {
  readonly turnsSeen: Map<string, number>;
  /** Nobody of its key waited when it came, or had been served since everybody had a turn. */
  readonly isNewcomer: boolean;
}

function setUp(name: string, most = 10_000_000) {
  const line = new WaitingLine<Guest>({ order: "fair", random: seededRandom(`${seed} ${name}`) });
  line.most = line.from = most;
  const waiting = new Map<string, number>();
  const turns = new Map<string, number>();
  const come = (key: string, { cost = 1, isNewcomer = false, nowMs = 0 } = {}): boolean => {
    const guest: Guest = {
      key,
      cost,
      isNewcomer,
      priority: "normal",
      untilMs: Infinity,
      turnsSeen: isNewcomer ? new Map(turns) : turns,
      place: undefined,
      declined: () => waiting.set(key, (waiting.get(key) ?? 0) - 1),
    };
    if (line.push(guest, nowMs) !== undefined) return false;
    waiting.set(key, (waiting.get(key) ?? 0) + 1);
    return true;
  };
  const serve = (nowMs = 0): Guest | undefined => {
    const guest = line.take(nowMs)?.waiter as Guest | undefined;
    if (!guest) return undefined;
    waiting.set(guest.key, (waiting.get(guest.key) as number) - 1);
    turns.set(guest.key, (turns.get(guest.key) ?? 0) + 1);
    return guest;
  };
  return { line, come, serve, turns, waiting };
}

/** Random comings of keys of which some ask for a hundred times as much as others, some always have somebody waiting, and some come once. */
function schedule(run: number, step: (schedule: ReturnType<typeof setUp> & { readonly busy: readonly string[] }, served: Guest, at: number) => void): void {
  const random = seededRandom(`${seed} ${run}`);
  const here = setUp(`line ${run}`);
  const busy = Array.from({ length: 1 + Math.floor(random.next() * 5) }, (_, n) => `busy ${n}`);
  const others = 1 + Math.floor(random.next() * 30);
  const pressure = 0.2 + 2 * random.next();
  for (let at = 0; at < 600; at++) {
    for (const key of busy) while ((here.waiting.get(key) ?? 0) < 2) here.come(key);
    for (let coming = pressure; coming > random.next(); coming--) {
      if (random.next() < 0.2) here.come(`once ${at} ${coming}`, { isNewcomer: true });
      else here.come(`other ${Math.floor(random.next() ** 3 * others)}`);
    }
    step({ ...here, busy }, here.serve() as Guest, at);
  }
}

test("[RES-05] a newcomer waits for at most one turn of each other key, whatever the schedule", () => {
  let newcomers = 0;
  for (let run = 0; run < 150; run++)
    schedule(run, ({ turns }, served, at) => {
      if (!served.isNewcomer) return;
      newcomers++;
      for (const [key, count] of turns) {
        const meanwhile = count - (served.turnsSeen.get(key) ?? 0);
        assert.ok(meanwhile <= 1, `SEED=${seed}, run ${run}, step ${at}: ${meanwhile} turns of ${key} before that of ${served.key}`);
      }
    });
  assert.ok(newcomers > 10_000, `${newcomers} newcomers were looked at`);
});

test("[RES-05] no key gets more than one turn more than a key that always waits, in any stretch of any schedule", () => {
  let looks = 0;
  for (let run = 0; run < 25; run++) {
    /** The least of `turns of a busy key - turns of another`, and where it stands: a stretch is the difference of two moments. */
    const most = new Map<string, number>();
    schedule(run, ({ turns, busy }, _served, at) => {
      for (const key of busy)
        for (const [other, count] of turns) {
          const ahead = count - (turns.get(key) ?? 0);
          const pair = `${key} ${other}`;
          const least = Math.min(most.get(pair) ?? 0, ahead);
          most.set(pair, least);
          looks++;
          assert.ok(ahead - least <= 1, `SEED=${seed}, run ${run}, step ${at}: ${other} had ${ahead - least} turns more than ${key} in a stretch`);
        }
    });
  }
  assert.ok(looks > 500_000, `${looks} looks`);
});

test("a key whose line empties at each turn gets no more than one that always waits, and a thousand busy keys get the same", () => {
  const { come, serve, turns } = setUp("closed loop");
  for (let i = 0; i < 1_000; i++) come("always waits");
  come("comes again");
  for (let i = 0; i < 1_000; i++) if (serve()?.key === "comes again") come("comes again");
  assert.deepEqual([...turns.values()], [500, 500]);

  const many = setUp("thousand");
  for (let i = 0; i < 20; i++) for (let key = 0; key < 1_000; key++) many.come(`tenant ${key}`);
  for (let i = 0; i < 10_000; i++) many.serve();
  assert.deepEqual(new Set(many.turns.values()), new Set([10]));
});

test("keys that always wait get the same cost within 2 %, whatever each call costs", () => {
  for (let run = 0; run < 20; run++) {
    const random = seededRandom(`${seed} cost ${run}`);
    const { come, serve, waiting } = setUp(`cost ${run}`);
    const keys = Array.from({ length: 20 }, (_, n) => ({ key: `tenant ${n}`, cost: 0.1 + 10 * random.next() ** 2 }));
    const spent = new Map<string, number>();
    for (let i = 0; i < 40_000; i++) {
      for (const { key, cost } of keys) while ((waiting.get(key) ?? 0) < 2) come(key, { cost: cost * (0.5 + random.next()) });
      const { key, cost } = serve() as Guest;
      spent.set(key, (spent.get(key) ?? 0) + cost);
    }
    const shares = [...spent.values()];
    const spread = Math.max(...shares) / Math.min(...shares);
    assert.ok(shares.length === 20 && spread < 1.02, `SEED=${seed}, run ${run}: the largest share is ${spread} times the smallest`);
  }
});

test("keys that somebody makes up take no more than turns of their own: one waiting at a time at most every other, k that always wait k of k + 1", () => {
  const shareOfVictim = (atOnce: number, taken: number): number => {
    const { come, serve, turns } = setUp(`made up ${atOnce}`);
    let madeUp = 0;
    for (let i = 0; i < taken; i++) come("victim");
    for (let i = 0; i < atOnce; i++) come(`made up ${madeUp++}`);
    for (let i = 0; i < taken; i++) if (serve()?.key !== "victim") come(`made up ${madeUp++}`);
    return (turns.get("victim") ?? 0) / taken;
  };
  assert.equal(shareOfVictim(1, 20_000), 0.5, "10,000 keys, each used once");
  assert.ok(Math.abs(shareOfVictim(100, 101_000) - 1 / 101) < 1e-4, "100,000 keys, each used once, 100 of them waiting at any time");
  const { come, serve, turns } = setUp("a hundred thousand at once");
  for (let key = 0; key < 100_000; key++) come(`made up ${key}`);
  for (let i = 0; i < 10; i++) come("victim");
  for (let i = 0; i < 300_003; i++) {
    const { key } = serve() as Guest;
    if (key !== "victim") come(key);
  }
  assert.equal(turns.get("victim"), 3, "one in 100,001: the keys are all that fairness knows");
});

test("a debt of an absent key counts against it and against one in a hundred and thirty others while a hundred keys owe; with sixteen debtors against nobody in 100,000", () => {
  const heldFor = (debtors: number): number => {
    const debts = new AbsentDebts();
    const hash = new KeyedHash(seededRandom(`${seed} debts`));
    const hand = (key: string) => ({ first: hash.of(key), second: hash.second });
    for (let n = 0; n < debtors; n++) debts.set(hand(`debtor ${n}`), 1_000, 0);
    for (let n = 0; n < debtors; n++) assert.ok(debts.of(hand(`debtor ${n}`), 400) >= 600);
    let mistaken = 0;
    for (let n = 0; n < 100_000; n++) if (debts.of(hand(`innocent ${n}`), 0) > 0) mistaken++;
    return mistaken / 100_000;
  };
  // (1 - (1 - 1/1024)^(6 n))^6
  assert.ok(Math.abs(heldFor(100) - 0.0076) < 0.002, `SEED=${seed}: ${heldFor(100)}`);
  assert.ok(heldFor(16) <= 3e-5, `SEED=${seed}: ${heldFor(16)}`);
  const debts = new AbsentDebts();
  debts.set({ first: 1, second: 2 }, 1_000, 0);
  debts.set({ first: 1, second: 2 }, 100, 0);
  assert.equal(debts.of({ first: 1, second: 2 }, 50), 50, "what was charged too much is given back");
});

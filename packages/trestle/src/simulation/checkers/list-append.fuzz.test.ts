/** Random transactions over lists, against a checker that tries every order. `FUZZ_SEED=<seed>` replays one; `FUZZ_RUNS` says how many. */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { Random } from "../../kernel/index.ts";
import { checkListAppend, type MicroOperation, type Operation, type Transaction, type Value } from "./index.ts";
import { below, chance, comesBeforeInRealTime, comesBeforeOnItsProcess, pick, randomTimes, withSeeds } from "./testing/histories.ts";

const file = "list-append.fuzz.test.ts";
type Lists = ReadonlyMap<string | number, readonly Value[]>;

/** What a transaction alone would have read, and left behind. */
function executed(call: readonly MicroOperation[], lists: Lists): { readonly result: (readonly Value[] | null)[]; readonly after: Lists } {
  const after = new Map(lists);
  const result = call.map((micro) => {
    const list = after.get(micro.key) ?? [];
    if (micro.kind === "read") return list;
    after.set(micro.key, [...list, micro.value]);
    return null;
  });
  return { result, after };
}

/**
 * Transactions of one database, which is broken in one of several ways, or not: it reads of a moment that is past, and writes now; it forgets an append; it shows what is not
 * committed, or what failed. Then it is often not serializable, and not for one reason alone.
 */
function transactions(random: Random, broken: number): Transaction[] {
  let value = 0;
  const times = randomTimes(random, { processes: 2 + below(random, 3), each: 2, span: 6 }).slice(0, 6);
  const keys: (string | number)[] = ["x", "y"].slice(0, 1 + below(random, 2));
  const asked = times.map((operation) => {
    const call = Array.from({ length: 1 + below(random, 4) }, (): MicroOperation =>
      chance(random, 0.5) ? { kind: "append", key: pick(random, keys), value: value++ } : { kind: "read", key: pick(random, keys) },
    );
    return chance(random, 0.1) && operation.outcome === "ok" ? { ...operation, call, outcome: "failed" as const } : { ...operation, call };
  });
  const points = asked.map(({ invokedAt, returnedAt = invokedAt + 6 }) => invokedAt + random.next() * (returnedAt - invokedAt));
  const past: Lists[] = [new Map()];
  const history: Transaction[] = asked.map(({ result: _, ...operation }) => operation);
  for (const place of [...asked.keys()].sort((a, b) => (points[a] as number) - (points[b] as number))) {
    const operation = asked[place] as (typeof asked)[number];
    const now = past.at(-1) as Lists;
    const breaks = chance(random, broken);
    const seen = breaks ? (past[below(random, past.length)] as Lists) : now;
    let { result } = executed(operation.call, seen);
    let { after } = executed(operation.call, now);
    if (breaks && chance(random, 0.3)) after = new Map([...after].map(([key, list]) => [key, list.filter(() => chance(random, 0.8))]));
    if (breaks && chance(random, 0.2)) result = result.map((list) => (list && list.length > 0 && chance(random, 0.5) ? list.slice(0, -1) : list));
    if (operation.outcome === "ok") history[place] = { ...operation, result };
    const applied = operation.outcome === "ok" || (operation.outcome === "unknown" ? chance(random, 0.5) : chance(random, broken / 2));
    if (applied) past.push(after);
  }
  // Some read of lists that they do not append to at any moment there was, also a later one.
  const end = past.at(-1) as Lists;
  const sees = chance(random, broken) ? 0.7 : 0;
  return history.map((operation) => {
    if (operation.outcome !== "ok" || !chance(random, sees)) return operation;
    const own = new Set(operation.call.flatMap((micro) => (micro.kind === "append" ? [micro.key] : [])));
    const cut = new Map(keys.map((key) => [key, (end.get(key) ?? []).slice(0, below(random, (end.get(key)?.length ?? 0) + 1))]));
    const result = operation.call.map((micro, i) =>
      micro.kind === "read" && !own.has(micro.key) ? (cut.get(micro.key) ?? []) : (operation.result?.[i] ?? null),
    );
    return { ...operation, result };
  });
}

/** Is there an order of those that are acknowledged, and any of those that may have been, in which each reads what it read? */
function serializable(history: readonly Transaction[], before: (one: Operation, other: Operation, history: readonly Operation[]) => boolean): boolean {
  const attempt = (left: readonly Transaction[], lists: Lists): boolean => {
    if (left.every(({ outcome }) => outcome === "unknown")) return true;
    return left.some((next) => {
      if (left.some((other) => other !== next && before(other, next, history))) return false;
      const { result, after } = executed(next.call, lists);
      if (next.outcome === "ok" && JSON.stringify(result) !== JSON.stringify(next.result)) return false;
      return attempt(
        left.filter((other) => other !== next),
        after,
      );
    });
  };
  return attempt(
    history.filter(({ outcome }) => outcome !== "failed"),
    new Map(),
  );
}

for (const [order, before] of [
  ["none", () => false],
  ["process", comesBeforeOnItsProcess],
  ["realtime", comesBeforeInRealTime],
] as const)
  test(`thousands of tiny histories are serializable, with order ${order}, exactly when some order of the transactions explains them`, (t) => {
    const seen: Record<string, number> = { ok: 0, violation: 0 };
    const kinds = new Map<string, number>();
    const runs = withSeeds(file, 6_000, (random) => {
      const history = transactions(random, chance(random, 0.7) ? 0.5 : 0);
      const expected = serializable(history, before) ? "ok" : "violation";
      seen[expected]!++;

      const { verdict, problems } = checkListAppend(history, { order });

      for (const { kind } of problems) kinds.set(kind, (kinds.get(kind) ?? 0) + 1);
      assert.equal(verdict, expected, `${JSON.stringify(history, undefined, 1)}\n${problems.map(({ text }) => text).join("\n")}`);
    });
    t.diagnostic(`${runs} histories: ${JSON.stringify(seen)}; ${JSON.stringify(Object.fromEntries(kinds))}`);
    if (runs > 1_000) {
      for (const [verdict, count] of Object.entries(seen)) assert.ok(count > 500, `${count} ${verdict}`);
      for (const kind of ["G0", "G1a", "G1b", "G1c", "G-single", "G2-item", "lost-update", "internal", "incompatible-order"].filter(
        (kind) => kind !== "G0" || order === "none",
      ))
        assert.ok((kinds.get(kind) ?? 0) > 0, `no ${kind} among them: ${JSON.stringify(Object.fromEntries(kinds))}`);
    }
  });

/** Is there an order of commits in which each transaction read what stood at some moment before its own, and nobody wrote its lists in between? */
function snapshotIsolated(history: readonly Transaction[]): boolean {
  const attempt = (left: readonly Transaction[], moments: readonly Lists[], wrote: readonly ReadonlySet<string | number>[]): boolean => {
    if (left.every(({ outcome }) => outcome === "unknown")) return true;
    return left.some((next) => {
      const lists = new Set(next.call.flatMap(({ kind, key }) => (kind === "append" ? [key] : [])));
      return moments.some((seen, moment) => {
        if (wrote.slice(moment).some((others) => [...lists].some((key) => others.has(key)))) return false;
        if (next.outcome === "ok" && JSON.stringify(executed(next.call, seen).result) !== JSON.stringify(next.result)) return false;
        const { after } = executed(next.call, moments.at(-1) as Lists);
        return attempt(
          left.filter((other) => other !== next),
          [...moments, after],
          [...wrote, lists],
        );
      });
    });
  };
  return attempt(
    history.filter(({ outcome }) => outcome !== "failed"),
    [new Map()],
    [],
  );
}

test("thousands of tiny histories, ended by a read of every list, keep snapshot isolation exactly when there are moments at which each read", (t) => {
  const seen: Record<string, number> = { ok: 0, violation: 0, "ok, though not serializable": 0 };
  const runs = withSeeds(file, 6_000, (random) => {
    const history = transactions(random, chance(random, 0.7) ? 0.6 : 0);
    const longest = (key: string) =>
      history
        .flatMap(({ call, result }) => call.flatMap((micro, i) => (micro.key === key && result?.[i] ? [result[i]] : [])))
        .sort((a, b) => b.length - a.length)[0] ?? [];
    // Whoever reads last finds what the others found, and all that they did not.
    const last = ["x", "y"].map((key) => {
      const unread = history
        .flatMap(({ call, outcome }) => (outcome === "ok" ? call : []))
        .flatMap((micro) => (micro.kind === "append" && micro.key === key && !longest(key).includes(micro.value) ? [micro.value] : []));
      return [...longest(key), ...unread];
    });
    history.push({
      process: "last",
      call: [
        { kind: "read", key: "x" },
        { kind: "read", key: "y" },
      ],
      invokedAt: 1_000,
      outcome: "ok",
      returnedAt: 1_001,
      result: last,
    });
    const expected = snapshotIsolated(history) ? "ok" : "violation";
    seen[expected]!++;

    const { verdict, problems } = checkListAppend(history, { isolation: "snapshot-isolation" });

    assert.equal(verdict, expected, `${JSON.stringify(history, undefined, 1)}\n${problems.map(({ text }) => text).join("\n")}`);
    if (verdict === "ok" && checkListAppend(history).verdict === "violation") seen["ok, though not serializable"]!++;
  });
  t.diagnostic(`${runs} histories: ${JSON.stringify(seen)}`);
  if (runs > 1_000) for (const [what, count] of Object.entries(seen)) assert.ok(count >= 5, `${count} ${what}`);
});

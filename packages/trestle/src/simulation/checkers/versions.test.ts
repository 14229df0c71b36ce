import assert from "node:assert/strict";
import { test } from "node:test";
import { checkMonotonic, checkSessions, checkStaleness, type Checked, type Operation, type Versioned, type VersionedCall } from "./index.ts";
import { below, chance, withSeeds } from "./testing/histories.ts";

const file = "versions.test.ts";
/** `a:w3` and `b:rx2`: process, write or read, key, version; one after the other, 10 ms each. */
const versioned = (...texts: readonly string[]): Operation<VersionedCall, Versioned>[] =>
  texts.map((text, i) => {
    const [, process, letter, key, version] = /^(\w):([wr])([a-z]?)(\d)$/.exec(text) as unknown as string[];
    return {
      process: process as string,
      key: key as string,
      call: { kind: letter === "w" ? "write" : "read" },
      invokedAt: 10 * i,
      returnedAt: 10 * i + 5,
      outcome: "ok",
      result: { version: Number(version) },
    };
  });
const kinds = ({ problems }: Checked) => problems.map(({ kind }) => kind);

test("each session guarantee is broken by its own pair of operations, and only by one process's", () => {
  assert.deepEqual(kinds(checkSessions(versioned("a:w1", "a:r1", "a:w2", "a:r2"))), []);
  assert.deepEqual(kinds(checkSessions(versioned("a:w2", "a:r1"))), ["read-your-writes"]);
  assert.deepEqual(kinds(checkSessions(versioned("a:r2", "a:r1"))), ["monotonic-reads"]);
  assert.deepEqual(kinds(checkSessions(versioned("a:w2", "a:w1"))), ["monotonic-writes"]);
  assert.deepEqual(kinds(checkSessions(versioned("a:r2", "a:w1"))), ["writes-follow-reads"]);
  assert.deepEqual(kinds(checkSessions(versioned("a:r2", "a:w2"))), ["writes-follow-reads"], "a write has a version of its own");
  assert.deepEqual(kinds(checkSessions(versioned("a:w2", "b:r1", "a:rx1"))), []);
  assert.deepEqual(kinds(checkSessions(versioned("a:r2", "a:r1"), ["read-your-writes"])), []);
});

/** A client hops between replicas that lag; with `token` it takes only those that are as far as what it has seen. */
function hopping(random: Parameters<Parameters<typeof withSeeds>[2]>[0], token: boolean): Operation<VersionedCall, Versioned>[] {
  const replicas = [0, 0, 0];
  let version = 0;
  let seen = 0;
  return Array.from({ length: 100 }, (_, i) => {
    const kind = chance(random, 0.3) ? "write" : "read";
    for (const at of replicas.keys()) if (chance(random, 0.3)) replicas[at] = version;
    const able = [version, ...replicas].filter((has) => !token || has >= seen);
    const answer = kind === "write" ? ++version : (able[below(random, able.length)] as number);
    seen = Math.max(seen, answer);
    return { process: "client", call: { kind }, invokedAt: i, returnedAt: i, outcome: "ok", result: { version: answer } };
  });
}

test("a client that hops over lagging replicas has the guarantees with a token, in 10,000 operations, and not without", () => {
  let without = 0;
  withSeeds(file, 100, (random) => {
    assert.equal(checkSessions(hopping(random, true)).verdict, "ok");
    without += checkSessions(hopping(random, false)).problems.length;
  });
  assert.ok(without > 0);
});

test("a read may be as old as the bound allows, counted from the answer to the first write that it lacks", () => {
  const history = versioned("a:w1", "a:w2", "a:w3", "b:r3", "b:r2", "b:r1"); // version 2 was acknowledged at 15, 3 at 25

  assert.deepEqual(checkStaleness(history, { maxMs: 35 }).problems, []);
  assert.deepEqual(
    checkStaleness(history, { maxMs: 34 }).problems.map(({ kind, operations }) => [kind, operations]),
    [["stale", [5, 1]]],
  );
  assert.equal(checkStaleness(history, { maxMs: 14 }).problems.length, 2);
  const [first, second, ...rest] = versioned("a:w1", "a:w2", "a:w3", "b:r1") as [Operation<VersionedCall, Versioned>, Operation<VersionedCall, Versioned>];
  const late = [first, { ...second, process: "c", returnedAt: 29 }, ...rest]; // version 3 was acknowledged first, at 25
  assert.deepEqual(
    checkStaleness(late, { maxMs: 4 }).problems.map(({ operations }) => operations),
    [[3, 2]],
  );
  assert.deepEqual(checkStaleness(versioned("a:w1", "b:rx0"), { maxMs: 0 }).problems, [], "another key");
});

test("what only grows is not seen smaller: by nobody later, or by no process after it saw more", () => {
  const reads = versioned("a:r1", "b:r3", "a:r2");
  const valueOf = ({ result }: Operation<VersionedCall, Versioned>) => result?.version;

  assert.deepEqual(
    checkMonotonic(reads, { valueOf }).problems.map(({ operations }) => operations),
    [[2, 1]],
  );
  assert.deepEqual(checkMonotonic(reads, { valueOf, scope: "process" }).problems, []);
  assert.deepEqual(checkMonotonic(versioned("a:r3", "a:r2"), { valueOf, scope: "process" }).problems.length, 1);
  const sideBySide = reads.map((operation) => ({ ...operation, invokedAt: 0 }));
  assert.deepEqual(checkMonotonic(sideBySide, { valueOf }).problems, []);
});

test("random growing numbers are judged as by comparing every pair", () => {
  withSeeds(file, 500, (random) => {
    const history = Array.from({ length: 12 }, (_, i): Operation<VersionedCall, Versioned> => {
      const invokedAt = below(random, 30);
      return {
        process: i,
        key: below(random, 2),
        call: { kind: "read" },
        invokedAt,
        returnedAt: invokedAt + below(random, 8),
        outcome: "ok",
        result: { version: Math.floor(invokedAt / 4) + below(random, 2) },
      };
    });
    const wrong = history.filter((later) =>
      history.some(
        (earlier) =>
          earlier.key === later.key &&
          (earlier.returnedAt as number) < later.invokedAt &&
          (earlier.result as Versioned).version > (later.result as Versioned).version,
      ),
    );

    const { problems } = checkMonotonic(history, { valueOf: ({ result }) => result?.version });

    assert.deepEqual(
      problems.map(({ operations: [place = -1] }) => place).sort((a, b) => a - b),
      wrong.map((operation) => history.indexOf(operation)),
    );
  });
});

import assert from "node:assert/strict";
import { test } from "node:test";
import { anomalies, inOrder, PostgresModel, type Answer, type Step } from "./index.ts";

const rows = (found: Readonly<Record<string, number>>): Answer => ({ kind: "rows", rows: inOrder(Object.entries(found)) });
const read: Step = { kind: "read", key: "x" };
const add: Step = { kind: "add", key: "x", amount: 1 };
const commit: Step = { kind: "commit" };
const begin: Step = { kind: "begin", level: "read committed" };

for (const { name, rows: given, story } of anomalies) {
  test(`the model allows every step of "${name}"`, () => {
    const model = new PostgresModel(given);

    for (const [session, step, look] of story) assert.equal(model.saw(session, step, look), undefined);

    assert.ok(story.length >= 5);
  });
}

test("what PostgreSQL never shows is not allowed, and the reason names what is", () => {
  const model = new PostgresModel({ x: 1 });
  model.saw("a", begin, "a: begun");
  model.saw("b", begin, "b: begun");
  model.saw("a", add, "a: x=2");

  const dirty = model.saw("b", read, "b: x=2");
  const jumpedQueue = model.saw("b", add, "b: x=2");

  assert.match(dirty ?? "", /b: read x\n {2}seen: {4}b: x=2\n {2}allowed: b: x=1/);
  assert.match(jumpedQueue ?? "", /allowed: b waits/);
});

test("a deadlock ends either of the two, and two who wait for one row may come in either order", () => {
  const deadlock = new PostgresModel({ x: 1, y: 1 });
  for (const name of ["a", "b"]) deadlock.saw(name, begin, `${name}: begun`);
  deadlock.saw("a", { kind: "lock", key: "x" }, "a: x=1");
  deadlock.saw("b", { kind: "lock", key: "y" }, "b: y=1");
  deadlock.saw("a", { kind: "lock", key: "y" }, "a waits");
  const queue = new PostgresModel({ x: 1 });
  for (const name of ["a", "b", "c"]) queue.saw(name, begin, `${name}: begun`);
  queue.saw("a", add, "a: x=2");
  queue.saw("b", add, "b waits");
  queue.saw("c", add, "b waits; c waits");

  assert.deepEqual(deadlock.expected("b", { kind: "lock", key: "x" }), ["a: error 40P01; b: x=1", "a: y=1; b: error 40P01"]);
  assert.deepEqual(queue.expected("a", commit), ["a: committed; b: x=3; c waits", "a: committed; c: x=3; b waits"]);
});

test("what serializable transactions show must have an order; none of them is refused where nobody else is serializable", () => {
  const skew = (others: "serializable" | "repeatable read") => {
    const model = new PostgresModel({ x: 1, y: 1 });
    model.saw("a", { kind: "begin", level: others }, "a: begun");
    model.saw("b", { kind: "begin", level: "serializable" }, "b: begun");
    for (const name of ["a", "b"]) model.saw(name, { kind: "scan" }, `${name}: x=1 y=1`);
    model.saw("a", { kind: "set", key: "x", value: 0 }, "a: x=0");
    model.saw("b", { kind: "set", key: "y", value: 0 }, "b: y=0");
    model.saw("a", commit, "a: committed");
    return model.expected("b", commit);
  };

  assert.deepEqual(skew("serializable"), ["b: error 40001"]);
  assert.deepEqual(skew("repeatable read"), ["b: committed"]);
});

/** One after the other, each in a transaction of its own; the last of them `asynchronous` where it is said. */
function afterCommits(commits: readonly ("synchronous" | "asynchronous")[]): PostgresModel {
  const model = new PostgresModel({ x: 0 });
  commits.forEach((how, at) => {
    model.saw("a", { kind: "begin", level: "read committed", asynchronous: how === "asynchronous" }, "a: begun");
    model.saw("a", add, `a: x=${at + 1}`);
    model.saw("a", commit, "a: committed");
  });
  return model;
}
function nowReads(model: PostgresModel): readonly string[] {
  model.saw("z", begin, "z: begun");
  return model.expected("z", read);
}

test("a crash takes back the last asynchronous commits, and none that a synchronous one followed", () => {
  const model = afterCommits(["synchronous", "asynchronous", "synchronous", "asynchronous", "asynchronous"]);

  model.crashed();

  assert.deepEqual(nowReads(model), ["z: x=3", "z: x=4", "z: x=5"]);
});

test("a fail-over takes back what the standby was not known to have, and what it was seen to have stays", () => {
  const model = afterCommits(["synchronous", "synchronous", "synchronous"]);

  const isOld = model.sawOnStandby(rows({ x: 1 }));
  const isLater = model.sawOnStandby(rows({ x: 2 }));
  const wentBack = model.sawOnStandby(rows({ x: 1 }));
  model.failedOver();

  assert.deepEqual([isOld, isLater], [undefined, undefined]);
  assert.match(wentBack ?? "", /a scan of the standby/);
  assert.deepEqual(nowReads(model), ["z: x=2", "z: x=3"]);
});

test("a fail-over to a standby that had caught up takes nothing back", () => {
  const model = afterCommits(["synchronous", "asynchronous"]);

  model.replicated();
  model.failedOver();

  assert.deepEqual(nowReads(model), ["z: x=2"]);
});

test("a commit whose answer was lost may have happened; a connection that breaks before it has rolled back, and frees who waits", () => {
  const unknown = new PostgresModel({ x: 0 });
  unknown.saw("a", begin, "a: begun");
  unknown.saw("a", add, "a: x=1");
  const before = new PostgresModel({ x: 0 });
  for (const name of ["a", "b"]) before.saw(name, begin, `${name}: begun`);
  before.saw("a", add, "a: x=1");
  before.saw("b", add, "b waits");

  assert.equal(unknown.disconnected("a", commit), undefined);
  assert.equal(before.disconnected("a", undefined, "b: x=1"), undefined);

  assert.deepEqual(nowReads(unknown), ["z: x=0", "z: x=1"]);
});

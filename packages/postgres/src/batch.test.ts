/** Which batches are told apart: only those in which no commit can see what another one did. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { systemClock, systemRandom, uuidv7Ids } from "trestle/kernel";
import type { Expectation, Write } from "trestle/store";
import { encodeBatch, type BatchRow, type InternalCommit } from "./batch.ts";

const ids = uuidv7Ids(systemClock, systemRandom);
const bytes = Buffer.from("x");
const fence = { epoch: 1, n: 1 };
const job = ids.next();
const commit = (writes: readonly Write[], expects: readonly Expectation[] = []): InternalCommit => ({ id: ids.next(), expects, writes });
const put = (key: string): Write => ({ kind: "put", key, value: bytes });
const append = (stream: string): Write => ({ kind: "append", stream, events: [{ id: ids.next(), type: "Happened", data: bytes }] });
const finish = (id: string): Write => ({ kind: "finish", job: id, fence, end: { kind: "done" } });
const seen = (key: string): Expectation => ({ kind: "record", key, version: 0 });

/** The second of the arguments that are truth values; the first says whether the batch is inside its caller's transaction. */
const areApart = (...commits: readonly InternalCommit[]) =>
  encodeBatch(commits, { nowMs: null, inDoubt: () => false }).arguments.filter((argument) => typeof argument === "boolean")[1];

test("commits are apart when each writes, and each key and claim is only one's, who writes it once", () => {
  assert.equal(areApart(commit([put("a"), append("a")], [seen("a")]), commit([put("b"), { kind: "token", key: "a", value: bytes, keepForMs: 1 }])), true);
  assert.equal(areApart(commit([finish(job)], [{ kind: "claim", job, fence }]), commit([finish(ids.next())])), true);
  assert.equal(
    areApart(commit([{ kind: "enqueue", job: { id: ids.next(), queue: "q", payload: bytes, priority: 1, key: "k" } }]), commit([put("a")])),
    true,
    "jobs have no expectations",
  );
});

test("commits are not apart when one could see what another did, or what it did itself", () => {
  const first = commit([put("a")]);
  for (const [why, ...commits] of [
    ["both write it", commit([put("a")]), commit([put("a")])],
    ["one expects what the other writes", commit([put("a")]), commit([put("b")], [seen("a")])],
    ["one writes it twice", commit([put("a"), put("a")])],
    ["two parts of one stream", commit([append("a"), append("a")])],
    ["it reads only", commit([], [seen("a")]), commit([put("b")])],
    ["it follows another", first, commit([put("b")], [{ kind: "record", key: "a", version: first.id }])],
    ["it merges", commit([{ kind: "merge", key: "a", merge: { kind: "add", amount: 1 } }])],
    ["it removes", commit([{ kind: "remove", key: "a" }])],
    ["it trims", commit([{ kind: "trim", stream: "a", upTo: 1 }])],
    ["it expects a prefix", commit([put("a")], [{ kind: "unchanged", prefix: "b", since: 0 }])],
    ["both end the claim", commit([finish(job)]), commit([finish(job)])],
    ["one ends the claim that the other expects", commit([finish(job)]), commit([put("a")], [{ kind: "claim", job, fence }])],
    ["one ends the claim twice", commit([finish(job), finish(job)])],
  ] as const)
    assert.equal(areApart(...commits), false, why);
});

test("an answer rests on commits alone, unless an id was resolved without one, before or now", () => {
  const encoded = (inDoubt: boolean) => encodeBatch([commit([put("a")]), commit([put("b")])], { nowMs: null, inDoubt: () => inDoubt });
  const answer = (status: readonly number[], first: string | null = null) => ({ status, first }) as BatchRow;

  for (const status of [[], [0, 0], [1, 0], [2, 5], [4, 1]]) assert.equal(encoded(false).restsOnCommits(answer(status, status.length > 0 ? null : "7")), true);
  assert.equal(encoded(false).restsOnCommits(answer([0, 3])), false, "it was resolved, maybe just now");
  assert.equal(encoded(true).restsOnCommits(answer([0, 1])), false, "the refusal of an id in doubt is written down");
  assert.equal(encoded(true).restsOnCommits(answer([0, 0])), true);
});

/** One call of the batch function: what it applies, what it refuses, and that one commit never harms another (FINDINGS F2, F3, F20). */
import assert from "node:assert/strict";
import { test } from "node:test";
import { Fault } from "trestle/kernel";
import type { CommitOutcome } from "trestle/store";
import { append, bytes, commitOf, enqueue, fixture, newId, put } from "./testing/fixture.ts";

const postgres = await fixture();
const { skip } = postgres;
const ok = (outcome: CommitOutcome) => outcome.ok;

test("[F3] a commit refused on its stream leaves no record, event or job behind", { skip }, async () => {
  const store = await postgres.open();
  await store.commit(commitOf([append("taken", "first")]));

  const outcome = await store.commit(
    commitOf([put("left", "behind"), append("taken", "second"), enqueue("job")], [{ kind: "stream", stream: "taken", version: 0 }]),
  );

  assert.deepEqual(outcome, { ok: false, refused: "conflict", keys: ["taken"] });
  assert.deepEqual(await store.read.records(["left"]), [undefined]);
  assert.equal(await store.read.streamVersion("taken"), 1);
  assert.equal((await (await postgres.session(store.schema)).query("select from job")).rowCount, 0);
  assert.deepEqual(await store.read.head(), { epoch: 1, n: 1, position: 1 });
});

test("[F3] two commits of one batch on one new stream both stand, one after the other", { skip }, async () => {
  const store = await postgres.open();

  const outcomes = await Promise.all([store.commit(commitOf([append("new", "a", "b")])), store.commit(commitOf([append("new", "c")]))]);

  assert.equal(store.stats().batches, 1);
  assert.deepEqual(outcomes, [
    { ok: true, epoch: 1, n: 1 },
    { ok: true, epoch: 1, n: 2 },
  ]);
  const events = await store.read.stream("new", { after: 0, limit: 10 });
  assert.deepEqual(
    events.map((event) => [event.version, event.position, event.commit, String(event.data)]),
    [
      [1, 1, 1, "a"],
      [2, 2, 1, "b"],
      [3, 3, 2, "c"],
    ],
  );
});

test("[F3] of two commits in one batch that expect the same absent record, the first wins and the second leaves nothing", { skip }, async () => {
  const store = await postgres.open();
  const claim = (by: string) => store.commit(commitOf([put("seat", by), append("log", by)], [{ kind: "record", key: "seat", version: 0 }]));

  const outcomes = await Promise.all([claim("ada"), claim("bob")]);

  assert.equal(store.stats().batches, 1);
  assert.deepEqual(outcomes, [
    { ok: true, epoch: 1, n: 1 },
    { ok: false, refused: "conflict", keys: ["seat"] },
  ]);
  assert.equal(String((await store.read.records(["seat"]))[0]?.value), "ada");
  assert.equal(await store.read.streamVersion("log"), 1);
});

test("[F3] [F20] bytes come back as they went in, NUL, lone surrogates, doubled keys and all, and harm nobody in their batch", { skip }, async () => {
  const store = await postgres.open();
  const payloads = ['{"n":"a\\u0000b"}', JSON.stringify({ n: "\ud800" }), "\u0000\u0001", '{"b":1,"a":1.0,"a":2e1}', ""];

  const outcomes = await Promise.all(
    Array.from({ length: 512 }, (_, i) =>
      store.commit(commitOf([put(`key${i}`, payloads[i % 5] as string), append(`stream${i}`, payloads[i % 5] as string), enqueue(payloads[i % 5] as string)])),
    ),
  );

  assert.equal(store.stats().batches, 1);
  assert.equal(outcomes.filter(ok).length, 512);
  const records = await store.read.records(payloads.map((_, i) => `key${i}`));
  assert.deepEqual(
    records.map((record) => String(record?.value)),
    payloads,
  );
  const events = await Promise.all(payloads.map((_, i) => store.read.stream(`stream${i}`, { after: 0, limit: 1 })));
  assert.deepEqual(
    events.map((page) => String(page[0]?.data)),
    payloads,
  );
});

test("[F3] a commit that PostgreSQL itself cannot apply fails alone: the rest of its batch commits under the same ids", { skip }, async () => {
  const store = await postgres.open();
  await store.commit({ id: newId(), expects: [], writes: [{ kind: "put", key: "no-json", value: Uint8Array.of(0xff, 0xfe) }] });
  const commits = Array.from({ length: 64 }, (_, i) =>
    i === 20
      ? commitOf([put("half", "x"), { kind: "merge", key: "no-json", merge: { kind: "add", amount: 1 } }])
      : commitOf([put(`key${i}`, String(i)), append("all", String(i))]),
  );

  const outcomes = await Promise.all(commits.map((commit) => store.commit(commit)));

  assert.deepEqual(
    outcomes.map(ok),
    commits.map((_, i) => i !== 20),
  );
  assert.equal(!outcomes[20]?.ok && outcomes[20]?.refused, "statement");
  assert.deepEqual(await store.read.records(["half"]), [undefined]);
  assert.equal(await store.read.streamVersion("all"), 63);
  assert.deepEqual(await store.commit(commits[3] as never), outcomes[3], "the same id answers its first outcome");
});

for (const [where, poisoned, sendingsMax] of [
  ["first", [0], 17],
  ["last", [255], 17],
  ["in the middle", [100], 17],
  ["twice", [100, 101], 33],
] as const)
  test(`[F3] the one commit of 256 that PostgreSQL cannot apply, ${where}, is found by halves, and the others keep their order`, { skip }, async () => {
    const store = await postgres.open();
    await store.commit({ id: newId(), expects: [], writes: [{ kind: "put", key: "no-json", value: Uint8Array.of(0xff, 0xfe) }] });
    const bad = new Set<number>(poisoned);
    const { batches } = store.stats();

    const outcomes = await Promise.all(
      Array.from({ length: 256 }, (_, i) =>
        store.commit(bad.has(i) ? commitOf([{ kind: "merge", key: "no-json", merge: { kind: "add", amount: 1 } }]) : commitOf([append("all", String(i))])),
      ),
    );

    const sendings = store.stats().batches - batches;
    assert.ok(sendings <= sendingsMax, `${sendings} sendings`);
    outcomes.forEach((outcome, i) => assert.equal(outcome.ok || outcome.refused, bad.has(i) ? "statement" : true));
    const events = await store.read.stream("all", { after: 0, limit: 256 });
    assert.deepEqual(
      events.map((event) => Number(event.data)),
      outcomes.map((_, i) => i).filter((i) => !bad.has(i)),
    );
  });

test("[F3] what PostgreSQL cannot hold as text is a fault of its caller before it reaches a batch", { skip }, async () => {
  const store = await postgres.open();

  const [nul, surrogate, other] = await Promise.allSettled([
    store.commit(commitOf([put("a\u0000b", "1")])),
    store.commit(commitOf([append("a\ud800", "1")])),
    store.commit(commitOf([put("fine", "1")])),
  ]);

  assert.ok(nul.status === "rejected" && Fault.is(nul.reason, "store.key-not-text"));
  assert.ok(surrogate.status === "rejected" && Fault.is(surrogate.reason, "store.key-not-text"));
  assert.ok(other.status === "fulfilled" && other.value.ok);
});

test("[F2] a chain of 100 commits on one record goes into one batch and stands in order", { skip }, async () => {
  const store = await postgres.open();
  let before: number | string = 0;
  const chain = Array.from({ length: 100 }, (_, i) => {
    const commit = commitOf([put("stock", String(i))], [{ kind: "record", key: "stock", version: before }]);
    before = commit.id;
    return commit;
  });

  const outcomes = await Promise.all(chain.map((commit) => store.commit(commit)));

  assert.equal(store.stats().batches, 1);
  assert.deepEqual(
    outcomes,
    chain.map((_, i) => ({ ok: true, epoch: 1, n: i + 1 })),
  );
  assert.deepEqual((await store.read.records(["stock"]))[0], { key: "stock", value: bytes("99"), version: 100, created: 1, expiresAtMs: undefined });
});

test("[F2] a chain falls with the commit it follows, whether in its batch or in a later one", { skip }, async () => {
  const store = await postgres.open();
  await store.commit(commitOf([put("price", "1")]));
  const refused = commitOf([put("stock", "1")], [{ kind: "record", key: "price", version: 0 }]);
  const next = commitOf([put("stock", "2")], [{ kind: "record", key: "stock", version: refused.id }]);
  const afterNext = commitOf([put("stock", "3"), append("s", "x")], [{ kind: "record", key: "stock", version: next.id }]);
  const bystander = commitOf([put("other", "1")]);

  const outcomes = await Promise.all([refused, next, afterNext, bystander].map((commit) => store.commit(commit)));
  const late = await store.commit(commitOf([put("stock", "4")], [{ kind: "record", key: "stock", version: next.id }]));
  const followed = await store.commit(commitOf([put("other", "2")], [{ kind: "record", key: "other", version: bystander.id }]));

  assert.deepEqual(outcomes.map(ok), [false, false, false, true]);
  assert.deepEqual(late, { ok: false, refused: "conflict", keys: ["stock"] });
  assert.equal(followed.ok, true);
  assert.deepEqual(await store.read.records(["stock"]), [undefined]);
});

test("[F2] 300 guarded adds from three processes on one record never pass its end, and nobody else's commit falls", { skip }, async () => {
  const first = await postgres.open();
  const stores = [first, await postgres.open(first.schema), await postgres.open(first.schema)];
  await first.commit(commitOf([{ kind: "merge", key: "stock", merge: { kind: "add", amount: 100 } }]));

  const outcomes = await Promise.all(
    Array.from({ length: 300 }, (_, i) =>
      (stores[i % 3] as typeof first).commit(
        commitOf([{ kind: "merge", key: "stock", merge: { kind: "add", amount: -1, min: 0 } }, append("sold", String(i))]),
      ),
    ),
  );

  assert.equal(outcomes.filter(ok).length, 100);
  for (const outcome of outcomes) if (!outcome.ok) assert.deepEqual(outcome, { ok: false, refused: "guard", key: "stock", value: 0 });
  assert.equal(String((await first.read.records(["stock"]))[0]?.value), "0");
  assert.equal(await first.read.streamVersion("sold"), 100);
});

test("[F2] a guard that refuses takes back everything its commit had staged, on the same keys too", { skip }, async () => {
  const store = await postgres.open();
  await store.commit(commitOf([put("kept", "old"), { kind: "merge", key: "n", merge: { kind: "add", amount: 5 } }, append("s", "1")]));

  const [refused, after] = await Promise.all([
    store.commit(
      commitOf([
        put("kept", "new"),
        put("fresh", "1"),
        { kind: "remove", key: "n" },
        append("s", "2"),
        { kind: "merge", key: "n", merge: { kind: "add", amount: 2 } },
        { kind: "merge", key: "n", merge: { kind: "add", amount: -3, min: 0 } },
      ]),
    ),
    store.commit(
      commitOf(
        [{ kind: "merge", key: "n", merge: { kind: "add", amount: -5, min: 0 } }, append("s", "3")],
        [
          { kind: "stream", stream: "s", version: 1 },
          { kind: "record", key: "kept", version: 1 },
          { kind: "record", key: "fresh", version: 0 },
        ],
      ),
    ),
  ]);

  assert.equal(store.stats().batches, 2);
  assert.deepEqual(refused, { ok: false, refused: "guard", key: "n", value: 2 });
  assert.equal(after.ok, true);
  const [kept, fresh, n] = await store.read.records(["kept", "fresh", "n"]);
  assert.deepEqual([String(kept?.value), kept?.version, fresh, String(n?.value), n?.created], ["old", 1, undefined, "0", 1]);
});

test("[F2] sets merge in the order of their UTF-8 bytes, whatever their members hold", { skip }, async () => {
  const store = await postgres.open();
  const members = ['é\n"\\', "", "\u{1f600}", "\uffff", "b", "\u0001", "a\u007f", "aa"];

  await Promise.all(members.map((member) => store.commit(commitOf([{ kind: "merge", key: "set", merge: { kind: "union", members: [member, "b"] } }]))));
  const unchanged = await store.read.records(["set"]);
  await store.commit(commitOf([{ kind: "merge", key: "set", merge: { kind: "union", members: ["b"] } }]));

  const inOrder = [...members].sort((a, b) => Buffer.compare(bytes(a), bytes(b)));
  assert.equal(String(unchanged[0]?.value), JSON.stringify(inOrder));
  assert.deepEqual(await store.read.records(["set"]), unchanged, "a merge that changes nothing writes nothing");
});

import assert from "node:assert/strict";
import { test } from "node:test";
import { openSqlite } from "../sqlite/index.ts";
import { Fault, seededRandom, uuidv7Ids, virtualClock } from "../kernel/index.ts";
import { followingStore } from "./following.ts";
import type { Commit, Store } from "./index.ts";

const clock = virtualClock();
const ids = uuidv7Ids(clock, seededRandom("following"));
const put = (key: string): Commit => ({ id: ids.next(), expects: [], writes: [{ kind: "put", key, value: Buffer.from(key) }] });
const memory = () => openSqlite({ path: ":memory:", clock });
const moved = () => Fault.create("store.moved", "the store has moved", "Follow.", { details: { url: "new:", epoch: 2 } });

/** A store that answers until it is sealed. */
function sealable(store: Store): Store & { seal(): void } {
  let sealed = false;
  const guarded =
    <A extends unknown[], T>(ask: (...args: A) => Promise<T>) =>
    (...args: A) =>
      sealed ? Promise.reject(moved()) : ask(...args);
  return {
    ...store,
    epoch: store.epoch,
    commit: guarded((commit) => store.commit(commit)),
    resolve: guarded((id) => store.resolve(id)),
    claim: guarded((request) => store.claim(request)),
    seal: () => void (sealed = true),
  };
}

test("what is asked of a store that has moved is asked again where it is, and the new store is opened once", async () => {
  const old = sealable(await memory());
  const next = await memory();
  const opened: string[] = [];
  const store = followingStore(old, { clock, open: (url) => (opened.push(url), Promise.resolve(next)) });
  await store.commit(put("a//1"));
  old.seal();

  const commits = Array.from({ length: 20 }, (_, at) => put(`a//new-${at}`));
  const outcomes = await Promise.all(commits.map((commit) => store.commit(commit)));

  assert.ok(outcomes.every(({ ok }) => ok));
  assert.deepEqual(opened, ["new:"]);
  assert.equal((await next.read.records(["a//new-7"]))[0]?.key, "a//new-7");
  assert.equal((await store.read.records(["a//new-7"]))[0]?.key, "a//new-7");
  assert.deepEqual(await store.read.stream("s//none", { after: 0, limit: 10 }), [], "what takes two arguments gets both");
  await store.close();
});

test("a commit with the user's SQL is decided again where the new store speaks another dialect, unless it was applied before the seal", async () => {
  const old = sealable(await memory());
  const next: Store = { ...(await memory()), dialect: "postgres" };
  const store = followingStore(old, { clock, open: () => Promise.resolve(next) });
  const withSql: Commit = { id: ids.next(), expects: [], writes: [{ kind: "sql", statement: { text: "insert into t values (?)", parameters: [1] } }] };
  const applied = put("a//1");
  await next.commit(applied); // as a move brings it
  old.seal();

  assert.deepEqual(await store.commit(withSql), { ok: false, refused: "conflict", keys: ["insert into t values (?)"] });
  assert.deepEqual(await next.commit(withSql), { ok: false, refused: "resolved" }, "whoever else sends it is refused");
  assert.equal((await store.commit(applied)).ok, true);
  await store.close();
});

test("a move that cannot be followed yet is told to the caller, and tried again by the next one", async () => {
  const old = sealable(await memory());
  let reachable = false;
  const store = followingStore(old, {
    clock,
    async open() {
      if (!reachable) throw Fault.create("store.unreachable", "not yet", "Wait.");
      return memory();
    },
  });
  old.seal();

  await assert.rejects(store.commit(put("a//1")), (fault) => Fault.is(fault, "store.unreachable"));
  reachable = true;

  assert.equal((await store.commit(put("a//1"))).ok, true);
  await store.close();
});

test("listeners hear of the new store, and at once of everything that may wait there", async () => {
  const old = sealable(await memory());
  const next = await memory();
  await next.commit({
    id: ids.next(),
    expects: [],
    writes: [{ kind: "enqueue", job: { id: ids.next(), queue: "work", payload: Buffer.from("1"), priority: 1 } }],
  });
  const store = followingStore(old, { clock, open: () => Promise.resolve(next) });
  const heard: (readonly string[])[] = [];
  const forget = store.onChange(({ queues }) => void heard.push(queues));
  old.seal();

  await store.commit(put("a//1"));
  assert.deepEqual(heard[0], ["work"]);
  const before = heard.length;
  await store.commit({
    id: ids.next(),
    expects: [],
    writes: [{ kind: "enqueue", job: { id: ids.next(), queue: "more", payload: Buffer.from("1"), priority: 1 } }],
  });
  assert.deepEqual(heard.slice(before).flat(), ["more"]);

  forget();
  await store.commit(put("a//2"));
  assert.equal(heard.length, before + 1);
  await store.close();
});

test("a store that was closed does not follow", async () => {
  const old = sealable(await memory());
  const store = followingStore(old, { clock, open: () => Promise.reject(new Error("nobody may open it")) });
  await store.close();
  old.seal();

  await assert.rejects(store.commit(put("a//1")), (fault) => Fault.is(fault, "store.moved"));
});

test("between the last commit of the old store and the opening of the new one, callers wait", async () => {
  const time = virtualClock();
  const old = sealable(await memory());
  const next = await memory();
  let asked = 0;
  const store = followingStore(old, {
    clock: time,
    async open() {
      if (++asked < 4) throw Fault.create("store.receiving", "not yet", "Wait.");
      return next;
    },
  });
  old.seal();

  const outcome = store.commit(put("a//1"));
  await time.advance(1_000);

  assert.equal((await outcome).ok, true);
  assert.equal(asked, 4);
  await store.close();
});

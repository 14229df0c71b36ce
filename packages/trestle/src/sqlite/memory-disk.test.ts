import assert from "node:assert/strict";
import { test } from "node:test";
import { seededRandom, uuidv7Ids, virtualClock } from "../kernel/index.ts";
import type { Commit, Store } from "../store/index.ts";
import { memoryDisks } from "./index.ts";
import { caseTools, runCases } from "./testing/run-cases.ts";

const { MemoryDisk, openOnMemoryDisk } = await memoryDisks();

runCases("disk in memory", 1, () => {
  const { clock, ids } = caseTools();
  const disk = new MemoryDisk();
  const moment = () => new Promise<void>((resolve) => clock.soon(resolve));
  const store = openOnMemoryDisk(disk, { clock, ids, timing: { write: moment, flush: moment } });
  return Promise.resolve({
    subject: { store, clock, ids },
    close: async () => {
      await store.close();
      disk.close();
    },
  });
});

const clock = virtualClock();
const ids = uuidv7Ids(clock, seededRandom("memory disk"));
const put = (key: string): Commit => ({ id: ids.next(), expects: [], writes: [{ kind: "put", key: `t//${key}`, value: Buffer.from(key) }] });
const has = async (store: Store, key: string) => (await store.read.records([`t//${key}`]))[0] !== undefined;

/** A disk that flushes when it is told to. */
function opened(disk = new MemoryDisk()) {
  let flush: (() => void) | undefined;
  const store = openOnMemoryDisk(disk, {
    clock,
    ids,
    timing: { write: () => Promise.resolve(), flush: () => new Promise((resolve) => (flush = resolve)) },
  });
  const written = async () => {
    while (!flush) await new Promise<void>((resolve) => clock.soon(resolve));
    const now = flush;
    flush = undefined;
    return now;
  };
  return { disk, store, written };
}

for (const keeps of [true, false]) {
  test(`what was written and not flushed is ${keeps ? "whole" : "gone"} after a power loss that ${keeps ? "kept" : "lost"} it, and nobody was told`, async () => {
    const { disk, store, written } = opened();
    const first = store.commit(put("first"));
    (await written())();
    await first;
    let told = false;
    void store.commit(put("second")).then(() => (told = true));
    await written();

    disk.losePower(keeps ? 1 : 0);
    const again = opened(disk).store;

    assert.equal(await has(again, "first"), true);
    assert.equal(await has(again, "second"), keeps);
    assert.equal(told, false);
  });
}

test("of several batches that were not flushed a power loss leaves the first ones, whole, and the next batch goes on from there", () => {
  const left = (kept: number): string => {
    const disk = new MemoryDisk();
    const seam = disk.seam();
    disk.db.exec("create table written (n integer)");
    disk.flush();
    const write = (n: number) => {
      seam.begin();
      disk.db.exec(`insert into written values (${n}); insert into written values (${n})`);
    };
    for (const n of [1, 2, 3]) {
      write(n);
      seam.commit();
    }
    write(4);

    disk.losePower(kept);
    write(5);
    seam.commit();
    disk.flush();
    disk.losePower(0);

    return disk.db
      .prepare("select n from written order by n, rowid")
      .all()
      .map(({ n }) => n)
      .join("");
  };

  assert.deepEqual([left(0), left(1), left(2), left(3)], ["55", "1155", "112255", "11223355"]);
});

test("nobody reads what is not flushed", async () => {
  const { store, written } = opened();
  const committed = store.commit(put("one"));
  const flush = await written();
  let read: boolean | undefined;
  const reading = has(store, "one").then((found) => (read = found));
  for (let turns = 0; turns < 5; turns++) await new Promise<void>((resolve) => clock.soon(resolve));
  assert.equal(read, undefined);

  flush();
  await Promise.all([committed, reading]);

  assert.equal(read, true);
});

test("on a full disk a commit leaves nothing and says why, and with room again the next one goes through", async () => {
  const { disk, store, written } = opened();
  disk.full = true;
  const refused = store.commit(put("one")).then(
    () => "taken",
    (fault: { code: string }) => fault.code,
  );
  (await written())();
  assert.equal(await refused, "store.disk-full");
  disk.full = false;

  const taken = store.commit(put("two"));
  (await written())();

  assert.equal((await taken).ok, true);
  assert.deepEqual([await has(store, "one"), await has(store, "two")], [false, true]);
});

test("an image of a disk is the store as it was durable", async () => {
  const { disk, store, written } = opened();
  const committed = store.commit(put("one"));
  (await written())();
  await committed;

  const copy = opened(new MemoryDisk(disk.image())).store;

  assert.equal(await has(copy, "one"), true);
});

test("a disk that is wound back is as it was made, and nothing of it is prepared again: its connection has one authorizer", async () => {
  const made = opened();
  const first = made.store.commit(put("image"));
  (await made.written())();
  await first;
  const disk = new MemoryDisk(made.disk.image());
  let authorizers = 0;
  const { db } = disk;
  const setAuthorizer = db.setAuthorizer.bind(db);
  db.setAuthorizer = (authorizer) => {
    authorizers++;
    setAuthorizer(authorizer);
  };

  for (const world of [1, 2, 3]) {
    const { store, written } = opened(disk);
    const committed = store.commit(put("of a world"));
    (await written())();
    await committed;
    assert.deepEqual([await has(store, "image"), await has(store, "of a world")], [true, true], `world ${world}`);
    assert.ok(disk.rewind());
    assert.deepEqual([await has(store, "image"), await has(store, "of a world")], [true, false], `world ${world}`);
  }

  assert.equal(authorizers, 1);
});

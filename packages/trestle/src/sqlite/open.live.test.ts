import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { chmodSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { Fault, systemClock, systemRandom, uuidv7Ids } from "../kernel/index.ts";
import type { Store, Write } from "../store/index.ts";
import { openSqlite, openSqliteStore, openStore, parseStoreUrl } from "./index.ts";
import { networkFileSystem, refuseNetworkFileSystem } from "./ownership.ts";
import { formatVersion } from "./schema.ts";

const ids = uuidv7Ids(systemClock, systemRandom);
const bytes = (text: string) => new TextEncoder().encode(text);
const put = (key: string, value = "x"): Write => ({ kind: "put", key, value: bytes(value) });
const commit = (store: Store, ...writes: Write[]) => store.commit({ id: ids.next(), expects: [], writes });

async function inDirectory(work: (directory: string) => Promise<void>): Promise<void> {
  const directory = mkdtempSync(join(tmpdir(), "trestle-open-"));
  try {
    await work(directory);
  } finally {
    rmSync(directory, { recursive: true });
  }
}
const faults = (code: `${string}.${string}`, attempt: Promise<unknown>, ...words: string[]) =>
  assert.rejects(attempt, (thrown) => {
    assert.ok(Fault.is(thrown, code), `expected ${code}, got ${String(thrown)} ${(thrown as { code?: string }).code}`);
    for (const word of words) assert.ok(thrown.message.includes(word), `${thrown.message} names ${word}`);
    return true;
  });

test("a store is there again after it was closed, with its log folded into the file and no lock left", () =>
  inDirectory(async (directory) => {
    const path = join(directory, "store.db");
    const first = await openSqlite({ path });
    await commit(first, put("a//1"));
    await first.close();
    assert.deepEqual(
      readdirSync(directory).filter((name) => !name.endsWith("-lock")),
      ["store.db"],
    );

    const second = await openSqlite({ path });

    assert.equal((await second.read.records(["a//1"]))[0]?.version, 1);
    assert.equal(second.epoch, 1);
    await second.close();
    await second.close();
  }));

test("a second process shares the file, and goes on as its writer when the first is killed", () =>
  inDirectory(async (directory) => {
    const path = join(directory, "store.db");
    const child = spawn(process.execPath, [fileURLToPath(new URL("./testing/holder.ts", import.meta.url)), path], { stdio: ["ignore", "pipe", "inherit"] });
    const said = new Promise<string>((resolve) => child.stdout.once("data", (chunk: Buffer) => resolve(chunk.toString().trim())));
    const gone = new Promise<void>((resolve) => child.once("close", () => resolve()));
    assert.equal(await said, "open");

    const store = await openSqlite({ path });
    assert.equal((await commit(store, put("a//1"))).ok, true);
    child.kill("SIGKILL");
    await gone;

    assert.equal((await commit(store, put("a//2"))).ok, true);
    assert.equal((await store.read.head()).n, 2);
    await store.close();
  }));

test("one process may open a file many times, by any name of it: they share one writer, and the last one closes it", () =>
  inDirectory(async (directory) => {
    const path = join(directory, "store.db");
    const [a, b] = await Promise.all([openSqlite({ path }), openSqlite({ path })]);
    symlinkSync(path, join(directory, "alias.db"));
    const c = await openSqlite({ path: join(directory, "alias.db") });
    await faults("store.open-differs", openSqlite({ path, durability: "normal" }), "full", "normal");

    const heard: string[] = [];
    b.onChange(({ keys }) => void heard.push(...keys));
    await Promise.all([commit(a, put("a//1")), commit(c, put("c//1"))]);
    await a.close();
    await a.close();
    await commit(b, put("b//1"));
    assert.deepEqual(heard.sort(), ["a//1", "b//1", "c//1"]);

    const reopened = Promise.all([c.close(), b.close()]).then(() => undefined);
    const d = await openSqlite({ path });
    await reopened;
    assert.equal((await d.read.records(["a//1", "b//1", "c//1"])).filter(Boolean).length, 3);
    await d.close();
    await faults("store.closed", commit(a, put("late//1")));
  }));

test("what cannot be a store is refused by name, and left as it was", () =>
  inDirectory(async (directory) => {
    const file = (name: string) => join(directory, name);
    writeFileSync(file("text.db"), "this is a letter to my mother, and no database");
    await faults("store.corrupt", openSqlite({ path: file("text.db") }), "text.db");
    assert.deepEqual([readFileSync(file("text.db"), "utf8").length, readdirSync(directory)], [46, ["text.db"]]);

    const other = new DatabaseSync(file("other.db"));
    other.exec("pragma application_id = 42; create table mine (a)");
    other.close();
    await faults("store.not-a-store", openSqlite({ path: file("other.db") }), "42");

    await (await openSqlite({ path: file("newer.db") })).close();
    const newer = new DatabaseSync(file("newer.db"));
    newer.exec(`pragma user_version = ${formatVersion + 1}`);
    newer.close();
    await faults("store.newer-format", openSqlite({ path: file("newer.db") }), String(formatVersion + 1));

    const good = await openSqlite({ path: file("cut.db") });
    await commit(good, put("a//1"));
    await good.close();
    const whole = readFileSync(file("cut.db"));
    writeFileSync(file("cut.db"), Buffer.concat([whole.subarray(0, 4096), Buffer.alloc(whole.length - 4096, 7)]));
    await faults("store.corrupt", openSqlite({ path: file("cut.db") }));

    // It can be opened again: no lock is left behind by a refusal.
    writeFileSync(file("cut.db"), whole);
    await (await openSqlite({ path: file("cut.db") })).close();
  }));

test("a directory that is missing, or that nothing can be written to, is named", async () => {
  await faults("store.not-writable", openSqlite({ path: join(tmpdir(), "trestle-nowhere", "store.db") }), "trestle-nowhere");
  await faults("store.not-writable", openSqlite({ path: "/proc/store.db" }));
});

test("a directory or a file this user may only read is refused", { skip: process.getuid?.() === 0 ? "root may write everywhere" : false }, () =>
  inDirectory(async (directory) => {
    const path = join(directory, "store.db");
    await (await openSqlite({ path })).close();
    chmodSync(path, 0o400);
    await faults("store.not-writable", openSqlite({ path }));
    chmodSync(path, 0o600);
    chmodSync(directory, 0o500);
    await faults("store.not-writable", openSqlite({ path: join(directory, "other.db") }));
    chmodSync(directory, 0o700);
  }),
);

test("a user's own database file may become a store: its tables stay, and can be used in commits", () =>
  inDirectory(async (directory) => {
    const path = join(directory, "mine.db");
    const mine = new DatabaseSync(path);
    mine.exec("create table mine (a); insert into mine values (1)");
    mine.close();

    const store = await openSqlite({ path });

    assert.equal((await commit(store, { kind: "sql", statement: { text: "insert into mine values (2)", parameters: [] } })).ok, true);
    assert.deepEqual((await store.read.rows({ text: "select a from mine", parameters: [] })).length, 2);
    await store.close();
  }));

test("network file systems are known by their type, and refused by name", () => {
  assert.deepEqual([0x6969, 0xff53_4d42, 0xfe53_4d42 | 0, 0x517b, 0x0102_1997].map(networkFileSystem), ["NFS", "CIFS", "SMB2", "SMB", "9P"]);
  assert.deepEqual(
    [0xef53, 0x9123_683e, 0x5846_5342, 0x0102_1994].map(networkFileSystem),
    [undefined, undefined, undefined, undefined],
    "ext4, btrfs, xfs, tmpfs",
  );

  assert.throws(
    () => refuseNetworkFileSystem("/mnt/share/store.db", () => 0x6969),
    (thrown) => Fault.is(thrown, "store.network-file-system") && thrown.message.includes("NFS"),
  );
  refuseNetworkFileSystem("/srv/store.db", () => 0xef53);
});

test("[F11] durability settings are read back at every open", () =>
  inDirectory(async (directory) => {
    const { openForWriting } = await import("./connection.ts");
    for (const [durability, synchronous] of [
      ["full", 2],
      ["normal", 1],
      ["full", 2],
    ] as const) {
      const db = openForWriting(join(directory, "store.db"), durability);
      const pragma = (name: string) => Object.values(db.prepare(`pragma ${name}`).get() ?? {})[0];
      assert.deepEqual(
        [pragma("journal_mode"), pragma("synchronous"), pragma("fullfsync"), pragma("busy_timeout"), pragma("foreign_keys")],
        ["wal", synchronous, 1, 0, 1],
      );
      db.close();
    }
  }));

test("URLs name a store in memory or in a file; what they do not know is a fault", async () => {
  assert.deepEqual(parseStoreUrl("memory:"), { path: ":memory:", durability: "full" });
  assert.deepEqual(parseStoreUrl("sqlite:./x.db?synchronous=normal"), { path: "./x.db", durability: "normal" });
  assert.deepEqual(parseStoreUrl("sqlite:///var/lib/x.db"), { path: "/var/lib/x.db", durability: "full" });
  for (const url of ["", "postgres://x", "sqlite:", "sqlite:x.db?sync=full", "sqlite:x.db?synchronous=off", "x.db"])
    await faults(
      "store.url-unknown",
      Promise.resolve().then(() => openStore(url)),
      JSON.stringify(url),
    );
});

test("[F10] a backup made under load opens as a store of its own, in a new epoch, with whole commits", () =>
  inDirectory(async (directory) => {
    const store = await openSqlite({ path: join(directory, "store.db") });
    for (let i = 0; i < 40; i++)
      await Promise.all(
        Array.from({ length: 50 }, (_, j) =>
          commit(store, put(`a//${i}-${j}`, "x".repeat(500)), {
            kind: "append",
            stream: `s//${i}-${j}`,
            events: [{ id: ids.next(), type: "T", data: bytes("") }],
          }),
        ),
      );
    let stop = false;
    let beside = 0;
    const load = (async () => {
      for (; !stop; beside++)
        await commit(store, put(`b//${beside}`), { kind: "append", stream: `t//${beside}`, events: [{ id: ids.next(), type: "T", data: bytes("") }] });
    })();

    await store.backup(join(directory, "backup.db"));
    stop = true;
    await load;
    await faults("store.backup-exists", store.backup(join(directory, "backup.db")));

    const copy = await openSqlite({ path: join(directory, "backup.db") });
    assert.deepEqual([store.epoch, copy.epoch], [1, 2]);
    assert.equal((await copy.read.list({ prefix: "a//", order: "key", limit: 1_000 })).length, 1_000);
    const pairs = await Promise.all(
      (await copy.read.list({ prefix: "b//", order: "key", limit: 1_000 })).map(({ key }) => copy.read.streamVersion(key.replace("b//", "t//"))),
    );
    assert.deepEqual(
      pairs,
      pairs.map(() => 1),
    );
    await faults("log.diverged", copy.read.log({ after: { epoch: 1, position: 1 }, limit: 1 }));
    assert.equal((await commit(copy, put("c//1"))).ok, true);
    await copy.close();
    const again = await openSqlite({ path: join(directory, "backup.db") });
    assert.equal(again.epoch, 2, "the epoch changes once");
    await again.close();
    await store.close();
    assert.ok(!existsSync(join(directory, "backup.db-wal")));
  }));

test("what waits when a store closes is applied first; what comes later is refused", () =>
  inDirectory(async (directory) => {
    const store = await openSqlite({ path: join(directory, "store.db") });
    const waiting = Array.from({ length: 2_000 }, (_, i) => commit(store, put(`a//${i}`)));

    const closed = store.close();
    await faults("store.closed", commit(store, put("late//1")));
    await faults(
      "store.closed",
      store.transaction(async () => ({ result: 0 })),
    );
    await closed;

    assert.equal((await Promise.all(waiting)).filter(({ ok }) => ok).length, 2_000);
    const again = await openSqliteStore({ path: join(directory, "store.db") });
    assert.equal((await again.read.head()).n, 2_000);
    await again.close();
  }));

test("[F20] more than 10,000 commits that wait are refused at once, and those that wait are applied", async () => {
  const store = await openSqlite({ path: ":memory:" });

  const results = await Promise.allSettled(Array.from({ length: 10_050 }, (_, i) => commit(store, put(`a//${i}`))));

  assert.deepEqual(
    results.map(({ status }) => status === "fulfilled"),
    results.map((_, i) => i < 10_000),
  );
  const refused = results[10_000] as PromiseRejectedResult;
  assert.ok(Fault.is(refused.reason, "store.overloaded") && typeof refused.reason.details["retryAfterMs"] === "number");
  assert.equal(store.stats().waiting, 0);
  await store.close();
});

/** Several processes on one file: what they see of each other, and what becomes of it when one ends, however it ends (FINDINGS F18, F19). */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { copyFileSync, existsSync, mkdirSync, mkdtempSync, rmSync, statSync } from "node:fs";
import { createConnection, createServer } from "node:net";
import { tmpdir } from "node:os";
import { basename, dirname, join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { test } from "node:test";
import { sleep, systemClock, systemRandom, uuidv7Ids } from "../kernel/index.ts";
import type { Change } from "../store/index.ts";
import { openForWriting } from "./connection.ts";
import { frameOf } from "./frames.ts";
import { openSqlite } from "./index.ts";
import { wireVersion } from "./questions.ts";
import { beginTerm } from "./ownership.ts";
import { checkLedger, eventually, inside, startMember, withFleet, withStore, type Fleet, type MemberProcess } from "./testing/fleet.ts";
import { readTerm } from "./term.ts";
import { readNote, withSocket, writeNote } from "./writer-note.ts";

const ids = uuidv7Ids(systemClock, systemRandom);
const bytes = (text: string) => new TextEncoder().encode(text);
const pause = (ms: number) => sleep(systemClock, ms);
const refuses = (code: string, attempt: Promise<unknown>) => assert.rejects(attempt, (thrown) => (thrown as { code?: string }).code === code);

async function inDirectory(work: (path: string) => Promise<void>): Promise<void> {
  const directory = mkdtempSync(join(tmpdir(), "trestle-processes-"));
  try {
    await work(join(directory, "store.db"));
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

test("a process reads what it was told is durable, whoever wrote it, and hears of what the others change", () =>
  withFleet(3, async (fleet) => {
    const [a, b] = fleet.others() as [MemberProcess, MemberProcess];
    for (let i = 0; i < 50; i++) {
      assert.equal(await a.ask({ do: "commit", name: `n${i}` }), "applied");
      assert.equal(typeof (await a.ask({ do: "read", key: `r//n${i}` })), "number");
    }
    for (const member of fleet.members)
      await eventually("everybody heard", async () => {
        const heard = new Set(await member.ask<string[]>({ do: "heard", since: 0 }));
        return heard.has("r//n49") && heard.has("s//n49") && heard.has("queue ledger");
      });
    assert.equal(typeof (await b.ask({ do: "read", key: "r//n49" })), "number");
  }));

test("migrations, transactions, backup and closing work from a process that does not write", () =>
  withFleet(2, async (fleet) => {
    const [other] = fleet.others() as [MemberProcess];
    await other.ask({ do: "migrate", component: "t", text: "create table t (x)" });
    assert.equal(await other.ask({ do: "transaction", name: "one", holdMs: 0, withinMs: 250, commits: true }), "ended");
    await other.ask({ do: "backup", to: `${fleet.path}.copy` });
    const copy = await openSqlite({ path: `${fleet.path}.copy` });
    assert.equal((await copy.read.records(["r//one"])).filter(Boolean).length, 1);
    assert.deepEqual(
      (await copy.read.rows({ text: "select x from t", parameters: [] })).map((row) => row["x"]),
      ["one"],
    );
    await copy.close();
    assert.equal(await other.ask({ do: "close" }), "closed");
    assert.equal(await fleet.writer().ask({ do: "commit", name: "after" }), "applied");
  }));

test("[F19] a transaction of another process that stalls is rolled back after its limit, one whose process dies at once", () =>
  withFleet(3, async (fleet) => {
    const [a, b] = fleet.others() as [MemberProcess, MemberProcess];
    await a.ask({ do: "migrate", component: "t", text: "create table t (x)" });
    const stalled = a.ask({ do: "transaction", name: "stalled", holdMs: 5_000, withinMs: 300, commits: false });
    await Promise.all([inside(a, "stalled"), refuses("transaction.overran", stalled)]);
    const startedAt = performance.now();
    assert.equal(await b.ask({ do: "commit", name: "behind" }), "applied");
    assert.ok(performance.now() - startedAt < 1_000);

    void a.ask({ do: "transaction", name: "dies", holdMs: 60_000, withinMs: 60_000, commits: false }).catch(() => undefined);
    await inside(a, "dies");
    const waiting = b.ask({ do: "commit", name: "waits" });
    a.signal("SIGKILL");
    const killedAt = performance.now();
    assert.equal(await waiting, "applied");
    assert.ok(performance.now() - killedAt < 1_000, `it took ${performance.now() - killedAt} ms`);
    const rows = await withStore(fleet, (store) => store.read.rows({ text: "select x from t", parameters: [] }));
    assert.deepEqual(rows, []);
  }));

test("[F4] a handler that keeps the writing process busy stalls nobody else's commits", () =>
  withFleet(2, async (fleet) => {
    const [other] = fleet.others() as [MemberProcess];
    const busy = fleet.writer().ask({ do: "block", ms: 1_500 });
    await pause(50);
    let slowestMs = 0;
    for (let i = 0; i < 100; i++) {
      const startedAt = performance.now();
      assert.equal(await other.ask({ do: "commit", name: `n${i}` }), "applied");
      slowestMs = Math.max(slowestMs, performance.now() - startedAt);
    }
    assert.ok(slowestMs < 500, `the slowest commit took ${slowestMs.toFixed(0)} ms`);
    await busy;
  }));

test("jobs of a process that ends are free at once under a higher fence; those of the others are kept, over a change of the writer", () =>
  withFleet(3, async (fleet) => {
    const first = fleet.writer();
    const [a, b] = fleet.others() as [MemberProcess, MemberProcess];
    for (const name of ["one", "two", "three"]) await a.ask({ do: "commit", name });
    type Claimed = { name: string; fence: number }[];
    const ofA = await a.ask<Claimed>({ do: "claim", queue: "ledger", limit: 1, leaseMs: 60_000 });
    const ofFirst = await first.ask<Claimed>({ do: "claim", queue: "ledger", limit: 1, leaseMs: 60_000 });
    assert.deepEqual([ofA[0]?.name, ofFirst[0]?.name], ["one", "two"]);

    first.signal("SIGKILL");
    await first.gone;
    let again: Claimed = [];
    await eventually("the job of the dead writer is free", async () =>
      (again = [...again, ...(await b.ask<Claimed>({ do: "claim", queue: "ledger", limit: 3, leaseMs: 60_000 }))]).some(({ name }) => name === "two"),
    );
    assert.deepEqual(again.map(({ name }) => name).sort(), ["three", "two"], "and that of a living process is not");
    assert.ok((again.find(({ name }) => name === "two")?.fence as number) > (ofFirst[0]?.fence as number));
    await pause(1_200); // longer than a new writer waits for those who do not come back
    assert.deepEqual(await a.ask({ do: "extend" }), [true]);
    assert.deepEqual(await a.ask({ do: "finish" }), ["applied"]);

    await b.ask({ do: "close" });
    const freed: Claimed = [];
    await eventually(
      "the jobs of a process that closes are free",
      async () => (freed.push(...(await a.ask<Claimed>({ do: "claim", queue: "ledger", limit: 3, leaseMs: 60_000 }))), freed.length >= 1),
    );
  }));

test("[F4] claims of a blocked event loop are kept in whatever process it is, over a change of the writer", () =>
  withFleet(2, async (fleet) => {
    const [blocked] = fleet.others() as [MemberProcess];
    const third = await fleet.start();
    for (const name of ["one", "two"]) await blocked.ask({ do: "commit", name });
    await blocked.ask({ do: "heartbeat", leaseMs: 1_500 });
    assert.equal((await blocked.ask<unknown[]>({ do: "claim", queue: "ledger", limit: 1, leaseMs: 1_500 })).length, 1);

    const free = blocked.ask({ do: "block", ms: 6_000 });
    await pause(2_500);
    fleet.writer().signal("SIGKILL");
    await eventually("another process writes", async () => (await third.ask({ do: "commit", name: "three" })) === "applied");
    await pause(2_500);
    const others = await third.ask<{ name: string }[]>({ do: "claim", queue: "ledger", limit: 9, leaseMs: 60_000 });
    assert.deepEqual(
      others.map(({ name }) => name),
      ["two", "three"],
    );
    await free;
    assert.deepEqual(await blocked.ask({ do: "extend" }), [true]);
  }));

/** Each round of a stop is seconds of waiting for those who look on: five fleets wait at the same time. */
async function withFiveFleets(work: (fleet: Fleet) => Promise<void>): Promise<void> {
  const ends = await Promise.allSettled(Array.from({ length: 5 }, () => withFleet(3, work)));
  for (const end of ends) if (end.status === "rejected") throw end.reason;
}

/** Stops the process where it holds no lock on the file: a writer also has transactions of its own, to tidy up. */
async function stopOutside(path: string, member: MemberProcess): Promise<void> {
  await eventually("it stops outside a transaction", async () => {
    member.signal("SIGSTOP");
    await pause(10);
    const db = new DatabaseSync(path, { timeout: 0 });
    try {
      db.exec("begin immediate; rollback");
      return true;
    } catch {
      member.signal("SIGCONT");
      return false;
    } finally {
      db.close();
    }
  });
}

test("[F18] SIGSTOP of the writer 25 times outside a transaction: another one writes, and the stopped one's next batch is refused and goes to it", async () => {
  const tookMs: number[] = [];
  await withFiveFleets(async (fleet) => {
    for (let round = 0; round < 5; round++) {
      const stopped = fleet.writer();
      const [a, b] = fleet.others() as [MemberProcess, MemberProcess];
      await stopOutside(fleet.path, stopped);
      const startedAt = performance.now();
      const answers = await Promise.all([a.ask({ do: "commit", name: `a${round}` }), b.ask({ do: "commit", name: `b${round}` })]);
      tookMs.push(performance.now() - startedAt);
      assert.deepEqual(answers, ["applied", "applied"]);
      assert.notEqual(fleet.writer().pid, stopped.pid);
      // It is told to commit while it sleeps, so that this is the first thing it does.
      const late = stopped.ask({ do: "commit", name: `late${round}` });
      stopped.signal("SIGCONT");
      assert.equal(await late, "applied");
      for (const prefix of ["a", "b", "late"]) fleet.note(`${prefix}${round}`);
    }
    const counts = await withStore(fleet, (store) => checkLedger(store, fleet.told));
    assert.equal(counts.applied, 15);
  });
  assert.equal(tookMs.length, 25);
  tookMs.sort((x, y) => x - y);
  process.stderr.write(
    `25 writers stopped outside a transaction: superseded after ${tookMs[12]?.toFixed(0)} ms (median), ${tookMs[24]?.toFixed(0)} ms (worst)\n`,
  );
});

test("[F18] SIGSTOP of the writer 25 times inside a transaction: the fleet says who has stopped, and goes on when it does, or is killed", async () => {
  let stops = 0;
  await withFiveFleets(async (fleet) => {
    await fleet.writer().ask({ do: "migrate", component: "t", text: "create table t (x)" });
    const kept: string[] = [];
    for (let round = 0; round < 5; round++) {
      const stopped = fleet.writer();
      const [a, b] = fleet.others() as [MemberProcess, MemberProcess];
      const transaction = stopped.ask({ do: "transaction", name: `t${round}`, holdMs: 500, withinMs: 60_000, commits: true });
      transaction.catch(() => undefined);
      await inside(stopped, `t${round}`);
      stopped.signal("SIGSTOP");
      stops++;
      await assert.rejects(a.ask({ do: "commit", name: `refused${round}` }), (thrown) => {
        const { code, message, details } = thrown as { code?: string; message: string; details?: { pid?: number } };
        assert.deepEqual([code, details?.pid], ["store.writer-stopped", stopped.pid], message);
        return true;
      });
      const refusedAt = performance.now();
      await refuses("store.writer-stopped", a.ask({ do: "commit", name: `at-once${round}` }));
      assert.ok(performance.now() - refusedAt < 500, "once that is known, callers hear it at once");
      const killed = round === 2; // and those that are left go on
      stopped.signal(killed ? "SIGKILL" : "SIGCONT");
      if (killed) {
        await refuses("gone", transaction);
        await stopped.gone;
        await fleet.start();
      } else {
        assert.equal(await transaction, "ended");
        kept.push(`t${round}`);
      }
      await eventually("the fleet goes on", () =>
        b.ask({ do: "commit", name: `b${round}` }).then(
          () => true,
          () => false,
        ),
      );
      fleet.note(`b${round}`);
    }
    await withStore(fleet, async (store) => {
      await checkLedger(store, fleet.told);
      const rows = (await store.read.rows({ text: "select x from t order by rowid", parameters: [] })).map((row) => row["x"]);
      assert.deepEqual(rows, kept, "transactions that went on are there, those of the killed are not");
      assert.equal((await store.read.records(kept.map((name) => `r//${name}`))).filter(Boolean).length, kept.length);
    });
  });
  assert.equal(stops, 25);
});

test("[F18] a writer that stops in its first milliseconds, before it has written its note, is superseded", () =>
  inDirectory(async (path) => {
    const before = await openSqlite({ path });
    await before.commit({ id: ids.next(), expects: [], writes: [{ kind: "put", key: "r//1", value: bytes("x") }] });
    const note = readNote(path);
    await before.close();
    assert.ok(note);
    writeNote(path, note); // of one that was killed
    const db = openForWriting(path, "full");
    const stopped = beginTerm(db, path);
    assert.equal(stopped?.term, note.term + 1);

    const store = await openSqlite({ path });

    assert.equal(readNote(path)?.term, note.term + 2);
    assert.ok((await store.read.records(["r//1"]))[0]);
    await store.close();
    db.close();
    stopped.ownership.release();
  }));

test("[F6] who was asked to commit and died, with nobody able to follow: the caller hears that nobody knows, not that nothing happened", () =>
  inDirectory(async (path) => {
    const writer = await startMember(path);
    const note = readNote(path) as { socket: string };
    let swallows = false;
    const between = createServer((near) => {
      const far = createConnection(note.socket);
      near.pipe(far).on("data", (chunk: Buffer) => void (swallows || near.write(chunk)));
      for (const [one, other] of [
        [near, far],
        [far, near],
      ] as const)
        one.on("error", () => undefined).on("close", () => other.destroy());
    });
    const socket = `${path}.between`;
    await new Promise<void>((resolve) => between.listen(socket, resolve));
    writeNote(path, { ...(readNote(path) as NonNullable<ReturnType<typeof readNote>>), socket });
    const store = await openSqlite({ path });
    swallows = true;
    const late = store.commit({ id: ids.next(), expects: [], writes: [{ kind: "put", key: "r//late", value: bytes("x") }] });
    late.catch(() => undefined);
    await pause(200);
    const other = new DatabaseSync(path, { timeout: 5_000 });
    other.exec("begin immediate"); // another program, which keeps everybody from writing
    writer.signal("SIGKILL");
    between.close();

    await refuses("commit.unknown", late);

    other.exec("rollback");
    other.close();
    assert.ok((await store.read.records(["r//late"]))[0], "it was applied");
    await store.close();
  }));

test("processes that start at once on a file that is not there elect one writer, and all of them commit", async () => {
  for (let round = 0; round < 5; round++)
    await inDirectory(async (path) => {
      const members = await Promise.all(Array.from({ length: 6 }, () => startMember(path)));
      const answers = await Promise.all(members.map((member, i) => member.ask({ do: "commit", name: `n${i}` })));
      assert.deepEqual(answers, Array(6).fill("applied"));
      const store = await openSqlite({ path });
      assert.equal((await store.read.head()).n, 6);
      assert.deepEqual([readNote(path)?.term, store.epoch], [1, 1]);
      await store.close();
      for (const member of members) member.signal("SIGKILL");
      await Promise.all(members.map(({ gone }) => gone));
    });
});

test("what a killed writer left behind keeps nobody out: its socket, its note, its process id in somebody else's hands, its claims", () =>
  inDirectory(async (path) => {
    const member = await startMember(path);
    await member.ask({ do: "commit", name: "one" });
    await member.ask({ do: "claim", queue: "ledger", limit: 1, leaseMs: 60_000 });
    member.signal("SIGKILL");
    await member.gone;
    const note = readNote(path);
    assert.ok(note?.socket !== undefined && existsSync(note.socket), "it was left behind");
    writeNote(path, { ...note, pid: process.ppid });

    const startedAt = performance.now();
    const store = await openSqlite({ path });

    assert.ok(performance.now() - startedAt < 5_000);
    const claim = () => store.claim({ holder: "h", leaseMs: 1_000, queues: [{ queue: "ledger", limit: 1 }] });
    await eventually("its job is free", async () => (await claim()).jobs.length === 1);
    await store.close();
    assert.equal(existsSync(`${path}-writer`), false);
  }));

test("the note and the socket are for this user only; the socket lies beside the file, and where its name would be too long, in a directory for temporary files", () =>
  inDirectory(async (path) => {
    const store = await openSqlite({ path });
    const note = readNote(path);
    assert.ok(note?.socket !== undefined && note.secret?.length === 64);
    assert.deepEqual([note.socket, statSync(note.socket).mode & 0o777], [`${path}-socket.${note.term}`, 0o600]);
    assert.equal(statSync(`${path}-writer`).mode & 0o777, 0o600);
    await store.close();
    assert.equal(existsSync(note.socket), false);

    const folder = join(dirname(path), "x".repeat(90));
    mkdirSync(folder);
    const far = await openSqlite({ path: join(folder, "store.db") });
    const socket = readNote(join(folder, "store.db"))?.socket as string;
    assert.match(socket, /trestle-\d+\/[0-9a-f]{20}\.1$/);
    assert.equal(statSync(dirname(socket)).mode & 0o777, 0o700);
    await far.close();
    const { opened } = await withSocket(join(folder, "store.db"), 7, (name) => Promise.resolve(name), join(tmpdir(), "x".repeat(90)));
    assert.match(opened, /^\/tmp\/trestle-\d+\/[0-9a-f]{20}\.7$/);
  }));

test("processes that have a directory for temporary files each, and come to the file by paths of their own, share it", () =>
  inDirectory(async (path) => {
    const own = (name: string) => {
      mkdirSync(join(dirname(path), name));
      return { env: { TMPDIR: join(dirname(path), name) } };
    };
    const writer = await startMember(path, undefined, own("a"));
    const other = await startMember(path, undefined, own("b"));
    const note = readNote(path);

    assert.deepEqual([await other.ask({ do: "commit", name: "one" }), await writer.ask({ do: "commit", name: "two" })], ["applied", "applied"]);

    assert.deepEqual([readNote(path)?.pid, readNote(path)?.term], [writer.pid, note?.term]);
    // As a container sees it that has the volume somewhere else.
    assert.ok(note?.socket !== undefined);
    const elsewhere = join(dirname(path), "elsewhere");
    mkdirSync(elsewhere);
    copyFileSync(`${path}-writer`, join(elsewhere, "store.db-writer"));
    assert.equal(readNote(join(elsewhere, "store.db"))?.socket, join(elsewhere, basename(note.socket)));
    for (const member of [writer, other]) member.signal("SIGKILL");
    await Promise.all([writer.gone, other.gone]);
  }));

test("a held lock whose socket is not to be seen is no stopped writer: who comes hears of it, and the writer goes on", () =>
  inDirectory(async (path) => {
    const writer = await startMember(path);
    const note = readNote(path);
    assert.ok(note);
    writeNote(path, { ...note, socket: `${path}.elsewhere` });

    await assert.rejects(openSqlite({ path }), (thrown) => {
      const { code, message, details } = thrown as { code?: string; message: string; details?: { pid?: number; socket?: string } };
      assert.deepEqual([code, details?.pid, details?.socket], ["store.in-use", writer.pid, `${path}.elsewhere`], message);
      return true;
    });

    assert.equal(await writer.ask({ do: "commit", name: "one" }), "applied");
    const db = new DatabaseSync(path, { readOnly: true });
    assert.equal(readTerm(db), note.term, "nobody ended its term");
    db.close();
    writer.signal("SIGKILL");
    await writer.gone;
  }));

test("a living writer whose socket's name was removed has it again, time after time, and goes on as the writer", () =>
  inDirectory(async (path) => {
    const writer = await startMember(path);
    const note = readNote(path);
    assert.ok(note?.socket !== undefined);
    for (let round = 0; round < 3; round++) {
      rmSync(note.socket);
      const other = await startMember(path);
      assert.equal(await other.ask({ do: "commit", name: `n${round}` }), "applied");
      assert.deepEqual(readNote(path), note);
      other.signal("SIGKILL");
      await other.gone;
    }
    assert.equal(await writer.ask({ do: "close" }), "closed");
    assert.equal(existsSync(note.socket), false);
    writer.signal("SIGKILL");
    await writer.gone;
  }));

const namespaces = ["unshare", "--pid", "--fork", "--kill-child"] as const;
const canUnshare = spawnSync(namespaces[0], [...namespaces.slice(1), "true"]).status === 0;

test(
  "claims of a process that lives are kept by a writer in another pid namespace, which knows nobody by its process id",
  { skip: canUnshare ? false : "no right to make a pid namespace (unshare)" },
  () =>
    inDirectory(async (path) => {
      const first = await startMember(path);
      const holder = await startMember(path);
      const contained = await startMember(path, undefined, { through: namespaces });
      await holder.ask({ do: "commit", name: "one" });
      assert.equal((await holder.ask<unknown[]>({ do: "claim", queue: "ledger", limit: 1, leaseMs: 60_000 })).length, 1);
      holder.signal("SIGSTOP"); // so that it is the contained one who follows
      first.signal("SIGKILL");
      await eventually("the contained process writes", () => readNote(path)?.pid === 1);
      holder.signal("SIGCONT");

      assert.equal(await contained.ask({ do: "commit", name: "two" }), "applied");
      assert.deepEqual(await holder.ask({ do: "extend" }), [true]);

      for (const member of [holder, contained]) member.signal("SIGKILL");
      await Promise.all([holder.gone, contained.gone, first.gone]);
    }),
);

test("what strangers send to the socket does no harm: garbage, half frames, huge lengths, silence, a wrong secret", () =>
  inDirectory(async (path) => {
    const store = await openSqlite({ path });
    const note = readNote(path) as { socket: string; secret: string };
    const secret = Buffer.from(note.secret, "hex");
    const hello = frameOf({ hello: wireVersion, session: "1.x", durability: "full", listens: true }) as Buffer;
    const length = (value: number) => {
      const head = Buffer.alloc(4);
      head.writeUInt32BE(value);
      return head;
    };
    const random = Buffer.from(Uint8Array.from({ length: 5_000 }, () => systemRandom.uint32() & 255));
    const tries: readonly (readonly [what: string, sent: readonly Buffer[]])[] = [
      ["garbage", [random]],
      ["a wrong secret", [Buffer.alloc(32, 1), hello]],
      ["garbage after the secret", [secret, random]],
      ["a huge length", [secret, length(0xffff_fff0), Buffer.alloc(100)]],
      ["an empty frame", [secret, length(0)]],
      ["a hello of another version", [secret, frameOf({ hello: 99, session: "1.y", durability: "full" }) as Buffer]],
      ["no hello", [secret, frameOf("what") as Buffer]],
      ["null", [secret, frameOf(null) as Buffer]],
      ["a question that is none", [secret, hello, frameOf({ ask: "apply", packed: { text: "", bytes: Float64Array.of(2, 3, 0).buffer }, nowMs: 0 }) as Buffer]],
      ["an unknown question", [secret, hello, frameOf({ ask: "format the disk" }) as Buffer]],
      ["half a frame, and gone", [secret, hello, length(1_000), Buffer.alloc(10)]],
    ];
    const before = process.memoryUsage.rss();
    for (const [what, sent] of tries) {
      const socket = createConnection(note.socket);
      socket.on("error", () => undefined);
      const closed = new Promise<void>((resolve) => socket.once("close", () => resolve()));
      socket.resume();
      for (const part of sent) socket.write(part);
      if (what.startsWith("half") || what.startsWith("an unknown") || what.startsWith("an empty")) {
        await pause(50);
        socket.destroy();
      }
      await Promise.race([closed, pause(3_000).then(() => assert.fail(`${what}: the connection is still open`))]);
      assert.equal((await store.commit({ id: ids.next(), expects: [], writes: [{ kind: "put", key: "a//1", value: bytes("x") }] })).ok, true, what);
    }
    const silent = createConnection(note.socket);
    silent.on("error", () => undefined);
    await Promise.race([new Promise((resolve) => silent.once("close", resolve)), pause(4_000).then(() => assert.fail("silence: still open"))]);
    assert.ok(process.memoryUsage.rss() - before < 100_000_000);
    await store.close();
  }));

test("a process of another version, or with another durability, is told so by name", () =>
  withFleet(1, async (fleet) => {
    await assert.rejects(openSqlite({ path: fleet.path, durability: "normal" }), (thrown) => (thrown as { code?: string }).code === "store.open-differs");
  }));

test("a file that was opened inline takes nobody in, and says so", () =>
  inDirectory(async (path) => {
    const alone = await openSqlite({ path, inline: true });
    await assert.rejects(startMember(path), (thrown) => (thrown as { code?: string }).code === "store.in-use");
    await alone.close();
    const member = await startMember(path);
    member.signal("SIGKILL");
    await member.gone;
  }));

test("who missed notices while the writer changed hears what they would have told", () =>
  withFleet(3, async (fleet) => {
    const heard: Change[] = [];
    const store = await openSqlite({ path: fleet.path });
    store.onChange((change) => void heard.push(change));
    await store.commit({ id: ids.next(), expects: [], writes: [{ kind: "put", key: "a//first", value: bytes("x") }] });
    const [other] = fleet.others() as [MemberProcess];
    // Until it is this process that goes on as the writer.
    for (let round = 0; round < 10 && readNote(fleet.path)?.pid !== process.pid; round++) {
      const victim = fleet.writer();
      const loading = victim === other ? undefined : other.ask({ do: "commit", name: `m${round}` });
      victim.signal("SIGKILL");
      await victim.gone;
      await loading;
      await fleet.start();
      if (victim === other || fleet.members.length === 0) break;
      await eventually(`round ${round} was heard of`, () => heard.some(({ keys }) => keys.includes(`r//m${round}`)));
      await eventually("and its queue", () => heard.some(({ queues }) => queues.includes("ledger")));
    }
    await store.close();
  }));

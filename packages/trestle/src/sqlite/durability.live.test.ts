/** What survives a crash, a power loss and a full disk, tried on real processes (FINDINGS F5, F11). */
import assert from "node:assert/strict";
import { spawn, type ChildProcess } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { buildShim, makeDisk, type Disk } from "../conformance/power-loss/index.ts";
import { openSqlite } from "./index.ts";

const rounds = 20;
const committer = fileURLToPath(new URL("./testing/committer.ts", import.meta.url));
const shim = buildShim();
const skip = shim.ok ? false : shim.reason;
const newDisk = (options: { slowFsyncUs?: number } = {}): Disk => makeDisk({ library: (shim as { library: string }).library, ...options });

interface Run {
  readonly child: ChildProcess;
  /** What it was told so far, by name. */
  readonly told: Map<string, string>;
  readonly ready: Promise<void>;
  readonly gone: Promise<void>;
}

function start(path: string, durability: "full" | "normal", callers: number, each: number, round: number, env: Readonly<Record<string, string>>): Run {
  const child = spawn(process.execPath, [committer, path, durability, String(callers), String(each), String(round)], {
    env: { ...process.env, ...env },
    stdio: ["ignore", "pipe", "inherit"],
  });
  const told = new Map<string, string>();
  let rest = "";
  let begun!: () => void;
  const ready = new Promise<void>((resolve) => (begun = resolve));
  child.stdout?.on("data", (chunk: Buffer) => {
    const lines = (rest + chunk.toString()).split("\n");
    rest = lines.pop() as string;
    for (const line of lines) {
      const [name, answer] = line.split(" ") as [string, string];
      if (name === "ready") begun();
      else told.set(name, answer);
    }
  });
  const gone = new Promise<void>((resolve) => child.once("close", () => (begun(), resolve())));
  return { child, told, ready, gone };
}
const pause = (ms: number) => new Promise<void>((resolve) => void setTimeout(resolve, ms));

/** Whether each of the three parts of a commit is there. */
function partsOf(db: DatabaseSync): (name: string) => boolean[] {
  const jobs = new Set(
    db
      .prepare("select cast(payload as text) as name from trestle_jobs")
      .all()
      .map((row) => row["name"]),
  );
  const [event, record] = [db.prepare("select 1 from trestle_events where stream = ?"), db.prepare("select 1 from trestle_records where key = ?")];
  return (name) => [event.get(`s//${name}`) !== undefined, jobs.has(name), record.get(`r//${name}`) !== undefined];
}

/** Opens it as the next process would, and answers which acknowledged commits are not all there. Whatever is half there fails the test. */
async function lostOf(path: string, told: ReadonlyMap<string, string>): Promise<string[]> {
  await (await openSqlite({ path })).close();
  const db = new DatabaseSync(path, { readOnly: true });
  try {
    const parts = partsOf(db);
    const lost: string[] = [];
    for (const [name, answer] of told) {
      const found = parts(name);
      assert.ok(
        found.every((part) => part === found[0]),
        `${name} is half there: ${found.join()}`,
      );
      if (answer === "applied" && !found[0]) lost.push(name);
      if (answer !== "applied" && answer !== "commit.unknown") assert.equal(found[0], false, `${name} was told ${answer}, and is there`);
    }
    for (const row of db.prepare("select stream from trestle_events").all()) {
      const found = parts((row["stream"] as string).slice(3));
      assert.ok(found.every(Boolean), `${String(row["stream"])} is half there: ${found.join()}`);
    }
    const positions = db.prepare("select count(*) as count, max(position) as last from trestle_events").get();
    assert.equal(positions?.["count"], positions?.["last"] ?? 0, "positions have no gap");
    return lost;
  } finally {
    db.close();
  }
}

/** Power losses in one data directory; answers in how many of them something acknowledged was lost. */
async function losePower(durability: "full" | "normal", most: number, enough: (losses: number) => boolean): Promise<{ losses: number; acknowledged: number }> {
  const disk = newDisk();
  const path = join(disk.root, "store.db");
  const all = new Map<string, string>();
  let losses = 0;
  try {
    for (let round = 0; round < most && !enough(losses); round++) {
      const run = start(path, durability, 16, 1_000_000, round, disk.env);
      await run.ready;
      await pause(20 + ((round * 37) % 150));
      run.child.kill("SIGKILL");
      await run.gone;
      disk.losePower();
      for (const [name, answer] of run.told) all.set(name, answer);
      const lost = await lostOf(path, all);
      if (lost.length) losses++;
      for (const name of lost) all.delete(name);
      // What the last check folded into the file is there, as if it had been synced.
      disk.adopt();
    }
    return { losses, acknowledged: all.size };
  } finally {
    disk.remove();
  }
}

test(`[F11] ${rounds} power losses under synchronous=FULL take back nothing that was acknowledged`, { skip }, async () => {
  const { losses, acknowledged } = await losePower("full", rounds, () => false);

  assert.equal(losses, 0);
  assert.ok(acknowledged > rounds * 10, `${acknowledged} commits were acknowledged`);
});

test("[F11] a power loss under synchronous=NORMAL takes back something: the harness would notice", { skip }, async () => {
  const { losses } = await losePower("normal", rounds, (count) => count > 0);

  assert.ok(losses > 0);
});

test("[F11] a store opened with NORMAL does not say that it is durable", async () => {
  const directory = mkdtempSync(join(tmpdir(), "trestle-normal-"));
  try {
    for (const [durability, durable] of [
      ["full", true],
      ["normal", false],
    ] as const) {
      const store = await openSqlite({ path: join(directory, `${durability}.db`), durability });
      assert.deepEqual([store.guarantees.has("commit.durable"), store.guarantees.has("commit.survives-crash")], [durable, true]);
      await store.close();
    }
  } finally {
    rmSync(directory, { recursive: true });
  }
});

test(
  `[F5] the disk fills in the middle of batches of 64, ${rounds + 30} times: each commit is whole or absent, its caller knows which, and the store goes on when there is room`,
  { skip },
  async () => {
    const disk = newDisk();
    const path = join(disk.root, "store.db");
    const all = new Map<string, string>();
    try {
      let full = 0;
      let applied = 0;
      for (let process = 0; process < 5; process++) {
        const run = start(path, "full", 64, 1_000_000, process, disk.env);
        await run.ready;
        for (let round = 0; round < 10; round++) {
          const before = run.told.size;
          disk.allow(1_000 + (((process * 10 + round) * 7_919) % 90_000));
          for (let waited = 0; waited < 4_000 && ![...run.told.values()].slice(before).some((answer) => answer !== "applied"); waited += 5) await pause(5);
          full += [...run.told.values()].slice(before).some((answer) => answer !== "applied") ? 1 : 0;
          disk.allow(undefined);
          const refusedUntil = run.told.size;
          for (let waited = 0; waited < 4_000 && ![...run.told.values()].slice(refusedUntil).includes("applied"); waited += 5) await pause(5);
          assert.ok([...run.told.values()].slice(refusedUntil).includes("applied"), "it goes on when there is room again");
        }
        run.child.kill("SIGKILL");
        await run.gone;
        for (const [name, answer] of run.told) all.set(name, answer);
        applied += [...run.told.values()].filter((answer) => answer === "applied").length;
        assert.deepEqual(await lostOf(path, all), []);
      }
      assert.deepEqual(
        [...new Set(all.values())].filter((answer) => !["applied", "store.disk-full", "store.io-error", "commit.unknown"].includes(answer)),
        [],
      );
      assert.equal(full, 50, "the disk was full in each of 50 rounds");
      assert.ok(applied > 1_000);
    } finally {
      disk.remove();
    }
  },
);

/** The writer's thread, started before a store is opened. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { loadStoreAhead, takeThread } from "./ahead.ts";
import { openSqlite } from "./open.ts";

test("what was loaded ahead is taken once, by the first store", async () => {
  loadStoreAhead("sqlite:");
  loadStoreAhead("sqlite:");
  const first = takeThread();
  const second = takeThread();
  loadStoreAhead("postgres://somewhere/else");
  const third = takeThread();

  // Threads are numbered as they are started: the third began when it was asked for.
  assert.deepEqual([second.threadId, third.threadId], [first.threadId + 1, first.threadId + 2]);
  await Promise.all([first, second, third].map((thread) => thread.terminate()));
});

test("stores open in the thread that waits, and in others after it", async () => {
  const directory = mkdtempSync(join(tmpdir(), "trestle-ahead-"));
  loadStoreAhead("sqlite:");
  try {
    for (const name of ["a.db", "b.db"]) {
      const store = await openSqlite({ path: join(directory, name) });
      assert.equal((await store.read.head()).n, 0);
      await store.close();
    }
    loadStoreAhead("sqlite:");
    await assert.rejects(openSqlite({ path: join(directory, "nowhere", "c.db") }), { code: "store.not-writable" });
  } finally {
    await takeThread().terminate();
    rmSync(directory, { recursive: true });
  }
});

test("a process that opens no store ends all the same", () => {
  const program = `import { loadStoreAhead } from ${JSON.stringify(new URL("./ahead.ts", import.meta.url).href)}; loadStoreAhead();`;

  execFileSync(process.execPath, ["--disable-warning=ExperimentalWarning", "--input-type=module", "--eval", program], { timeout: 10_000 });
});

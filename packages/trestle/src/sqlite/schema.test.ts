import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { test } from "node:test";
import { seededRandom, uuidv7Ids, virtualClock } from "../kernel/index.ts";
import { openSqlite } from "./index.ts";
import { formatVersion, jobStates, prepareSchema } from "./schema.ts";
import { idBytes } from "./statements.ts";

test("a file of format 1 is brought to the newest one as it is opened, and its jobs go on in their order", async () => {
  const directory = mkdtempSync(join(tmpdir(), "trestle-format-"));
  const path = join(directory, "store.db");
  const clock = virtualClock();
  const ids = uuidv7Ids(clock, seededRandom("format"));
  const old = new DatabaseSync(path);
  prepareSchema(old, path, 1);
  assert.deepEqual({ ...old.prepare("pragma user_version").get() }, { user_version: 1 });
  const insert = old.prepare(
    "insert into trestle_jobs (seq, id, queue, state, priority, place, due, sent, attempt, key, payload) values (?, ?, 'mail', ?, ?, ?, ?, ?, 0, ?, x'00')",
  );
  const sent = [
    [1, jobStates.ready, 1, "k"],
    [2, jobStates.behind, 1, "k"],
    [3, jobStates.ready, 0, null],
    [4, jobStates.dead, 1, null],
  ].map(([seq, state, priority, key]) => {
    const id = ids.next();
    insert.run(seq as number, idBytes(id), state as number, priority as number, seq as number, clock.wallMs(), clock.wallMs(), key as string | null);
    return id;
  });
  old.close();

  const store = await openSqlite({ path, clock, inline: true });
  const claim = async () => (await store.claim({ holder: "test", leaseMs: 1_000, queues: [{ queue: "mail", limit: 10 }] })).jobs;
  const first = await claim();
  await store.commit({
    id: ids.next(),
    expects: [],
    writes: [
      ...first.map(({ id, fence }) => ({ kind: "finish", job: id, fence, end: { kind: "done" } }) as const),
      { kind: "redrive", job: sent[3] as string },
    ],
  });
  const second = await claim();
  await store.close();
  const now = new DatabaseSync(path);
  const format = { ...now.prepare("pragma user_version").get() };
  now.close();

  assert.deepEqual(
    [first, second].map((jobs) => jobs.map(({ id }) => sent.indexOf(id) + 1)),
    [
      [3, 1],
      [2, 4],
    ],
  );
  assert.deepEqual(format, { user_version: formatVersion });
  rmSync(directory, { recursive: true });
});

import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { constants, DatabaseSync } from "node:sqlite";
import { test } from "node:test";
import { commitCases, logCases, queueCases, queuePolicyCases, recordCases, tokenCases, type Case, type StoreSubject } from "../conformance/index.ts";
import { seededRandom, uuidv7Ids, virtualClock } from "../kernel/index.ts";
import { openForWriting } from "./connection.ts";
import { openSqlite } from "./index.ts";

/** Every statement on Trestle's tables that the conformance cases made the engine prepare. */
async function preparedByTheCases(): Promise<string[]> {
  const texts = new Set<string>();
  const { prepare } = DatabaseSync.prototype;
  DatabaseSync.prototype.prepare = function (this: DatabaseSync, text: string, ...rest: []) {
    texts.add(text);
    return prepare.call(this, text, ...rest);
  };
  try {
    const clock = virtualClock();
    const ids = uuidv7Ids(clock, seededRandom("plans"));
    const store = await openSqlite({ path: ":memory:", clock });
    const cases: readonly Case<StoreSubject>[] = [...commitCases, ...logCases, ...queueCases, ...queuePolicyCases, ...recordCases, ...tokenCases];
    for (const { run } of cases) await run({ store, clock, ids });
    await store.close();
  } finally {
    DatabaseSync.prototype.prepare = prepare;
  }
  return [...texts].filter((text) => /\btrestle_/.test(text) && !/^(create|drop|pragma)/i.test(text) && !/trestle_tokens_|trestle_mine/.test(text));
}

/** Walks of an index from one end: the first or last row, and counts of what is asked to be counted. */
const walks = [
  /^select (max\(|n, at|at ).*trestle_commits/,
  /^select max\(position\) from trestle_events/,
  /^select (max\(|min\()\w+\) from trestle_jobs/,
  /^select queue, min\(due\) from trestle_jobs .* USING (COVERING )?INDEX trestle_jobs_due/s,
  /^select .*trestle_jobs.* state = 2.* USING (COVERING )?INDEX trestle_jobs_lease/s,
  /^select id, queue, state, key, grp, attempt, due, sent, error, payload from trestle_jobs .* USING INDEX trestle_jobs_id/s,
];

function withStatistics(db: DatabaseSync, rows: number): void {
  db.exec("analyze; delete from sqlite_stat1");
  const insert = db.prepare("insert into sqlite_stat1 (tbl, idx, stat) values (?, ?, ?)");
  for (const { name, tbl_name } of db.prepare("select name, tbl_name from sqlite_schema where type = 'index' and tbl_name like 'trestle%'").all() as {
    name: string;
    tbl_name: string;
  }[]) {
    const columns = db.prepare(`select count(*) as n from pragma_index_info('${name}')`).get()?.["n"] as number;
    insert.run(tbl_name, name, [rows, ...Array.from({ length: columns }, () => Math.max(1, Math.floor(rows / 3)))].join(" "));
  }
  db.exec("analyze sqlite_schema");
}

test("[F8] no statement has a second plan: statistics of 0, 1 and 10 million rows change none, and none scans a table that grows", async () => {
  const texts = await preparedByTheCases();
  assert.ok(texts.length >= 60, `${texts.length} statements were looked at`);
  const directory = mkdtempSync(join(tmpdir(), "trestle-plans-"));
  const path = join(directory, "store.db");
  const plans = (): Map<string, string> => {
    const db = openForWriting(path, "full");
    try {
      return new Map(
        texts.map((text) => [
          text,
          db
            .prepare(`explain query plan ${text}`)
            .all()
            .map((row) => row["detail"] as string)
            .join("; "),
        ]),
      );
    } finally {
      db.close();
    }
  };

  const before = plans();
  for (const rows of [0, 1, 10_000_000]) {
    const db = new DatabaseSync(path);
    withStatistics(db, rows);
    db.close();
    for (const [text, plan] of plans()) assert.equal(plan, before.get(text), `with ${rows} rows: ${text}`);
  }
  rmSync(directory, { recursive: true });

  const scanning = [...before]
    .filter(([, plan]) => /SCAN (?!e |r )(?!trestle_meta|trestle_resolved|trestle_paused|json_each|sqlite_schema|\(|CONSTANT)/.test(plan))
    .map(([text, plan]) => `${text} -- ${plan}`);
  assert.deepEqual(
    scanning.filter((line) => !walks.some((walk) => walk.test(line))),
    [],
  );
});

/** How often it is prepared again while it is run with these values: each preparation asks the authorizer. */
function preparedAgain(db: DatabaseSync, text: string, values: readonly number[]): number {
  let asked = 0;
  db.setAuthorizer(() => (asked++, constants.SQLITE_OK));
  const statement = db.prepare(`explain query plan ${text}`);
  asked = 0;
  statement.all(...values);
  statement.all(...values);
  db.setAuthorizer(null);
  return asked;
}

test("[F8] no statement is prepared again because it is given other values, as SQLite does with each bare `limit ?`", async () => {
  const texts = await preparedByTheCases();
  const db = openForWriting(":memory:", "full");
  const valuesOf = (text: string): number[] => {
    const numbered = [...text.matchAll(/\?(\d+)/g)].map(([, number]) => Number(number));
    return Array<number>(numbered.length > 0 ? Math.max(...numbered) : text.split("?").length - 1).fill(1);
  };

  assert.ok(preparedAgain(db, "select seq from trestle_jobs order by seq limit ?", [1]) > 0, "what this test looks for");
  assert.deepEqual(
    texts.filter((text) => preparedAgain(db, text, valuesOf(text)) > 0),
    [],
  );
  db.close();
});

/** Run once in a while, over many rows. */
const sweeping = /^delete from trestle_resolved where id in \(/;

test("no statement that writes one row builds a table in memory, as SQLite does for RETURNING, and for a list of three in a partial index", async () => {
  const db = openForWriting(":memory:", "full");
  const builds = (text: string): boolean =>
    db
      .prepare(`explain ${text}`)
      .all()
      .some((row) => row["opcode"] === "OpenEphemeral");
  assert.ok(
    builds("delete from trestle_records where key = ? returning id") && builds("select 1 from trestle_jobs where state in (4, 5, 8)"),
    "what this test looks for",
  );

  const writes = (await preparedByTheCases()).filter((text) => /^(insert|update|delete)/.test(text) && !sweeping.test(text));
  assert.ok(writes.length >= 25, `${writes.length} statements were looked at`);
  assert.deepEqual(writes.filter(builds), []);
  db.close();
});

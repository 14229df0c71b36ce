import assert from "node:assert/strict";
import { test } from "node:test";
import { openForWriting } from "./connection.ts";
import { jobPlans } from "./jobs-part.ts";

test("[F8] each statement of the queue walks one index in its order, whatever the statistics say", () => {
  const db = openForWriting(":memory:", "full");
  const expected: Record<keyof typeof jobPlans, RegExp> = {
    claimPlan: /^SEARCH trestle_jobs USING (COVERING )?INDEX trestle_jobs_ready \(queue=\?\)$/,
    anyReady: /^SEARCH trestle_jobs USING (COVERING )?INDEX trestle_jobs_ready \(queue=\?\)$/,
    headsOfGroup: /^SEARCH trestle_jobs USING (COVERING )?INDEX trestle_jobs_turns \(queue=\? AND grp=\?\)$/,
    firstGroup: /^SEARCH trestle_jobs USING COVERING INDEX trestle_jobs_turns \(queue=\? AND grp>\?\)$/,
    groupAfter: /^SEARCH trestle_jobs USING COVERING INDEX trestle_jobs_turns \(queue=\? AND grp>\?\)$/,
    heldOfQueue: /^SEARCH trestle_jobs USING COVERING INDEX trestle_jobs_held \(queue=\? AND grp>\?\)$/,
    heldOfGroup: /^SEARCH trestle_jobs USING COVERING INDEX trestle_jobs_held \(queue=\? AND grp=\?\)$/,
    untriedTwin: /^SEARCH trestle_jobs USING (COVERING )?INDEX trestle_jobs_uniq \(queue=\? AND uniq=\?\)$/,
    over: /^SEARCH trestle_jobs USING (COVERING )?INDEX trestle_jobs_until \(until>\? AND until<\?\)$/,
    nextBehind: /^SEARCH trestle_jobs USING (COVERING )?INDEX trestle_jobs_behind \(queue=\? AND key=\?\)$/,
    headOfKey: /^SEARCH trestle_jobs USING (COVERING )?INDEX trestle_jobs_head \(queue=\? AND key=\?\)$/,
    dueOfQueue: /^SEARCH trestle_jobs USING (COVERING )?INDEX trestle_jobs_due \(queue=\? AND due<\?\)$/,
    dueOfKey: /^SEARCH trestle_jobs USING (COVERING )?INDEX trestle_jobs_joining \(queue=\? AND key=\? AND due<\?\)$/,
    nextDue: /^SEARCH trestle_jobs USING (COVERING )?INDEX trestle_jobs_due \(queue=\?\)$/,
    nextLease: /^SCAN trestle_jobs USING (COVERING )?INDEX trestle_jobs_lease$/,
    overdue: /^SEARCH trestle_jobs USING (COVERING )?INDEX trestle_jobs_lease \(lease<\?\)$/,
    twin: /^SEARCH trestle_jobs USING (COVERING )?INDEX trestle_jobs_uniq \(queue=\? AND uniq=\?\)$/,
    byId: /^SEARCH trestle_jobs USING (COVERING )?INDEX trestle_jobs_id \(id=\?\)$/,
  };
  const indexes = db
    .prepare("select name from sqlite_schema where type = 'index' and tbl_name = 'trestle_jobs'")
    .all()
    .map((row) => row["name"] as string);
  assert.ok(indexes.length >= 10);

  let looked = 0;
  for (const rows of [undefined, 0, 1, 10_000_000]) {
    if (rows !== undefined) {
      db.exec("analyze; delete from sqlite_stat1");
      const insert = db.prepare("insert into sqlite_stat1 (tbl, idx, stat) values ('trestle_jobs', ?, ?)");
      for (const index of indexes)
        insert.run(
          index,
          `${rows} ${Array(db.prepare(`pragma index_info(${index})`).all().length)
            .fill(Math.max(1, Math.floor(rows / 2)))
            .join(" ")}`,
        );
      db.exec("analyze sqlite_schema");
    }
    for (const [name, text] of Object.entries(jobPlans)) {
      const plan = db
        .prepare(`explain query plan ${text}`)
        .all()
        .map((row) => row["detail"] as string);
      assert.equal(plan.length, 1, `${name} with ${rows} rows: ${plan.join("; ")}`);
      assert.match(plan[0] as string, expected[name as keyof typeof jobPlans], `${name} with ${rows} rows`);
      looked++;
    }
  }
  assert.equal(looked, 4 * Object.keys(expected).length);
  db.close();
});

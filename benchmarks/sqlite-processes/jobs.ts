/** A store's file in which jobs wait, and the processes that take them. */
import { fork, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { openSqlite } from "../../packages/trestle/src/sqlite/index.ts";
import type { Measured } from "../harness/benchmark.ts";
import { measureCallers, percentiles } from "../harness/callers.ts";

export const queue = "work";
/** More than they can take: 600,000 in the four seconds that are the default. */
const jobsPerSecond = 150_000;
const processes = 8;

/** What a taking process is started with. */
export interface Order {
  readonly path: string;
  readonly callers: number;
  readonly seconds: number;
}
interface Report {
  readonly claims: number;
  readonly times: readonly number[];
}

export async function takenBy(
  module: URL,
  { load, seconds, scratch }: { readonly load: number; readonly seconds: number; readonly scratch: string },
): Promise<Measured> {
  const path = join(scratch, "store.db");
  await (await openSqlite({ path })).close();
  const db = new DatabaseSync(path);
  db.exec(`
    with recursive row (seq) as (select 1 union all select seq + 1 from row where seq < ${Math.ceil(jobsPerSecond * seconds)})
    insert into trestle_jobs (seq, id, queue, state, priority, place, due, sent, attempt, payload)
    select seq, randomblob(16), '${queue}', 1, 1, seq, 0, 0, 0, randomblob(200) from row;
    pragma wal_checkpoint(truncate)`);
  db.close();

  const children: ChildProcess[] = [];
  try {
    const reports: Promise<Report>[] = [];
    for (let i = 0; i < processes; i++) {
      const child = fork(module, [JSON.stringify({ path, callers: load, seconds } satisfies Order)], { execArgv: ["--disable-warning=ExperimentalWarning"] });
      children.push(child);
      await once(child, "message"); // it is open
      reports.push(once(child, "message").then(([report]) => report as Report));
    }
    for (const child of children) child.send("go");
    const all = await Promise.all(reports);
    const total = all.reduce((sum, { claims }) => sum + claims, 0);
    return {
      opsPerSec: total / seconds,
      leastShare: Math.min(...all.map(({ claims }) => claims)) / (total / processes),
      ...percentiles(all.flatMap(({ times }) => times)),
    };
  } finally {
    for (const child of children) child.kill("SIGKILL");
  }
}

/** In a taking process: answers with what was measured, and waits to be ended. */
export async function take(claim: () => Promise<boolean>): Promise<void> {
  const { callers, seconds } = JSON.parse(process.argv[2] as string) as Order;
  process.send?.("open");
  await once(process, "message");
  const times: number[] = [];
  await measureCallers(
    callers,
    seconds,
    async () => {
      if (!(await claim())) throw new Error("there were too few jobs");
    },
    times,
  );
  process.send?.({ claims: times.length, times } satisfies Report);
}

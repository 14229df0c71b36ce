/**
 * Whole queues, side by side: `npm run bench -- queue-peers`. The same server, the same durability (fsync on), the public API of each library, as
 * it comes and as its documentation says it is fastest; each figure from fresh processes.
 *
 *   burn-down   `--jobs` (200,000) jobs are there already; a worker process handles them; jobs per second
 *   steady      `--per-sec` (1000 and 2000) jobs a second from another process, on time whatever happens; from sending to the handler, p50 and p99
 *   kill        a worker process, and then the server, are killed (-9) while `--kill-jobs` (5,000) jobs, each with a row as its effect, are
 *               worked on; how many took no effect until nothing moved for 45 s, or (`not yet done`) within 150 s, and how many took it more than once
 *   5 ms        the steady run with each flush of the server 5 ms slower (`commit_delay` with `commit_siblings=0`)
 *
 * `--only name[,name]`, `--setting default|tuned` and `--tables burn,steady,kill,slow` choose. `--json` prints data. `--into file` puts the columns into that file
 * beside those that are there: the kill table waits for leases to run out, takes half an hour and needs no quiet machine, the others do.
 *
 * BullMQ's Redis has `appendfsync always`. A slower flush is a setting of PostgreSQL; Redis has none like it, and no row in that table.
 */
import { fork, type ChildProcess } from "node:child_process";
import { mkdtempSync, mkdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { missing, postgres, redis, type PostgresServer, type Server } from "@trestle/testing";
import pg from "pg";
import { keepRow } from "../../harness/kept-rows.ts";
import { machine } from "../../harness/machine.ts";
import type { Contender, Servers } from "./contender.ts";

const { values } = parseArgs({
  options: {
    jobs: { type: "string", default: "200000" },
    "per-sec": { type: "string", default: "1000,2000" },
    seconds: { type: "string", default: "10" },
    "kill-jobs": { type: "string", default: "5000" },
    only: { type: "string" },
    setting: { type: "string" },
    tables: { type: "string", default: "burn,steady,kill,slow" },
    json: { type: "boolean" },
    into: { type: "string" },
  },
});
const names = ["trestle-postgres", "trestle-sqlite", "graphile-worker", "pg-boss", "bullmq-postgres", "bullmq-redis", "dbos"];
const tables = new Set(values.tables.split(","));
const jobs = Number(values.jobs);
const limitMs = 180_000;
/** V8 compiles for so long. */
const warmSeconds = 6;

interface Row {
  readonly name: string;
  readonly setting: string;
  [column: string]: string | number;
}
const rows: Row[] = [];
const skipped: string[] = [];
const say = (text: string) => void process.stderr.write(`${text}\n`);

/** A process in a role; `told` is what it says, message by message. */
function child(
  name: string,
  setting: string,
  role: string,
  servers: Servers,
  asked: object,
): { readonly process: ChildProcess; told(): Promise<Record<string, number>> } {
  const started = fork(fileURLToPath(new URL("./child.ts", import.meta.url)), [name, setting, role, JSON.stringify(servers), JSON.stringify(asked)], {
    stdio: ["ignore", "ignore", process.env["PEERS_DEBUG"] ? "inherit" : "ignore", "ipc"],
    execArgv: ["--disable-warning=ExperimentalWarning"],
  });
  const messages: Record<string, number>[] = [];
  const waiting: { resolve(message: Record<string, number>): void; reject(error: Error): void }[] = [];
  let ended: Error | undefined;
  started.on("message", (message) => {
    const next = waiting.shift();
    if (next) next.resolve(message as Record<string, number>);
    else messages.push(message as Record<string, number>);
  });
  started.on("exit", (code, signal) => {
    ended = new Error(`${name} (${setting}), ${role}: ended with ${signal ?? code}`);
    for (const { reject } of waiting.splice(0)) reject(ended);
  });
  return {
    process: started,
    async told() {
      const first = messages.shift();
      if (first) return first;
      if (ended) throw ended;
      let timer: NodeJS.Timeout | undefined;
      try {
        return await new Promise((resolve, reject) => {
          waiting.push({ resolve, reject });
          timer = setTimeout(() => reject(new Error(`${name} (${setting}), ${role}: nothing for ${limitMs / 1_000} s`)), limitMs);
        });
      } finally {
        clearTimeout(timer);
      }
    },
  };
}

async function measured(name: string, setting: "default" | "tuned", store: Contender["store"]): Promise<Row> {
  const row: Row = { name, setting };
  const directory = mkdtempSync(join(tmpdir(), "trestle-peers-"));
  let runs = 0;
  /** A database of its own for each run: nobody pays for the dead rows of the run before. */
  const fresh = async (work: (servers: Servers, kept: PostgresServer | Server) => Promise<void>, settings: Readonly<Record<string, string>> = {}) => {
    const scratch = join(directory, String(++runs));
    mkdirSync(scratch);
    await using server = await postgres({ settings: { shared_buffers: "256MB", ...settings } });
    await using cache = store === "redis" ? await redis({ appendfsync: "always" }) : undefined;
    await work({ postgres: server.url, redis: cache?.url, directory: scratch }, cache ?? server);
  };
  const steady = async (servers: Servers, perSec: number, column: string) => {
    const worker = child(name, setting, "work", servers, {});
    await worker.told();
    const sender = child(name, setting, "send", servers, { perSec, warmSeconds, seconds: Number(values.seconds) });
    await sender.told();
    worker.process.send("measure");
    const sent = await sender.told();
    await sleep(1_500);
    worker.process.send("tell");
    const told = await worker.told();
    row[`${column} p50 ms`] = round(told["p50Ms"]);
    row[`${column} p99 ms`] = round(told["p99Ms"]);
    if (sent["failed"]) row[`${column} failed`] = sent["failed"];
    if ((told["handled"] ?? 0) < (sent["sent"] ?? 0)) row[`${column} left`] = (sent["sent"] ?? 0) - (told["handled"] ?? 0);
  };
  try {
    if (tables.has("burn"))
      await fresh(async (servers) => {
        const filled = await child(name, setting, "fill", servers, { jobs }).told();
        row["send/s"] = Math.round(filled["perSec"] ?? Number.NaN);
        const burned = await child(name, setting, "burn", servers, { jobs }).told();
        row["burn/s"] = Math.round(burned["perSec"] ?? Number.NaN);
        row["rss MB"] = Math.round(burned["rssMb"] ?? Number.NaN);
      });
    if (tables.has("steady")) for (const perSec of values["per-sec"].split(",").map(Number)) await fresh((servers) => steady(servers, perSec, `${perSec}/s`));
    if (tables.has("slow") && store === "postgres")
      await fresh((servers) => steady(servers, 1_000, "1000/s, 5 ms"), { commit_delay: "5000", commit_siblings: "0" });
    if (tables.has("kill")) {
      await fresh(async (servers) => kill(servers, "worker", async (worker) => void worker.process.kill("SIGKILL")));
      if (store !== "sqlite") {
        await fresh(async (servers, kept) =>
          kill(servers, "server", async () => {
            await kept.kill();
            await kept.start();
          }),
        );
      }
    }
  } catch (error) {
    row["failed"] = (error as Error).message.slice(0, 120);
    skipped.push(`${name} (${setting}): ${(error as Error).message}`);
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
  return row;

  async function kill(servers: Servers, whom: string, strike: (worker: ReturnType<typeof child>) => Promise<void>): Promise<void> {
    const count = Number(values["kill-jobs"]);
    const client = new pg.Client({ connectionString: servers.postgres });
    await client.connect();
    await client.query("create table effects (n integer not null)");
    await client.end();
    await child(name, setting, "fill", servers, { jobs: count }).told();
    const worker = child(name, setting, "effect", servers, {});
    await worker.told();
    await sleep(700);
    await strike(worker);
    worker.process.kill("SIGKILL");
    const next = child(name, setting, "effect", servers, {});
    await next.told();
    // Until nothing moves any more: leases run out after half a minute in most libraries, later in some (graphile-worker: four hours).
    const atRest = 9;
    let done = -1;
    let quiet = 0;
    for (let looks = 0; looks < 30 && quiet < atRest && done < count; looks++) {
      await sleep(5_000);
      const seen = await child(name, setting, "effects", servers, { jobs: count }).told();
      quiet = seen["done"] === done ? quiet + 1 : 0;
      done = seen["done"] ?? 0;
    }
    next.process.kill("SIGKILL");
    const { done: all = 0, twice = 0 } = await child(name, setting, "effects", servers, { jobs: count }).told();
    row[`${whom} killed: ${all < count && quiet < atRest ? "not yet done" : "undone"}`] = count - all;
    row[`${whom} killed: doubled`] = twice;
  }
}

const round = (value: number | undefined): number => Math.round((value ?? Number.NaN) * 10) / 10;

for (const name of names.filter((one) => values.only === undefined || values.only.split(",").includes(one))) {
  const contender = ((await import(new URL(`./${name}.ts`, import.meta.url).href)) as { readonly default: Contender }).default;
  const without = contender.store === "redis" && (await missing("redis", { managed: true }));
  if (without) {
    skipped.push(`${name}: ${without}`);
    continue;
  }
  for (const setting of contender.settings.filter((one) => values.setting === undefined || one === values.setting)) {
    const row = await measured(name, setting, contender.store);
    rows.push(row);
    if (values.into !== undefined) {
      const command = "npm run bench -- queue-peers --tables <some> --into <this file>, for all tables";
      keepRow(values.into, { subject: "queue-peers", command, keys: ["name", "setting"], order: names }, row);
    }
    say(JSON.stringify(row));
  }
}

const info = machine(tmpdir());
if (values.json) process.stdout.write(`${JSON.stringify({ subject: "queue-peers", machine: info, rows, skipped }, undefined, 2)}\n`);
else console.table(rows);
for (const reason of skipped) say(`skipped: ${reason}`);
process.exit(0);

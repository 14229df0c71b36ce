/**
 * One order endpoint, put together in four ways: `npm run bench -- one-commit-peers`. A POST with a key must give one order, one mail job and one answer,
 * whatever dies. On the same server, with the same durability.
 *
 *   rate    orders per second and p99 over 64 connections, the mail worker in the same process
 *   kills   `--kills` (50) kill -9 of the process at random instants, ten answers apart at least, under 16 clients that ask again with the same key until they are answered.
 *           Then, when nothing has moved for a minute and a half: acknowledged keys without an order, keys with several orders, orders without a
 *           mail (graphile-worker keeps a dead worker's jobs for four hours: they are late, not lost), orders with several, and keys that are answered
 *           with another order when they are asked once more. Their sum is `wrong`.
 *
 * `--only name[,name]`, `--seconds`, `--kills 0` to leave them out, `--seed` of the instants, `--json`. A contender takes about four minutes. `--into file` puts the
 * rows into that file beside those that are there, so that each can be run by itself: benchmarks/results/one-commit-peers.json was made so.
 */
import { fork, type ChildProcess } from "node:child_process";
import { randomUUID } from "node:crypto";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer, type AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { postgres } from "@trestle/testing";
import { seededRandom } from "trestle/kernel";
import { runClient } from "../../harness/clients.ts";
import { keepRow } from "../../harness/kept-rows.ts";
import { machine } from "../../harness/machine.ts";
import type { Audit, Where } from "./endpoint.ts";

const { values } = parseArgs({
  options: {
    only: { type: "string" },
    seconds: { type: "string", default: "6" },
    kills: { type: "string", default: "50" },
    seed: { type: "string", default: randomUUID() },
    json: { type: "boolean" },
    into: { type: "string" },
  },
});
const names = ["trestle-postgres", "trestle-sqlite", "fastify-graphile", "fastify-bullmq", "dbos"];
type Row = Record<string, string | number>;
const rows: Row[] = [];

const freePort = (): Promise<number> =>
  new Promise((resolve) => {
    const server = createServer().listen(0, "127.0.0.1", () => {
      const { port } = server.address() as AddressInfo;
      server.close(() => resolve(port));
    });
  });

async function serve(name: string, where: Where): Promise<ChildProcess> {
  const child = fork(fileURLToPath(new URL("./child.ts", import.meta.url)), [name, JSON.stringify(where)], {
    stdio: ["ignore", "ignore", process.env["PEERS_DEBUG"] ? "inherit" : "ignore", "ipc"],
    execArgv: ["--disable-warning=ExperimentalWarning"],
  });
  await new Promise<void>((resolve, reject) => {
    child.once("message", () => resolve());
    child.once("exit", (code, signal) => reject(new Error(`${name} ended with ${signal ?? code} before it served`)));
  });
  return child;
}

const ended = (child: ChildProcess): Promise<void> =>
  child.exitCode !== null || child.signalCode !== null ? Promise.resolve() : new Promise((resolve) => child.once("exit", () => resolve()));

async function withServer<T>(work: (where: Where) => Promise<T>): Promise<T> {
  const directory = mkdtempSync(join(tmpdir(), "trestle-peers-"));
  try {
    await using server = await postgres({ settings: { shared_buffers: "256MB" } });
    return await work({ postgres: server.url, directory, port: await freePort(), works: true });
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

const answersPerKillMin = 10;
const body = (customer: string) => JSON.stringify({ customer, email: "ada@example.com", items: [{ sku: "TEA-001", quantity: 2 }] });

/** Asks until it is answered; answers the order's id. */
async function order(port: number, key: string): Promise<string> {
  for (;;) {
    try {
      const response = await fetch(`http://127.0.0.1:${port}/orders`, {
        method: "POST",
        headers: { "content-type": "application/json", "idempotency-key": JSON.stringify(key) },
        body: body(key),
        signal: AbortSignal.timeout(10_000),
      });
      const answer = await response.text();
      if (response.status === 201) return (JSON.parse(answer) as { id: string }).id;
    } catch {
      // Dead, dying or not yet there: ask again under the same key.
    }
    await sleep(20);
  }
}

async function killed(name: string, kills: number, seed: string): Promise<Record<string, number>> {
  const random = seededRandom(`${seed} ${name}`);
  return withServer(async (where) => {
    let child = await serve(name, where);
    let over = false;
    const acknowledged = new Map<string, string>();
    const clients = Array.from({ length: 16 }, async () => {
      while (!over) {
        const key = randomUUID();
        acknowledged.set(key, await order(where.port, key));
      }
    });
    for (let kill = 0; kill < kills; kill++) {
      const before = acknowledged.size;
      await sleep(100 + random.next() * 400);
      // Who is slow is killed at work, too, and not only while it starts.
      for (let waited = 0; acknowledged.size < before + answersPerKillMin && waited < 500; waited++) await sleep(10);
      child.kill("SIGKILL");
      await ended(child);
      child = await serve(name, where);
    }
    over = true;
    await Promise.all(clients);
    let answeredOtherwise = 0;
    for (const [key, id] of acknowledged) if ((await order(where.port, key)) !== id) answeredOtherwise += 1;
    // Leases of what the last process held run out, and everything that is still owed is done.
    let audit: Audit = { orders: [], mails: [] };
    let [before, quiet] = [-1, 0];
    for (let looks = 0; looks < 40 && quiet < 18; looks++) {
      await sleep(5_000);
      audit = (await (await fetch(`http://127.0.0.1:${where.port}/audit`)).json()) as Audit;
      quiet = audit.mails.length === before ? quiet + 1 : 0;
      before = audit.mails.length;
      if (audit.mails.length === audit.orders.length) break;
    }
    child.kill("SIGKILL");
    await ended(child);
    const perKey = new Map<string, number>();
    for (const { customer } of audit.orders) perKey.set(customer, (perKey.get(customer) ?? 0) + 1);
    const mails = new Map(audit.mails);
    const wrong = {
      "without an order": [...acknowledged.keys()].filter((key) => !perKey.has(key)).length,
      "ordered twice": [...perKey.values()].filter((times) => times > 1).length,
      "without a mail": audit.orders.filter(({ id }) => !mails.has(id)).length,
      "mailed twice": [...mails.values()].filter((times) => times > 1).length,
      "answered otherwise": answeredOtherwise,
    };
    return { kills, "keys answered": acknowledged.size, ...wrong, wrong: Object.values(wrong).reduce((sum, count) => sum + count, 0) };
  });
}

for (const name of names.filter((one) => values.only === undefined || values.only.split(",").includes(one))) {
  const row: Row = { name };
  try {
    const measured = await withServer(async (where) => {
      const child = await serve(name, where);
      const figures = await runClient("closed-loop-client", `http://127.0.0.1:${where.port}/orders`, 64, Number(values.seconds));
      child.kill("SIGKILL");
      await ended(child);
      return figures;
    });
    row["orders/s"] = Math.round(measured.opsPerSec);
    row["p50 ms"] = Math.round(measured.p50Ms * 10) / 10;
    row["p99 ms"] = Math.round(measured.p99Ms * 10) / 10;
    if (Number(values.kills) > 0) Object.assign(row, await killed(name, Number(values.kills), values.seed));
  } catch (error) {
    row["failed"] = (error as Error).message.slice(0, 200);
  }
  row["seed"] = values.seed;
  rows.push(row);
  if (values.into !== undefined) {
    const command = "npm run bench -- one-commit-peers --only <name> --into <this file>, for each name";
    keepRow(values.into, { subject: "one-commit-peers", command, keys: ["name"], order: names }, row);
  }
  process.stderr.write(`${JSON.stringify(row)}\n`);
}
process.stderr.write(`seed of the kills: ${values.seed}\n`);
if (values.json) process.stdout.write(`${JSON.stringify({ subject: "one-commit-peers", machine: machine(tmpdir()), rows }, undefined, 2)}\n`);
else console.table(rows);
process.exit(rows.some((row) => row["failed"] !== undefined) ? 1 : 0);

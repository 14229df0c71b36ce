/**
 * The floor: Hono and zod as in `bare`, and by hand what the same request makes durable: its key looked for, then commit, event, job and stored
 * answer in one transaction of everything that waits, with the statements of the engine, inline on the main thread. It has no other checks, no
 * thread, no outcomes, notices, traces, metrics or deadlines; and its event loop stands still while the disk does. At the end the file is opened by the
 * engine, which must find every order.
 */
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { join } from "node:path";
import type { AddressInfo } from "node:net";
import { serve } from "@hono/node-server";
import { Hono } from "hono";
import { systemClock, systemRandom, uuidv7Ids } from "trestle/kernel";
import type { Variant } from "../harness/benchmark.ts";
import { runClient } from "../harness/clients.ts";
import { openForWriting } from "../../packages/trestle/src/sqlite/connection.ts";
import { openSqlite } from "../../packages/trestle/src/sqlite/index.ts";
import { PlaceOrder } from "./order.ts";

const ids = uuidv7Ids(systemClock, systemRandom);
const uuid = (text: string): Buffer => Buffer.from(text.replaceAll("-", ""), "hex");

interface Waiting {
  readonly key: string;
  readonly id: string;
  readonly order: string;
  readonly answer: string;
  readonly resolve: (answer: string) => void;
}

const floor: Variant = async ({ load, seconds, scratch }) => {
  const path = join(scratch, "store.db");
  const db = openForWriting(path, "full");
  const table = `trestle_tokens_24_${Math.floor(Date.now() / 86_400_000)}`;
  db.exec(`create table if not exists ${table} (id integer primary key, key text not null unique, n integer not null, value blob not null)`);
  const sql = (text: string) => db.prepare(text);
  const [begin, commit] = [sql("begin immediate"), sql("commit")];
  const insertCommit = sql("insert into trestle_commits (n, epoch, id, at, keys) values (?, ?, ?, ?, ?) on conflict (id) do nothing");
  const findToken = sql(`select value from ${table} where key = ?`);
  const insertEvent = sql("insert into trestle_events (position, stream, version, n, at, id, type, data, meta) values (?, ?, ?, ?, ?, ?, ?, ?, ?)");
  const insertJob = sql(
    "insert into trestle_jobs (seq, id, queue, state, priority, place, due, sent, attempt, key, uniq, payload, grp, until) values (?, ?, ?, ?, ?, ?, ?, ?, 0, ?, ?, ?, ?, ?) on conflict (id) do nothing",
  );
  const insertToken = sql(`insert into ${table} (key, n, value) values (?, ?, ?)`);

  let n = 0;
  let waiting: Waiting[] = [];
  function flush(): void {
    const batch = waiting;
    waiting = [];
    const at = Date.now();
    const answers: string[] = [];
    begin.run();
    for (const { key, id, order, answer } of batch) {
      const known = findToken.get(key) as { readonly value: Uint8Array } | undefined;
      if (known) {
        answers.push(Buffer.from(known.value).toString());
        continue;
      }
      n++;
      const job = ids.next();
      insertCommit.run(n, 1, uuid(ids.next()), at, `sorders//${id}\u0000j${job}\u0000t${key}`);
      insertEvent.run(n, `orders//${id}`, 1, n, at, uuid(ids.next()), "OrderPlaced", Buffer.from(order), null);
      insertJob.run(n, uuid(job), "mail", 1, 1, n, at, at, null, null, Buffer.from(JSON.stringify({ orderId: id })), null, null);
      insertToken.run(key, n, Buffer.from(answer));
      answers.push(answer);
    }
    commit.run();
    batch.forEach(({ resolve }, i) => resolve(answers[i] as string));
  }

  const app = new Hono();
  app.post("/orders", async (context) => {
    const order = PlaceOrder.safeParse(await context.req.json());
    if (!order.success) return context.json({ error: "invalid" }, 422);
    const key = context.req.header("idempotency-key");
    if (key === undefined) return context.json({ error: "no key" }, 400);
    const id = randomUUID();
    const answer = await new Promise<string>((resolve) => {
      if (
        waiting.push({
          key: `~request/shop.placeOrder//${key}`,
          id,
          order: JSON.stringify(order.data),
          answer: JSON.stringify({ id, status: "placed" }),
          resolve,
        }) === 1
      )
        setImmediate(flush);
    });
    return context.body(answer, 201, { "content-type": "application/json" });
  });
  const port = await new Promise<number>((resolve) => {
    serve({ fetch: app.fetch, port: 0, hostname: "127.0.0.1" }, (address: AddressInfo) => resolve(address.port));
  });
  const measured = await runClient("closed-loop-client", `http://127.0.0.1:${port}/orders`, load, seconds);
  db.close();
  const store = await openSqlite({ path });
  assert.deepEqual(await store.read.head(), { epoch: 1, n, position: n });
  assert.equal((await store.read.queue("mail")).waiting, n);
  await store.close();
  return measured;
};
export default floor;

/** What people write: BEGIN, a statement for each row with a position from a sequence, COMMIT; prepared, a pool of 16. No gapless positions, no commit ids. */
import pg from "pg";
import type { Variant } from "../harness/benchmark.ts";
import { measureCallers } from "../harness/callers.ts";
import { newId, payload, startPostgres } from "./server.ts";

const naive: Variant = async ({ load, seconds }) => {
  await using server = await startPostgres();
  const pool = new pg.Pool({ connectionString: server.url, max: 16 });
  pool.on("error", () => undefined); // idle sessions are cut when the server stops
  await pool.query(`create sequence positions;
    create table event (position bigint primary key, stream text not null, version integer not null, id uuid not null, type text not null, data bytea not null, unique (stream, version));
    create table head (stream text primary key, version integer not null);
    create table record (key text primary key, value bytea not null, version integer not null);
    create table job (id uuid primary key, queue text not null, due timestamptz not null default now(), payload bytea not null);
    create index on job (queue, due)`);
  const measured = await measureCallers(load, seconds, async () => {
    const client = await pool.connect();
    try {
      const key = newId();
      await client.query("begin");
      const record = await client.query({ name: "record", text: "insert into record values ($1, $2, 1) on conflict do nothing", values: [key, payload] });
      const head = await client.query({ name: "head", text: "insert into head values ($1, 1) on conflict do nothing", values: [key] });
      if (record.rowCount !== 1 || head.rowCount !== 1) throw new Error("taken");
      await client.query({
        name: "event",
        text: "insert into event values (nextval('positions'), $1, 1, $2, 'OrderPlaced', $3)",
        values: [key, newId(), payload],
      });
      await client.query({ name: "job", text: "insert into job (id, queue, payload) values ($1, 'mail', $2)", values: [newId(), payload] });
      await client.query("commit");
    } finally {
      client.release();
    }
  });
  await pool.end();
  return measured;
};
export default naive;

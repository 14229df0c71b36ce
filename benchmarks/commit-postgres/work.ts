/** What each variant does once, on a server that is there: `trestle` through the store, the others as people write it. */
import { openPostgres } from "@trestle/postgres";
import pg from "pg";
import { systemClock, systemRandom, uuidv7Ids } from "trestle/kernel";
import type { Commit } from "trestle/store";

const ids = uuidv7Ids(systemClock, systemRandom);
export const newId = (): string => ids.next();
const payload = Buffer.alloc(200, "x");

export interface Work {
  once(): Promise<void>;
  close(): Promise<void>;
}
export type Kind = "trestle" | "sequence" | "gapless";

export function order(): Commit {
  const key = `orders//${systemRandom.uint32().toString(36)}${systemRandom.uint32().toString(36)}`;
  return {
    id: newId(),
    expects: [
      { kind: "record", key, version: 0 },
      { kind: "stream", stream: key, version: 0 },
    ],
    writes: [
      { kind: "put", key, value: payload },
      { kind: "append", stream: key, events: [{ id: newId(), type: "OrderPlaced", data: payload }] },
      { kind: "enqueue", job: { id: newId(), queue: "mail", payload, priority: 1 } },
    ],
  };
}

/** The tables of the two others; once per server. */
export async function makeTables(url: string): Promise<void> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  await client.query(`create sequence positions;
    create table place (one boolean primary key, position bigint not null); insert into place values (true, 0);
    create table event (position bigint primary key, stream text not null, version integer not null, id uuid not null, type text not null, data bytea not null, unique (stream, version));
    create table record (key text primary key, value bytea not null, version integer not null);
    create table job (id uuid primary key, queue text not null, due timestamptz not null default now(), payload bytea not null);
    create index on job (queue, due)`);
  await client.end();
}

export async function work(kind: Kind, url: string): Promise<Work> {
  return kind === "trestle" ? theStore(url) : byHand(kind, url);
}

async function theStore(url: string): Promise<Work> {
  const store = await openPostgres({ url });
  return {
    async once() {
      const outcome = await store.commit(order());
      if (!outcome.ok) throw new Error(`refused: ${outcome.refused}`);
    },
    close: () => store.close(),
  };
}

async function byHand(kind: "sequence" | "gapless", url: string): Promise<Work> {
  const pool = new pg.Pool({ connectionString: url, max: 16 });
  pool.on("error", () => undefined); // idle sessions are cut when the server stops
  return {
    async once() {
      const client = await pool.connect();
      try {
        const key = newId();
        await client.query("begin");
        let position = "";
        if (kind === "gapless")
          position = (await client.query<{ position: string }>({ name: "place", text: "update place set position = position + 1 returning position" })).rows[0]
            ?.position as string;
        const record = await client.query({ name: "record", text: "insert into record values ($1, $2, 1) on conflict do nothing", values: [key, payload] });
        if (record.rowCount !== 1) throw new Error("taken");
        await (kind === "gapless"
          ? client.query({ name: "event", text: "insert into event values ($4, $1, 1, $2, 'OrderPlaced', $3)", values: [key, newId(), payload, position] })
          : client.query({
              name: "event",
              text: "insert into event values (nextval('positions'), $1, 1, $2, 'OrderPlaced', $3)",
              values: [key, newId(), payload],
            }));
        await client.query({ name: "job", text: "insert into job (id, queue, payload) values ($1, 'mail', $2)", values: [newId(), payload] });
        await client.query("commit");
      } finally {
        client.release();
      }
    },
    close: () => pool.end(),
  };
}

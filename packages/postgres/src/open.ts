/**
 * A store on PostgreSQL: its parts, put together.
 *
 * Connections of one process, each opened when it is first needed: one for the lane, one for the flush barrier, up to four for
 * reads, two for what runs beside the lane (claims, resolving, sweeping).
 */
import { Fault, systemClock, systemRandom, type Clock, type Random } from "trestle/kernel";
import type { Store } from "trestle/store";
import { flushBarrier } from "./barrier.ts";
import { beyond } from "./beyond.ts";
import { claimHints } from "./job-batch.ts";
import { jobsPart } from "./jobs.ts";
import { openLane } from "./lane.ts";
import { storeReads } from "./reads.ts";
import { prepareSchema } from "./schema.ts";
import { openPool } from "./sessions.ts";
import { placeOf } from "./url.ts";

export interface PostgresOptions {
  /** `postgres://user:password@host:port/database`; `?schema=` and libpq's `?sslmode=` are understood. */
  readonly url: string;
  /** Holds the tables and functions; made when it is missing. `[a-z_][a-z0-9_]*`, default `trestle`. */
  readonly schema?: string;
  /** Times back-off and waits. The store's clock is the server's. */
  readonly clock?: Clock;
  readonly random?: Random;
  /** For tests: the store's clock instead of the server's. */
  readonly time?: Pick<Clock, "wallMs">;
}

const guarantees = [
  "commit.atomic",
  "commit.durable",
  "commit.survives-crash",
  "commit.serializable-over-keys",
  "commit.once-per-id",
  "log.gapless",
  "log.keeps-head",
  "log.immutable",
  "records.compare-and-set",
  "records.expire",
  "tokens.keep",
  "queue.fifo-per-key",
  "queue.finishes-with-effect",
  "queue.redelivers-after-crash",
] as const;

/** Opens the store, making its schema when it is not there. Faults: `store.url-unknown`, `postgres.schema-name`, `store.unreachable`, `store.newer-format`, `postgres.schema-not-made`. */
export async function openPostgres(options: PostgresOptions): Promise<Store> {
  const { url, schema } = placeOf(options.url, options.schema);
  const clock = options.clock ?? systemClock;
  const random = options.random ?? systemRandom;
  const nowMs = () => options.time?.wallMs() ?? null;
  const pool = (name: string, size: number) => openPool({ url, name: `trestle ${name}`, size, clock, random });
  const pools = { lane: pool("lane", 1), flush: pool("flush", 1), read: pool("read", 4), side: pool("side", 2) };
  const closePools = () => Promise.all(Object.values(pools).map((one) => one.close()));

  let opened: Awaited<ReturnType<typeof prepareSchema>>;
  try {
    opened = await prepareSchema(pools.lane, schema);
  } catch (error) {
    await closePools();
    throw error;
  }
  let epoch = opened.epoch;
  const barrier = flushBarrier(() => pools.flush.query({ name: "flush", text: `select "${schema}".flush_v1()` }));
  const hints = claimHints();
  const lane = openLane({
    schema,
    hints,
    lane: pools.lane,
    side: pools.side,
    barrier,
    clock,
    nowMs,
    applied: (batch) => void (epoch = batch.epoch),
    alone: async (commit) => {
      throw beyond(commit.writes.some(({ kind }) => kind === "sql") ? "sql" : "rows");
    },
  });
  const jobs = jobsPart({
    schema,
    lane,
    read: pools.read,
    barrier,
    hints,
    nowMs,
    applied: (batch) => void (epoch = batch.epoch),
    seen: (at) => void (epoch = at),
  });
  const reads = storeReads({ schema, pool: pools.read, barrier, nowMs, seen: (at) => void (epoch = at) });
  const not = (what: string) => async () => {
    throw beyond(what);
  };

  let closing: Promise<void> | undefined;
  return {
    engine: "postgres",
    dialect: "postgres",
    guarantees: new Set<string>(guarantees),
    get epoch() {
      return epoch;
    },
    async commit(commit) {
      if (closing) throw Fault.create("store.closed", "The store is closed.", "Do not use it after close().");
      return lane.commit(commit);
    },
    resolve: (id) => lane.resolve(id),
    claim: (request) => jobs.claim(request),
    extend: (claims, leaseMs) => jobs.extend(claims, leaseMs),
    read: { ...reads, ...jobs.read, rows: not("rows") },
    transaction: not("transaction"),
    onChange: () => {
      throw beyond("onChange");
    },
    migrate: not("migrate"),
    backup: not("backup"),
    stats: () => lane.stats(),
    close: () =>
      (closing ??= (async () => {
        await lane.idle();
        await closePools();
      })()),
  };
}

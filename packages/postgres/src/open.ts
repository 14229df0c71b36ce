/**
 * A store on PostgreSQL: its parts, put together.
 *
 * Connections of one process, each opened when it is first needed: two for the lane (commits and claims, and the flush behind each batch of them),
 * one for the flush barrier, up to four for reads, two for what runs beside the lane (resolving, sweeping, hints, what others
 * staged), two for the user's own tables, one that listens once somebody asked for change notices, and one in the thread that keeps
 * the claims of who works on jobs.
 */
import { Fault, integerWithin, systemClock, systemRandom, uuidv7Ids, type Clock, type Random } from "trestle/kernel";
import type { Store } from "trestle/store";
import { flushBarrier } from "./barrier.ts";
import { openHeartbeats } from "./heartbeats.ts";
import { claimHints } from "./job-batch.ts";
import { jobsPart } from "./jobs.ts";
import { openLane, type Applied } from "./lane.ts";
import { openNotices } from "./notices.ts";
import { openMover } from "./staged.ts";
import { openSweep } from "./sweep.ts";
import { storeReads } from "./reads.ts";
import { prepareSchema } from "./schema.ts";
import { openPool, reachMsMax, type PoolOptions, type WhenBusy } from "./sessions.ts";
import { placeOf } from "./url.ts";
import { userSql } from "./user-sql.ts";

export interface PostgresOptions {
  /** `postgres://user:password@host:port/database`; `?schema=` and libpq's `?sslmode=` are understood. */
  readonly url: string;
  /** Holds the tables and functions; made when it is missing. `[a-z_][a-z0-9_]*`, default `trestle`. */
  readonly schema?: string;
  /**
   * A connection on which a statement has no answer for so long is given up, as one that a firewall forgot; milliseconds, 1,000 to 600,000, default
   * 30,000. Below 12,000 a wait for a busy lane can be taken for it, which costs a reconnect and never an outcome.
   */
  readonly answerWithinMs?: number;
  /** Times back-off and waits. The store's clock is the server's. */
  readonly clock?: Clock;
  readonly random?: Random;
  /** For tests: the store's clock instead of the server's. */
  readonly time?: Pick<Clock, "wallMs">;
}

/** A batch leaves when the one before is visible, so what both connections wait for is the disk. */
const flushesStandStill: WhenBusy = {
  holds: "the batches before wait for their flush",
  remedy: "Look at the server's disk, and at the standbys in synchronous_standby_names: is one away (pg_stat_replication)?",
};

export const guarantees = [
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
  "queue.pauses",
  "queue.fair-share",
  "queue.limits-exact",
  "queue.deadlines",
  "queue.outlives-blocked-loop",
  "queue.replaces-waiting",
  "queue.keeps-ended",
  "sql.same-commit",
] as const;

/** Opens the store, making its schema when it is not there. Faults: `store.url-unknown`, `postgres.schema-name`, `store.unreachable`, `store.newer-format`, `postgres.schema-not-made`. */
export async function openPostgres(options: PostgresOptions): Promise<Store> {
  const { url, schema } = placeOf(options.url, options.schema);
  const clock = options.clock ?? systemClock;
  const random = options.random ?? systemRandom;
  const nowMs = () => options.time?.wallMs() ?? null;
  const answerWithinMs = integerWithin(options.answerWithinMs ?? 30_000, "answerWithinMs", { least: 1_000, most: 600_000 });
  const pool = (name: string, size: number, more: Partial<PoolOptions> = {}) =>
    openPool({ url, name: `trestle ${name}`, size, answerWithinMs, clock, random, ...more });
  const pools = {
    // Whoever waits for the lane may be one of thousands: not before a flush that stands still was given up, and a connection opened instead.
    lane: pool("lane", 2, { waitMsMax: answerWithinMs + reachMsMax, whenBusy: flushesStandStill }),
    flush: pool("flush", 1),
    read: pool("read", 4),
    side: pool("side", 2),
    tables: pool("tables", 2),
    ear: pool("ear", 1),
  };
  const closePools = () => Promise.all(Object.values(pools).map((one) => one.close()));

  let opened: Awaited<ReturnType<typeof prepareSchema>>;
  try {
    opened = await prepareSchema(pools.lane, schema);
  } catch (error) {
    await closePools();
    throw error;
  }
  let epoch = opened.epoch;
  const barrier = flushBarrier(
    async () => (await pools.flush.query<{ life: string | null }>({ name: "flush", text: `select "${schema}".flush_v1() as life` }))[0]?.life ?? null,
  );
  const hints = claimHints();
  const ids = uuidv7Ids(clock, random);
  const applied = (batch: Applied) => {
    epoch = batch.epoch;
    notices.applied(batch);
  };
  const seen = (at: number, n: number) => {
    epoch = at;
    notices.seen(at, n);
  };
  const lane = openLane({
    schema,
    hints,
    lane: pools.lane,
    side: pools.side,
    barrier,
    clock,
    nowMs,
    applied,
    alone: (commit, inDoubt) => user.commit(commit, inDoubt),
  });
  const jobs = jobsPart({
    schema,
    lane,
    read: pools.read,
    barrier,
    hints,
    nowMs,
    applied,
    seen,
  });
  const reads = storeReads({ schema, pool: pools.read, barrier, nowMs, seen });
  const notices = openNotices({
    schema,
    side: pools.side,
    ear: pools.ear,
    clock,
    random,
    ids,
    from: { epoch: opened.epoch, n: opened.head },
    feed: reads.feed,
    head: reads.head,
  });
  const user = userSql({ schema, answerWithinMs, pool: pools.tables, barrier, clock, ids, nowMs, applied, resolve: (id) => lane.resolve(id) });

  const heartbeats = openHeartbeats({ data: { url, schema, answerWithinMs, holdersTime: options.time !== undefined }, clock, applied });
  const sweep = openSweep({ schema, side: pools.side, clock, random, nowMs });
  const mover = openMover({ schema, side: pools.side, lane, clock, random, ids });

  let closing: Promise<void> | undefined;
  const whenOpen = () => {
    if (closing) throw Fault.create("store.closed", "The store is closed.", "Do not use it after close().");
  };
  return {
    engine: "postgres",
    dialect: "postgres",
    guarantees: new Set<string>(guarantees),
    get epoch() {
      return epoch;
    },
    async commit(commit) {
      whenOpen();
      return lane.commit(commit);
    },
    resolve: (id) => lane.resolve(id),
    claim: (request) => jobs.claim(request),
    extend: (claims, leaseMs) => jobs.extend(claims, leaseMs),
    heartbeat: (holder, how) => (closing ? undefined : heartbeats.heartbeat(holder, how)),
    read: { ...reads, ...jobs.read, rows: (statement) => user.rows(statement) },
    async transaction(work, withinMs) {
      whenOpen();
      return user.transaction(work, withinMs);
    },
    onChange: (listener) => notices.onChange(listener),
    migrate: (component, files) => user.migrate(component, files),
    async backup() {
      throw Fault.create(
        "postgres.backup-elsewhere",
        "a store on PostgreSQL is copied with PostgreSQL's own tools, which copy the rest of the database with it at the same moment",
        `Use pg_basebackup with an archive of the log, or pg_dump (schema ${schema} and your own tables in one run); a restored copy opens with a new epoch.`,
      );
    },
    stats: () => lane.stats(),
    close: () =>
      (closing ??= (async () => {
        await Promise.all([sweep.stop(), mover.stop(), heartbeats.close()]);
        await lane.idle();
        await notices.close();
        await closePools();
      })()),
  };
}

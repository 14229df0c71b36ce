/**
 * Moves a store to another engine while it is used (FINDINGS F13, docs/decisions/0018-live-move.md).
 *
 *   copy     Every part, page by page, each page with the progress it makes: after a crash it goes on where it was.
 *   follow   What has changed meanwhile, from the change feed and the noted jobs, until little is left.
 *   verify   Page by page, by hash; where two pages differ, row by row, and again after following: a row that still differs ends the move.
 *   cut      `seal` in the old store (the pause begins), the rest is followed, what changed since it was verified is compared again, and the
 *            counts; then, in one transaction, the user's own tables are brought over and the new store is opened (the pause ends). Whoever asks
 *            the old one is told where to go on.
 *
 * Until the new store is open everything can be taken back: a difference found after the seal unseals the old store.
 */
import { createHash } from "node:crypto";
import { Fault, sleep, type Clock } from "../kernel/index.ts";
import { moveParts, type Head, type Moved, type MovePart, type MoveProgress, type MoveSource, type MoveTarget, type NewTables } from "../store/index.ts";

export interface MoveOptions {
  readonly source: MoveSource;
  readonly target: MoveTarget;
  /** Written into the old store's last commit: where nodes go on. */
  readonly url: string;
  readonly clock: Clock;
  /** Only looks, and says what it would do. */
  readonly dryRun?: boolean;
  /** What becomes of the user's own tables, while commits wait. Absent: that there are some refuses the move. */
  readonly tables?: (from: MoveSource, into: NewTables) => Promise<void>;
  readonly onProgress?: (step: MoveStepReport) => void;
}
export interface MoveStepReport {
  readonly step: "copy" | "follow" | "verify" | "cut" | "tables";
  readonly part?: MovePart;
  readonly rows: number;
  readonly of?: number;
}
export interface MoveReport {
  readonly rows: Readonly<Record<MovePart, number>>;
  readonly clockOffsetMs: number;
  /** How long commits waited; absent for a dry run, and when an earlier run made the cut. */
  readonly pausedMs?: number;
  readonly head?: Head;
  readonly userTables: readonly string[];
}

const pageRows = 1_000;
const feedCommits = 500;
/** Rounds of following and comparing before rows that differ end the move. */
const verifyRounds = 5;
/** Following again and again does not get nearer: the old store writes faster than the new one takes. */
const followRounds = 200;
/** Beyond the measured offset, a lease gets this much: two clocks are never read at one moment. */
const leaseGraceMs = 2_000;

/** Faults: `move.target-in-use`, `move.other-source`, `move.already-moved`, `move.user-tables`, `move.differs`, `move.too-slow`, and those of the stores. */
export async function move(options: MoveOptions): Promise<MoveReport> {
  const { source, target, url, dryRun, tables, onProgress = () => undefined } = options;
  const userTables = source.userTables();
  if (userTables.length > 0 && tables === undefined && !dryRun)
    throw Fault.create(
      "move.user-tables",
      `the store has tables of your own, whose SQL is of one dialect: ${userTables.join(", ")}`,
      "Name the app, whose sql components have migrations in both dialects and `move` to bring the rows over (`trestle move app.ts`); or say that the tables are left behind (`--leave-tables`).",
      { details: { tables: userTables } },
    );
  let progress = dryRun ? await target.progress() : await target.take();
  if (progress && progress.source !== source.identity)
    throw Fault.create(
      "move.other-source",
      `the new store receives a move from ${progress.source}, not from ${source.identity}`,
      "Continue that move, or abandon it (`--abandon`).",
    );
  if (progress?.opened) return { rows: await counts(options, progress), clockOffsetMs: progress.clockOffsetMs, userTables };
  const clockOffsetMs = progress?.clockOffsetMs ?? (await clockOffset(options));
  if (dryRun) return { rows: counted((part) => source.count(part, source.nowMs())), clockOffsetMs, userTables };

  if (!progress) {
    await source.capture();
    const { n } = source.head();
    progress = { source: source.identity, clockOffsetMs, done: [], cursor: { n, position: 0, jobChange: 0 } };
    await target.begin(progress);
  }
  const run = new Run(options, progress);
  const wasSealed = source.sealed() !== undefined;
  if (!wasSealed) {
    await run.copy();
    await run.follow();
    await run.verify();
  }
  const before = options.clock.monotonicMs();
  let head: Head;
  try {
    head = await source.seal(url);
    onProgress({ step: "cut", rows: 0 });
    await run.follow();
    // What had changed since an earlier mover compared, only that one knew.
    await (wasSealed ? run.verify() : run.verifyChanged());
    await run.verifyCounts();
  } catch (fault) {
    await goBack(options, fault);
    throw fault;
  }
  let tablesFault: unknown;
  try {
    await target.open({ epoch: head.epoch + 1, n: head.n, position: head.position }, { ...run.progress, opened: true }, async (into) => {
      onProgress({ step: "tables", rows: 0 });
      try {
        await tables?.(source, into);
      } catch (error) {
        tablesFault = error;
        throw error;
      }
    });
  } catch (fault) {
    // Otherwise nobody knows whether it is open: the move is started again, and looks.
    if (tablesFault !== undefined) await goBack(options, fault);
    throw fault;
  }
  const pausedMs = options.clock.monotonicMs() - before;
  return { rows: await counts(options, run.progress), clockOffsetMs, pausedMs, head, userTables };
}

/** The new store is not open, and cannot be opened meanwhile: the old one is the store again. */
async function goBack({ source, target }: MoveOptions, why: unknown): Promise<void> {
  try {
    await target.whileMine(() => source.unseal());
  } catch (fault) {
    if (Fault.is(fault, "move.taken-over") || Fault.is(fault, "move.already-moved")) return; // the other mover decides
    throw Fault.create(
      "move.undecided",
      `the cut failed (${(why as Error).message}), and the new store cannot be asked whether it was opened (${(fault as Error).message}); the old store stays sealed`,
      "Start the move again when the new store can be reached, or give it up with --abandon.",
      { cause: why },
    );
  }
}

/** Gives a move up before its cut: the old store goes on alone, the new one is empty again. */
export async function abandonMove({ source, target }: Pick<MoveOptions, "source" | "target">): Promise<void> {
  const progress = await target.take();
  if (progress?.opened)
    throw Fault.create(
      "move.already-moved",
      "the new store is in use already",
      "Move back from there, or restore a backup; a move is given up before its cut only.",
    );
  await target.whileMine(async () => {
    if (source.sealed()) await source.unseal();
  });
  await source.release();
  if (progress) await target.abandon();
}

class Run {
  readonly #options: MoveOptions;
  progress: MoveProgress;
  /** Rows that changed since the verification began, by part and id. */
  readonly #changed = new Map<MovePart, Set<string | number>>();
  #followed = 0;

  constructor(options: MoveOptions, progress: MoveProgress) {
    this.#options = options;
    this.progress = progress;
  }

  async copy(): Promise<void> {
    const { source } = this.#options;
    for (const part of moveParts) {
      if (this.progress.done.includes(part)) continue;
      const of = source.count(part, source.nowMs());
      let rows = 0;
      for (;;) {
        const page = source.page(part, this.progress.after, pageRows);
        rows += page.rows.length;
        const last = page.rows.at(-1)?.id;
        const { cursor, done, after: _, ...kept } = this.progress;
        const position = part === "event" && last !== undefined ? (last as number) : cursor.position;
        const next: MoveProgress = {
          ...kept,
          done: page.next === undefined ? [...done, part] : done,
          cursor: { ...cursor, position },
          ...(page.next === undefined ? {} : { after: page.next }),
        };
        await this.#load(page.rows, next);
        this.#tell({ step: "copy", part, rows, of });
        if (page.next === undefined) break;
      }
    }
  }

  /** Until nothing is left. */
  async follow(): Promise<void> {
    const { source, clock } = this.#options;
    for (let round = 0; ; round++) {
      const { rows, next, atEnd } = source.changes(this.progress.cursor, feedCommits);
      if (rows.length > 0) {
        for (const row of rows) this.#note(row);
        await this.#load(rows, { ...this.progress, cursor: next });
        this.#followed += rows.length;
        this.#tell({ step: "follow", rows: this.#followed });
      }
      if (atEnd && (source.sealed() !== undefined || rows.length < pageRows)) return;
      if (round === followRounds * 50)
        throw Fault.create(
          "move.too-slow",
          "the old store writes faster than the new one takes the changes over",
          "Move when there is less load, or on a faster connection.",
        );
      if (round % 50 === 49) await sleep(clock, 1);
    }
  }

  /** Every page of both stores; what differs is compared again after following. */
  async verify(): Promise<void> {
    const { source, target } = this.#options;
    this.#changed.clear();
    const differing = new Map<MovePart, Set<string | number>>();
    for (const part of moveParts) {
      let rows = 0;
      for (let after: string | number | undefined; ;) {
        const ours = source.page(part, after, pageRows);
        const theirs = await target.page(part, after, pageRows);
        rows += ours.rows.length;
        const expected = new Map(ours.rows.map((row) => [row.id, canonical(this.#shifted(row))]));
        const found = new Map(theirs.rows.map((row) => [row.id, canonical(row)]));
        if (digest(expected.values()) !== digest(found.values())) {
          const suspects = differing.get(part) ?? new Set();
          differing.set(part, suspects);
          for (const [id, text] of expected) if (found.get(id) !== text) suspects.add(id);
          for (const id of found.keys()) if (!expected.has(id)) suspects.add(id);
        }
        this.#tell({ step: "verify", part, rows, of: source.count(part, source.nowMs()) });
        if (ours.next === undefined) break;
        after = ours.next;
      }
    }
    await this.#settle(differing);
  }

  async verifyChanged(): Promise<void> {
    await this.#settle(this.#changed);
  }

  async verifyCounts(): Promise<void> {
    const { source, target } = this.#options;
    const nowMs = source.nowMs();
    for (const part of moveParts) {
      if (part === "commit") continue; // each store forgets old commits by itself
      const [ours, theirs] = [source.count(part, nowMs), await target.count(part, nowMs + this.progress.clockOffsetMs)];
      if (ours !== theirs) throw differs(part, `${theirs} rows where the old store has ${ours}`);
    }
  }

  /** Follows and compares until these rows are the same on both sides. */
  async #settle(suspects: ReadonlyMap<MovePart, ReadonlySet<string | number>>): Promise<void> {
    const { source, target } = this.#options;
    for (const [part, ids] of suspects) {
      let left = [...ids];
      for (let round = 0; left.length > 0; round++) {
        const sealed = source.sealed() !== undefined;
        if (!sealed) await this.follow();
        const still: (string | number)[] = [];
        for (let at = 0; at < left.length; at += pageRows) {
          const some = left.slice(at, at + pageRows);
          const ours = source.look(part, some);
          const theirs = await target.look(part, some);
          some.forEach((id, index) => {
            const [expected, found] = [ours[index] as Moved, theirs[index] as Moved];
            if (canonical(this.#shifted(expected)) !== canonical(found) && !this.#isOver(found)) still.push(id);
          });
        }
        if (still.length > 0 && (sealed || round === verifyRounds))
          throw differs(part, `row ${JSON.stringify(still[0])} is not the same (${still.length} such rows)`);
        left = still;
      }
    }
  }

  /** Each store removes by itself what is over: that one is behind with it is no difference. */
  #isOver(row: Moved): boolean {
    const nowMs = this.#options.source.nowMs() + this.progress.clockOffsetMs;
    if ("gone" in row || "trimmedTo" in row) return false;
    if (row.part === "record") return row.expiresAtMs !== undefined && row.expiresAtMs <= nowMs;
    if (row.part === "token") return row.keepUntilMs <= nowMs;
    return row.part === "commit";
  }

  #note(row: Moved): void {
    if ("trimmedTo" in row) return;
    const known = this.#changed.get(row.part);
    if (known) known.add(row.id);
    else this.#changed.set(row.part, new Set([row.id]));
  }

  async #load(rows: readonly Moved[], progress: MoveProgress): Promise<void> {
    await this.#options.target.load(
      rows.map((row) => this.#shifted(row)),
      progress,
    );
    this.progress = progress;
  }

  /** Times that will be judged are moved to the new store's clock; those that only tell what was are not. */
  #shifted<R extends Moved>(row: R): R {
    const by = this.progress.clockOffsetMs;
    if ("gone" in row || "trimmedTo" in row) return row;
    switch (row.part) {
      case "record":
        return row.expiresAtMs === undefined ? row : { ...row, expiresAtMs: row.expiresAtMs + by };
      case "token":
        return { ...row, keepUntilMs: row.keepUntilMs + by };
      case "job":
        return {
          ...row,
          dueAtMs: row.dueAtMs + by,
          ...(row.leaseUntilMs === undefined ? {} : { leaseUntilMs: row.leaseUntilMs + by + leaseGraceMs }),
          ...(row.untilMs === undefined ? {} : { untilMs: row.untilMs + by }),
        };
      case "queue":
        return { ...row, rates: row.rates.map(([scope, nextMs]) => [scope, nextMs + by] as const) };
      default:
        return row;
    }
  }

  #tell(report: MoveStepReport): void {
    this.#options.onProgress?.(report);
  }
}

/** How far the new store's clock is ahead of the old one's: from the quickest of a few questions. */
async function clockOffset({ source, target, clock }: MoveOptions): Promise<number> {
  let best = { tookMs: Infinity, offsetMs: 0 };
  for (let question = 0; question < 5; question++) {
    const askedMs = clock.monotonicMs();
    const ours = source.nowMs();
    const theirs = await target.nowMs();
    const tookMs = clock.monotonicMs() - askedMs;
    if (tookMs < best.tookMs) best = { tookMs, offsetMs: Math.round(theirs - ours - tookMs / 2) };
  }
  return best.offsetMs;
}

function counted(count: (part: MovePart) => number): Record<MovePart, number> {
  return Object.fromEntries(moveParts.map((part) => [part, count(part)])) as Record<MovePart, number>;
}

async function counts({ source, target }: MoveOptions, { clockOffsetMs }: MoveProgress): Promise<Record<MovePart, number>> {
  const nowMs = source.nowMs() + clockOffsetMs;
  const found: Partial<Record<MovePart, number>> = {};
  for (const part of moveParts) found[part] = await target.count(part, nowMs);
  return found as Record<MovePart, number>;
}

/** One text per row: members in order of their names, bytes as base64, what is undefined left out. */
const canonical = (row: Moved): string => JSON.stringify(plain(row));

function plain(value: unknown): unknown {
  if (value instanceof Uint8Array) return Buffer.from(value.buffer, value.byteOffset, value.byteLength).toString("base64");
  if (Array.isArray(value)) return value.map(plain);
  if (typeof value !== "object" || value === null) return value;
  const members = Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1));
  return Object.fromEntries(members.map(([name, member]) => [name, plain(member)]));
}

function digest(texts: Iterable<string>): string {
  const hash = createHash("sha256");
  for (const text of texts) hash.update(text).update("\n");
  return hash.digest("hex");
}

function differs(part: MovePart, how: string): Fault {
  return Fault.create(
    "move.differs",
    `the stores differ in "${part}": ${how}; nothing was cut over`,
    "Report it, with both stores as they are; the old one goes on.",
    { details: { part } },
  );
}

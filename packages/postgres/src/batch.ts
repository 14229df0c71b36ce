/**
 * A batch of commits as the arguments of commit_batch_v1, and its answer as outcomes. The arrays are described in
 * sql/commit-batch.sql, which is the other half of this file.
 *
 * All payloads travel as one argument with places in it.
 */
import { mintedAtMs } from "trestle/kernel";
import { commitIdRetentionMs, type Commit, type CommitId, type CommitOutcome, type Expectation, type Merge, type Version } from "trestle/store";
import { array, arrayText, parameter, type Argument } from "./arguments.ts";
import { jobEncoder, type ClaimHints } from "./job-batch.ts";

/** What the port's commits may expect, and what this engine's own do: that all of what a foreign transaction staged, up to a row, is still there, and goes with them. */
export type InternalExpectation = Expectation | { readonly kind: "staged"; readonly tx: number; readonly seq: number; readonly rows: number };
export interface InternalCommit extends Omit<Commit, "expects"> {
  readonly expects: readonly InternalExpectation[];
}

export interface BatchOptions extends BatchEnd {
  readonly inDoubt: (id: CommitId) => boolean;
  readonly hints?: ClaimHints;
}

export interface EncodedBatch {
  readonly arguments: readonly Argument[];
  /** The same as parameters of `batchCall`. */
  readonly parameters: readonly unknown[];
  outcomes(row: BatchRow): readonly CommitOutcome[];
  /** The commits that wrote something and stand, with the keys of the feed. */
  applied(row: BatchRow): readonly { readonly n: number; readonly keys: readonly string[] }[];
  /** Does the answer rest on nothing but commits up to `row.head`? Not when an id was resolved without a commit, now or before: that has no number. */
  restsOnCommits(row: BatchRow): boolean;
}

/** The one row that commit_batch_v1 answers; numbers of 64 bits are text, or numbers in the JSON of a refusal. */
export interface BatchRow {
  readonly status: readonly number[];
  readonly epoch: readonly number[];
  readonly number: readonly (string | number)[];
  readonly failed: readonly number[];
  readonly stopped: readonly number[];
  readonly standing: readonly string[];
  readonly now_epoch: number;
  readonly head: string | number;
  /** Commits of the batch that gave work to a queue, beside those that send to it, and the queue: one pair each. */
  readonly gave_commit: readonly number[];
  readonly gave_queue: readonly string[];
  readonly life: string;
  /** When not null, all were applied, under numbers from this one on, and the first three are empty. */
  readonly first: string | null;
}

/** The row of a batch that was refused inside its caller's transaction. */
export const refusedInside = (detail: string): BatchRow => JSON.parse(detail) as BatchRow;

const record = 1,
  token = 2,
  stream = 3;
type SlotKind = typeof record | typeof token | typeof stream;
const op = {
  version: 1,
  writtenHere: 2,
  writtenBefore: 3,
  streamAfterHere: 4,
  unchanged: 5,
  streamAfterBefore: 6,
  staged: 7,
  claimHolds: 8,
  put: 10,
  remove: 11,
  token: 12,
  append: 13,
  trim: 14,
  add: 20,
  max: 21,
  min: 22,
  union: 23,
  setOnce: 24,
  take: 25,
  claimEnds: 30,
} as const;

/** A batch that is still taking commits: what they need is written as they come, while the batch before is on its way. */
export interface BatchEncoder {
  /** The next commit. `inDoubt`: somebody was left without its outcome, so a refusal of it is written down and stays the answer. */
  add(commit: InternalCommit, inDoubt: boolean): void;
  end(options: BatchEnd): EncodedBatch;
}
export interface BatchEnd {
  /** The store's clock, when it is not the server's. */
  readonly nowMs: number | null;
  /** The one commit is applied inside a transaction of its caller's: a refusal is thrown (`refusedInside`), and undoes that. */
  readonly inside?: boolean;
}

/** The commits, in order, at once. */
export function encodeBatch(commits: readonly InternalCommit[], { inDoubt, hints, ...end }: BatchOptions): EncodedBatch {
  const encoder = batchEncoder(hints);
  for (const commit of commits) encoder.add(commit, inDoubt(commit.id));
  return encoder.end(end);
}

/** `hints`: where the rows of claims are, as far as is known here. Longer than most functions: it is the one place that knows the order of the arguments. */
export function batchEncoder(hints?: ClaimHints): BatchEncoder {
  const chunks: Uint8Array[] = [];
  let payloadBytes = 0;
  const store = (bytes: Uint8Array): number => {
    chunks.push(bytes);
    payloadBytes += bytes.byteLength;
    return payloadBytes - bytes.byteLength + 1; // SQL counts from 1
  };

  const slots = { kind: [] as number[], key: [] as string[], merges: [] as boolean[], owner: [] as number[], writer: [] as number[], source: [] as number[] };
  // No two commits touch one key, each writes, each key once: sql/commit-batch.sql judges them at once.
  let apart = true;
  const slotOf = [new Map<string, number>(), new Map<string, number>(), new Map<string, number>()] as const;
  const slot = (kind: SlotKind, key: string, merges = false): number => {
    const known = slotOf[kind === record ? 0 : kind === token ? 1 : 2];
    let at = known.get(key);
    if (at === undefined) {
      at = slots.key.push(key);
      slots.kind.push(kind);
      slots.merges.push(false);
      slots.owner.push(0);
      slots.writer.push(0);
      slots.source.push(0);
      known.set(key, at);
    }
    if (merges) slots.merges[at - 1] = true;
    return at;
  };

  const per = { id: [] as string[], last: [] as number[], writes: [] as boolean[], inDoubt: [] as boolean[], keys: [] as string[] };
  const ops = {
    kind: [] as number[],
    slot: [] as number[],
    number: [] as number[],
    ref: [] as number[],
    length: [] as number[],
    until: [] as (number | null)[],
    key: [] as string[],
    commit: [] as number[],
  };
  const merges = { text: [] as string[], low: [] as number[], high: [] as number[] };
  const events = {
    commit: [] as number[],
    op: [] as number[],
    id: [] as string[],
    type: [] as string[],
    from: [] as number[],
    length: [] as number[],
    meta: [] as number[],
  };
  const jobs = jobEncoder(store, hints);
  const older: string[] = [];
  const prefixes: string[] = [];
  const entries: string[] = [];
  const wrote: ReadonlySet<string>[] = [];
  const place = new Map<CommitId, number>();
  let oldestMs = Number.MAX_SAFE_INTEGER;

  function add(commit: InternalCommit, inDoubt: boolean): void {
    const at = per.id.length;
    const n = at + 1;
    place.set(commit.id, n);
    oldestMs = Math.min(oldestMs, mintedAtMs(commit.id) as number);
    const operation = (kind: number, key: string, onSlot: number, number = 0, ref = 0, length = 0, until: number | null = null) => {
      ops.kind.push(kind);
      ops.slot.push(onSlot);
      ops.number.push(number);
      ops.ref.push(ref);
      ops.length.push(length);
      ops.until.push(until);
      ops.key.push(key);
      ops.commit.push(at);
      if (kind === op.claimHolds || kind === op.claimEnds) apart &&= jobs.claimedBy(onSlot, n, kind === op.claimEnds);
      else if (kind === op.version || kind === op.put || kind === op.token || kind === op.append) {
        const owner = slots.owner[onSlot - 1];
        const written = slots.writer[onSlot - 1] !== 0;
        apart &&= (owner === 0 || owner === n) && !written;
        slots.owner[onSlot - 1] = n;
        if (kind !== op.version) slots.writer[onSlot - 1] = n;
        if (kind === op.put || kind === op.token) slots.source[onSlot - 1] = ops.kind.length;
      } else apart = false;
    };
    const bytes = (kind: number, key: string, onSlot: number, value: Uint8Array, until: number | null = null) =>
      operation(kind, key, onSlot, store(value), 0, value.byteLength, until);
    const expectStream = ({ stream: key, version, after }: Expectation & { readonly kind: "stream" }) => {
      const onSlot = slot(stream, key);
      if (after === undefined) return operation(op.version, key, onSlot, version);
      const here = place.get(after);
      if (here !== undefined && here < n) return operation(op.streamAfterHere, key, onSlot, version, here);
      return operation(op.streamAfterBefore, key, onSlot, version, older.push(after));
    };
    const expectVersion = (key: string, onSlot: number, version: Version) => {
      if (typeof version === "number") return operation(op.version, key, onSlot, version);
      const here = place.get(version);
      if (here !== undefined && here < n) return operation(op.writtenHere, key, onSlot, 0, here);
      return operation(op.writtenBefore, key, onSlot, 0, older.push(version));
    };
    const merge = (key: string, by: Merge) => {
      if (by.kind === "take") {
        merges.low.push(by.amountUs);
        merges.high.push(by.burstUs);
        return operation(op.take, key, slot(record, key, true), 0, 0, merges.text.push(""));
      }
      if (by.kind === "set-once") return bytes(op.setOnce, key, slot(record, key), by.value);
      const text = by.kind === "add" ? by.amount : by.kind === "union" ? by.members : by.value;
      merges.low.push(Math.ceil(Math.max(by.kind === "add" ? (by.min ?? -Infinity) : 0, Number.MIN_SAFE_INTEGER)));
      merges.high.push(Math.floor(Math.min(by.kind === "add" ? (by.max ?? Infinity) : 0, Number.MAX_SAFE_INTEGER)));
      return operation(op[by.kind], key, slot(record, key, true), 0, merges.text.push(JSON.stringify(text)));
    };

    for (const expectation of commit.expects) {
      if (expectation.kind === "record") expectVersion(expectation.key, slot(record, expectation.key), expectation.version);
      else if (expectation.kind === "token") expectVersion(expectation.key, slot(token, expectation.key), expectation.version);
      else if (expectation.kind === "stream") expectStream(expectation);
      else if (expectation.kind === "unchanged") operation(op.unchanged, expectation.prefix, 1, expectation.since, prefixes.push(expectation.prefix));
      else if (expectation.kind === "claim")
        operation(op.claimHolds, expectation.job, jobs.claim(expectation.job), expectation.fence.n, expectation.fence.epoch);
      else if (expectation.kind === "staged") operation(op.staged, `staged ${expectation.tx}`, 1, expectation.tx, expectation.rows, 0, expectation.seq);
    }
    // Before all writes: a claim that is over refuses its commit before anything of it is staged.
    for (const write of commit.writes) if (write.kind === "finish") operation(op.claimEnds, write.job, jobs.claim(write.job), write.fence.n, write.fence.epoch);
    const keys = new Set<string>();
    wrote.push(keys);
    for (const write of commit.writes) {
      if (write.kind === "put") {
        const listed = write.index?.length ? entries.push(JSON.stringify(write.index.map(({ field, value }) => [field, value]))) : 0;
        operation(op.put, write.key, slot(record, write.key), store(write.value), listed, write.value.byteLength, write.expiresAtMs ?? null);
        keys.add(`r${write.key}`);
      } else if (write.kind === "remove") {
        operation(op.remove, write.key, slot(record, write.key));
        keys.add(`r${write.key}`);
      } else if (write.kind === "merge") {
        merge(write.key, write.merge);
        keys.add(`r${write.key}`);
      } else if (write.kind === "token") {
        bytes(op.token, write.key, slot(token, write.key), write.value, write.keepForMs);
        keys.add(`t${write.key}`);
      } else if (write.kind === "append") {
        const onSlot = slot(stream, write.stream);
        operation(op.append, write.stream, onSlot, write.events.length, events.id.length + 1);
        keys.add(`s${write.stream}`);
        for (const event of write.events) {
          events.commit.push(n);
          events.op.push(ops.kind.length);
          events.id.push(event.id);
          events.type.push(event.type);
          events.from.push(store(event.data));
          events.length.push(event.data.byteLength);
          events.meta.push(event.meta ? event.meta.byteLength : -1);
          if (event.meta) store(event.meta);
        }
      } else if (write.kind === "trim") {
        operation(op.trim, write.stream, slot(stream, write.stream), write.upTo);
        keys.add(`s${write.stream}`);
      } else if (write.kind === "enqueue") {
        jobs.enqueue(n, write.job);
        keys.add(`j${write.job.id}`).add(`q${write.job.queue}`);
      } else if (write.kind === "finish" || write.kind === "cancel" || write.kind === "redrive") {
        if (write.kind === "finish") jobs.finish(n, write.job, write.end);
        else if (write.kind === "cancel") jobs.cancel(n, write.job);
        else jobs.redrive(n, write.job, write.payload);
        keys.add(`j${write.job}`);
      } else if (write.kind === "pause") jobs.pause(n, write.queue, write.paused);
    }
    per.id.push(commit.id);
    per.last.push(ops.kind.length);
    per.writes.push(commit.writes.length > 0);
    if (commit.writes.length === 0) apart = false;
    per.inDoubt.push(inDoubt);
    per.keys.push(arrayText([...keys]));
  }

  function end({ nowMs, inside = false }: BatchEnd): EncodedBatch {
    const given: readonly Argument[] = [
      nowMs,
      inside,
      commitIdRetentionMs,
      oldestMs,
      Buffer.concat(chunks),
      array("uuid", per.id),
      array("int4", per.last),
      array("bool", inside ? per.writes.map(() => true) : per.writes),
      array("bool", per.inDoubt),
      array("text", per.keys),
      array("int4", slots.kind),
      array("text", slots.key),
      array("bool", slots.merges),
      apart && !inside,
      array("int4", slots.writer),
      array("int4", slots.source),
      array("uuid", older),
      array("text", prefixes),
      array("text", entries),
      array("int4", ops.kind),
      array("int4", ops.slot),
      array("int8", ops.number),
      array("int4", ops.ref),
      array("int4", ops.length),
      array("int8", ops.until),
      array("text", merges.text),
      array("int8", merges.low),
      array("int8", merges.high),
      array("int4", events.commit),
      array("int4", events.op),
      array("uuid", events.id),
      array("text", events.type),
      array("int4", events.from),
      array("int4", events.length),
      array("int4", events.meta),
      ...jobs.arguments(),
    ];
    return {
      arguments: given,
      parameters: given.map(parameter),
      applied(row) {
        const gave = new Map<number, string[]>();
        row.gave_commit.forEach((n, at) => gave.set(n, [...(gave.get(n) ?? []), `q${row.gave_queue[at]}`]));
        const from = Number(row.first);
        if (row.first !== null) return wrote.map((keys, at) => ({ n: from + at, keys: [...keys, ...(gave.get(at + 1) ?? [])] }));
        return wrote.flatMap((keys, at) =>
          row.status[at] === 0 && (inside || per.writes[at]) ? [{ n: Number(row.number[at]), keys: [...keys, ...(gave.get(at + 1) ?? [])] }] : [],
        );
      },
      restsOnCommits: (row) => row.first !== null || !row.status.some((status, at) => status === 3 || (status > 0 && per.inDoubt[at])),
      outcomes(row) {
        if (row.first !== null) {
          const from = Number(row.first);
          return per.id.map((_, at) => ({ ok: true, epoch: row.now_epoch, n: from + at }));
        }
        const conflicts = new Map<number, Set<string>>();
        for (const failed of row.failed) {
          const at = ops.commit[failed - 1] as number;
          const keys = conflicts.get(at) ?? new Set();
          conflicts.set(at, keys.add(ops.key[failed - 1] as string));
        }
        const stops = new Map(
          row.stopped.map((stopped, at) => [
            ops.commit[stopped - 1] as number,
            { key: ops.key[stopped - 1] as string, kind: ops.kind[stopped - 1], standing: row.standing[at] as string },
          ]),
        );
        return per.id.map((_, at): CommitOutcome => {
          switch (row.status[at]) {
            case 0:
              return {
                ok: true,
                epoch: row.epoch[at] as number,
                n: Number(row.number[at]),
                ...(stops.has(at) && { takenUs: Number(stops.get(at)?.standing) }),
              };
            case 1:
              return { ok: false, refused: "conflict", keys: [...(conflicts.get(at) ?? [])] };
            case 2:
              return { ok: false, refused: "guard", key: stops.get(at)?.key as string, value: Number(stops.get(at)?.standing) };
            case 4: {
              const stop = stops.get(at);
              return {
                ok: false,
                refused: "statement",
                message: `a merge on ${stop?.key} needs ${stop?.kind === op.union ? "a JSON array of texts" : "a JSON number"}, and the record holds something else`,
              };
            }
            case 5:
              return { ok: false, refused: "fenced", job: stops.get(at)?.key as string };
            default:
              return { ok: false, refused: "resolved" };
          }
        });
      },
    };
  }
  return { add, end };
}

/** The parameters of a call, `$1` to the last. */
export function batchCall(schema: string): string {
  const count = encodeBatch([], { nowMs: null, inside: false, inDoubt: () => false }).parameters.length;
  return `select * from "${schema}".commit_batch_v1(${Array.from({ length: count }, (_, at) => `$${at + 1}`).join(", ")})`;
}

/**
 * Batches between threads. Structured clone is slow for thousands of small objects, texts and byte arrays, and quick for one long text and one
 * buffer. So a batch is flattened into these two: all its texts end to end, and a buffer with the lengths and numbers first and the
 * payloads behind them, which is transferred, not copied.
 *
 * Over 400 lines because packing and unpacking of each kind stand side by side, and must be changed together.
 *
 * Measured over a message port, batches of 24 commits of event, job and token: 2 µs each for packing and posting, 1 µs for receiving and unpacking.
 * As one flat array of texts and numbers both took 3; as objects about 20.
 */
import type {
  Commit,
  CommitOutcome,
  Claims,
  Expectation,
  Fence,
  IndexEntry,
  JobEnd,
  Merge,
  NewEvent,
  QueueClaim,
  QueuePolicy,
  SqlValue,
  Statement,
  Version,
  Write,
} from "../store/index.ts";
import { isFailure, type BatchReply, type Failure, type MoveStep, type Operation, type Result } from "./operation.ts";

export interface Packed {
  readonly text: string;
  /** How many numbers, the numbers, the payloads. */
  readonly bytes: ArrayBuffer;
}

const numberBytes = Float64Array.BYTES_PER_ELEMENT;
/** Packing is done at once, so one is enough for all. */
let numbers = new Float64Array(4_096);

class Packer {
  readonly #texts: string[] = [];
  #count = 0;
  readonly #payloads: Uint8Array[] = [];
  #payloadBytes = 0;

  number(value: number): void {
    if (this.#count === numbers.length) {
      const more = new Float64Array(numbers.length * 2);
      more.set(numbers);
      numbers = more;
    }
    numbers[this.#count++] = value;
  }
  boolean(value: boolean): void {
    this.number(value ? 1 : 0);
  }
  text(value: string): void {
    this.number(value.length);
    this.#texts.push(value);
  }
  bytes(value: Uint8Array): void {
    this.number(value.byteLength);
    this.#payloads.push(value);
    this.#payloadBytes += value.byteLength;
  }
  /** Whether it is there, and then the number. */
  optionalNumber(value: number | undefined): void {
    this.boolean(value !== undefined);
    if (value !== undefined) this.number(value);
  }
  /** Its length is -1 where it is not there. */
  optionalText(value: string | undefined): void {
    if (value === undefined) this.number(-1);
    else this.text(value);
  }
  optionalBytes(value: Uint8Array | undefined): void {
    if (value === undefined) this.number(-1);
    else this.bytes(value);
  }
  done(): Packed {
    const numbersEnd = (this.#count + 1) * numberBytes;
    const bytes = new ArrayBuffer(numbersEnd + this.#payloadBytes);
    const head = new Float64Array(bytes, 0, this.#count + 1);
    head[0] = this.#count;
    head.set(numbers.subarray(0, this.#count), 1);
    const payloads = new Uint8Array(bytes, numbersEnd);
    let at = 0;
    for (const payload of this.#payloads) {
      payloads.set(payload, at);
      at += payload.byteLength;
    }
    return { text: this.#texts.join(""), bytes };
  }
}

class Unpacker {
  readonly #text: string;
  readonly #numbers: Float64Array;
  readonly #buffer: ArrayBuffer;
  #at = 0;
  #textAt = 0;
  #payloadAt: number;

  constructor({ text, bytes }: Packed) {
    this.#text = text;
    const count = new Float64Array(bytes, 0, 1)[0] as number;
    this.#numbers = new Float64Array(bytes, numberBytes, count);
    this.#buffer = bytes;
    this.#payloadAt = (count + 1) * numberBytes;
  }
  number(): number {
    const value = this.#numbers[this.#at++];
    if (value === undefined) throw new Error("what came is no batch: it ends too early");
    return value;
  }
  boolean(): boolean {
    return this.number() === 1;
  }
  text(): string {
    return this.#cut(this.number());
  }
  bytes(): Uint8Array {
    return this.#view(this.number());
  }
  optionalNumber(): number | undefined {
    return this.boolean() ? this.number() : undefined;
  }
  optionalText(): string | undefined {
    const length = this.number();
    return length < 0 ? undefined : this.#cut(length);
  }
  optionalBytes(): Uint8Array | undefined {
    const size = this.number();
    return size < 0 ? undefined : this.#view(size);
  }
  list<T>(one: () => T): T[] {
    const count = this.number();
    const all = new Array<T>(count);
    for (let i = 0; i < count; i++) all[i] = one();
    return all;
  }
  #cut(length: number): string {
    return this.#text.slice(this.#textAt, (this.#textAt += length));
  }
  #view(size: number): Uint8Array {
    const value = new Uint8Array(this.#buffer, this.#payloadAt, size);
    this.#payloadAt += size;
    return value;
  }
}

/** Names as numbers: their places in a list. Throws for a number that is none of them. */
function named<Name extends string>(names: readonly Name[]): { readonly numberOf: Readonly<Record<Name, number>>; nameOf(number: number): Name } {
  const numberOf = Object.fromEntries(names.map((name, at) => [name, at])) as Record<Name, number>;
  return {
    numberOf,
    nameOf(number) {
      const name = names[number];
      if (name === undefined) throw new Error(`what came is no batch: ${number} is not one of ${names.join(", ")}`);
      return name;
    },
  };
}
const operationKinds = named<Operation["kind"]>(["commit", "resolve", "claim", "extend", "keep", "release", "migrate", "tend", "move"]);
const expectationKinds = named<Expectation["kind"]>(["record", "token", "stream", "unchanged", "claim", "rows"]);
const writeKinds = named<Write["kind"]>(["put", "remove", "merge", "token", "append", "trim", "enqueue", "finish", "cancel", "redrive", "pause", "sql"]);
const mergeKinds = named<Merge["kind"]>(["add", "max", "min", "union", "set-once", "take"]);
const endKinds = named<JobEnd["kind"]>(["done", "retry", "later", "dead", "parked", "undetermined"]);
const sqlKinds = named(["null", "number", "text", "bytes", "true", "false", "bigint"]);
const resultKinds = named(["committed", "nothing", "failure", "outcome", "held", "claims"]);

/** A property that is there only when it has a value: `exactOptionalPropertyTypes` means it. */
const optional = <Name extends string, T>(name: Name, value: T | undefined): { [K in Name]?: T } =>
  value === undefined ? {} : ({ [name]: value } as { [K in Name]: T });

// ---- operations -----------------------------------------------------------------------------------------------------

export function packOperations(operations: readonly Operation[]): Packed {
  const to = new Packer();
  to.number(operations.length);
  for (const operation of operations) {
    to.number(operationKinds.numberOf[operation.kind]);
    switch (operation.kind) {
      case "commit":
        packCommit(to, operation.commit);
        break;
      case "resolve":
        to.text(operation.id);
        break;
      case "claim":
        to.text(operation.request.holder);
        to.number(operation.request.leaseMs);
        to.number(operation.request.queues.length);
        for (const claim of operation.request.queues) packQueueClaim(to, claim);
        break;
      case "extend":
        to.number(operation.leaseMs);
        to.number(operation.claims.length);
        for (const { id, fence } of operation.claims) (to.text(id), packFence(to, fence));
        break;
      case "keep":
        to.text(operation.holder);
        to.number(operation.leaseMs);
        break;
      case "release":
        to.text(operation.holder);
        to.number(operation.madeUpTo);
        break;
      case "migrate":
        for (const text of [operation.component, operation.name, operation.text, operation.digest]) to.text(text);
        break;
      case "move":
        (to.text(operation.step), to.text(operation.url));
        break;
      case "tend":
    }
  }
  return to.done();
}

/** Throws when it is no batch. */
export function unpackOperations(packed: Packed): Operation[] {
  const from = new Unpacker(packed);
  return from.list((): Operation => {
    const kind = operationKinds.nameOf(from.number());
    switch (kind) {
      case "commit":
        return { kind, commit: unpackCommit(from) };
      case "resolve":
        return { kind, id: from.text() };
      case "claim":
        return { kind, request: { holder: from.text(), leaseMs: from.number(), queues: from.list(() => unpackQueueClaim(from)) } };
      case "extend":
        return { kind, leaseMs: from.number(), claims: from.list(() => ({ id: from.text(), fence: unpackFence(from) })) };
      case "keep":
        return { kind, holder: from.text(), leaseMs: from.number() };
      case "release":
        return { kind, holder: from.text(), madeUpTo: from.number() };
      case "migrate":
        return { kind, component: from.text(), name: from.text(), text: from.text(), digest: from.text() };
      case "move":
        return { kind, step: from.text() as MoveStep, url: from.text() };
      case "tend":
        return { kind };
    }
  });
}

function packQueueClaim(to: Packer, { queue, limit, policy }: QueueClaim): void {
  to.text(queue);
  to.number(limit);
  to.optionalText(policy && JSON.stringify(policy));
}
function unpackQueueClaim(from: Unpacker): QueueClaim {
  const [queue, limit, policy] = [from.text(), from.number(), from.optionalText()];
  return { queue, limit, ...optional("policy", policy === undefined ? undefined : (JSON.parse(policy) as QueuePolicy)) };
}

export function packOne(commit: Commit): Packed {
  const to = new Packer();
  packCommit(to, commit);
  return to.done();
}
export const unpackOne = (packed: Packed): Commit => unpackCommit(new Unpacker(packed));

function packCommit(to: Packer, { id, expects, writes }: Commit): void {
  to.text(id);
  to.number(expects.length);
  for (const expectation of expects) packExpectation(to, expectation);
  to.number(writes.length);
  for (const write of writes) packWrite(to, write);
}
function unpackCommit(from: Unpacker): Commit {
  return { id: from.text(), expects: from.list(() => unpackExpectation(from)), writes: from.list(() => unpackWrite(from)) };
}

function packExpectation(to: Packer, expectation: Expectation): void {
  to.number(expectationKinds.numberOf[expectation.kind]);
  switch (expectation.kind) {
    case "record":
    case "token":
      to.text(expectation.key);
      packVersion(to, expectation.version);
      break;
    case "stream":
      to.text(expectation.stream);
      to.number(expectation.version);
      to.optionalText(expectation.after);
      break;
    case "unchanged":
      to.text(expectation.prefix);
      to.number(expectation.since);
      break;
    case "claim":
      to.text(expectation.job);
      packFence(to, expectation.fence);
      break;
    case "rows":
      packStatement(to, expectation.statement);
      to.text(expectation.digest);
  }
}
function unpackExpectation(from: Unpacker): Expectation {
  const kind = expectationKinds.nameOf(from.number());
  switch (kind) {
    case "record":
    case "token":
      return { kind, key: from.text(), version: unpackVersion(from) };
    case "stream":
      return { kind, stream: from.text(), version: from.number(), ...optional("after", from.optionalText()) };
    case "unchanged":
      return { kind, prefix: from.text(), since: from.number() };
    case "claim":
      return { kind, job: from.text(), fence: unpackFence(from) };
    case "rows":
      return { kind, statement: unpackStatement(from), digest: from.text() };
  }
}

/** A number, or a text: also the values of an index. */
function packVersion(to: Packer, version: Version): void {
  const isText = typeof version === "string";
  to.boolean(isText);
  if (isText) to.text(version);
  else to.number(version);
}
const unpackVersion = (from: Unpacker): Version => (from.boolean() ? from.text() : from.number());

function packWrite(to: Packer, write: Write): void {
  to.number(writeKinds.numberOf[write.kind]);
  switch (write.kind) {
    case "put":
      to.text(write.key);
      to.bytes(write.value);
      to.optionalNumber(write.expiresAtMs);
      to.number(write.index?.length ?? 0);
      for (const { field, value } of write.index ?? []) (to.text(field), packVersion(to, value));
      break;
    case "remove":
      to.text(write.key);
      break;
    case "merge":
      to.text(write.key);
      packMerge(to, write.merge);
      break;
    case "token":
      to.text(write.key);
      to.bytes(write.value);
      to.number(write.keepForMs);
      break;
    case "append":
      to.text(write.stream);
      to.number(write.events.length);
      for (const { id, type, data, meta } of write.events) (to.text(id), to.text(type), to.bytes(data), to.optionalBytes(meta));
      break;
    case "trim":
      to.text(write.stream);
      to.number(write.upTo);
      break;
    case "enqueue": {
      const { job } = write;
      to.text(job.id);
      to.text(job.queue);
      to.bytes(job.payload);
      to.number(job.priority);
      to.optionalNumber(job.dueAtMs);
      to.optionalText(job.key);
      to.optionalText(job.unique);
      to.optionalText(job.group);
      to.optionalNumber(job.startByMs);
      to.boolean(job.replace !== undefined);
      if (job.replace) to.optionalNumber(job.replace.atMostMs);
      break;
    }
    case "finish":
      to.text(write.job);
      packFence(to, write.fence);
      packEnd(to, write.end);
      break;
    case "cancel":
      to.text(write.job);
      break;
    case "redrive":
      to.text(write.job);
      to.optionalBytes(write.payload);
      break;
    case "pause":
      to.text(write.queue);
      to.boolean(write.paused);
      break;
    case "sql":
      packStatement(to, write.statement);
  }
}
function unpackWrite(from: Unpacker): Write {
  const kind = writeKinds.nameOf(from.number());
  switch (kind) {
    case "put": {
      const [key, value, expiresAtMs] = [from.text(), from.bytes(), from.optionalNumber()];
      const index = from.list((): IndexEntry => ({ field: from.text(), value: unpackVersion(from) }));
      return { kind, key, value, ...optional("expiresAtMs", expiresAtMs), ...(index.length ? { index } : {}) };
    }
    case "remove":
      return { kind, key: from.text() };
    case "merge":
      return { kind, key: from.text(), merge: unpackMerge(from) };
    case "token":
      return { kind, key: from.text(), value: from.bytes(), keepForMs: from.number() };
    case "append":
      return {
        kind,
        stream: from.text(),
        events: from.list((): NewEvent => ({ id: from.text(), type: from.text(), data: from.bytes(), ...optional("meta", from.optionalBytes()) })),
      };
    case "trim":
      return { kind, stream: from.text(), upTo: from.number() };
    case "enqueue":
      return {
        kind,
        job: {
          id: from.text(),
          queue: from.text(),
          payload: from.bytes(),
          priority: from.number(),
          ...optional("dueAtMs", from.optionalNumber()),
          ...optional("key", from.optionalText()),
          ...optional("unique", from.optionalText()),
          ...optional("group", from.optionalText()),
          ...optional("startByMs", from.optionalNumber()),
          ...(from.boolean() ? { replace: optional("atMostMs", from.optionalNumber()) } : {}),
        },
      };
    case "finish":
      return { kind, job: from.text(), fence: unpackFence(from), end: unpackEnd(from) };
    case "cancel":
      return { kind, job: from.text() };
    case "redrive":
      return { kind, job: from.text(), ...optional("payload", from.optionalBytes()) };
    case "pause":
      return { kind, queue: from.text(), paused: from.boolean() };
    case "sql":
      return { kind, statement: unpackStatement(from) };
  }
}

function packMerge(to: Packer, merge: Merge): void {
  to.number(mergeKinds.numberOf[merge.kind]);
  switch (merge.kind) {
    case "add":
      to.number(merge.amount);
      to.optionalNumber(merge.min);
      to.optionalNumber(merge.max);
      break;
    case "max":
    case "min":
      to.number(merge.value);
      break;
    case "union":
      to.number(merge.members.length);
      for (const member of merge.members) to.text(member);
      break;
    case "set-once":
      to.bytes(merge.value);
      break;
    case "take":
      to.number(merge.amountUs);
      to.number(merge.burstUs);
  }
}
function unpackMerge(from: Unpacker): Merge {
  const kind = mergeKinds.nameOf(from.number());
  switch (kind) {
    case "add":
      return { kind, amount: from.number(), ...optional("min", from.optionalNumber()), ...optional("max", from.optionalNumber()) };
    case "max":
    case "min":
      return { kind, value: from.number() };
    case "union":
      return { kind, members: from.list(() => from.text()) };
    case "set-once":
      return { kind, value: from.bytes() };
    case "take":
      return { kind, amountUs: from.number(), burstUs: from.number() };
  }
}

function packFence(to: Packer, fence: Fence): void {
  to.number(fence.epoch);
  to.number(fence.n);
}
const unpackFence = (from: Unpacker): Fence => ({ epoch: from.number(), n: from.number() });

function packEnd(to: Packer, end: JobEnd): void {
  to.number(endKinds.numberOf[end.kind]);
  to.number("dueAtMs" in end ? end.dueAtMs : 0);
  to.optionalText("error" in end ? end.error : "reason" in end ? end.reason : undefined);
  to.optionalNumber("keepUntilMs" in end ? end.keepUntilMs : undefined);
}
function unpackEnd(from: Unpacker): JobEnd {
  const kind = endKinds.nameOf(from.number());
  const dueAtMs = from.number();
  const why = from.optionalText();
  const keepUntilMs = from.optionalNumber();
  switch (kind) {
    case "done":
      return { kind, ...optional("keepUntilMs", keepUntilMs) };
    case "dead":
      return { kind, error: why as string, ...optional("keepUntilMs", keepUntilMs) };
    case "retry":
      return { kind, dueAtMs, error: why as string };
    case "later":
      return { kind, dueAtMs, ...optional("reason", why) };
    default:
      return { kind, error: why as string };
  }
}

function packStatement(to: Packer, { text, parameters }: Statement): void {
  to.text(text);
  to.number(parameters.length);
  for (const value of parameters) packSqlValue(to, value);
}
function unpackStatement(from: Unpacker): Statement {
  return { text: from.text(), parameters: from.list(() => unpackSqlValue(from)) };
}

function packSqlValue(to: Packer, value: SqlValue): void {
  const { numberOf } = sqlKinds;
  if (value === null) return to.number(numberOf.null);
  switch (typeof value) {
    case "boolean":
      return to.number(value ? numberOf.true : numberOf.false);
    case "number":
      to.number(numberOf.number);
      return to.number(value);
    case "bigint":
      to.number(numberOf.bigint);
      return to.text(String(value));
    case "string":
      to.number(numberOf.text);
      return to.text(value);
    default:
      to.number(numberOf.bytes);
      to.bytes(value);
  }
}
function unpackSqlValue(from: Unpacker): SqlValue {
  const kind = sqlKinds.nameOf(from.number());
  switch (kind) {
    case "null":
      return null;
    case "number":
      return from.number();
    case "text":
      return from.text();
    case "bytes":
      return from.bytes();
    case "bigint":
      return BigInt(from.text());
    default:
      return kind === "true";
  }
}

// ---- replies --------------------------------------------------------------------------------------------------------

/** The number of an accepted commit, which is what is common, costs two numbers. */
export function packReply(reply: BatchReply, epoch: number): Packed {
  const to = new Packer();
  to.number(reply.n);
  to.boolean(reply.told === true);
  to.number(reply.queues.length);
  for (const queue of reply.queues) to.text(queue);
  to.number(reply.results.length);
  for (const result of reply.results) packResult(to, result, epoch);
  return to.done();
}

function packResult(to: Packer, result: Result, epoch: number): void {
  const { numberOf } = resultKinds;
  if (result === undefined) return to.number(numberOf.nothing);
  if (isFailure(result)) return (to.number(numberOf.failure), to.text(JSON.stringify(result)));
  if ("ok" in result) {
    if (result.ok && result.epoch === epoch && result.takenUs === undefined) return (to.number(numberOf.committed), to.number(result.n));
    return (to.number(numberOf.outcome), to.text(JSON.stringify(result)));
  }
  if (!("jobs" in result)) {
    to.number(numberOf.held);
    to.number(result.length);
    for (const held of result) to.boolean(held);
    return;
  }
  to.number(numberOf.claims);
  to.number(result.nowMs);
  to.optionalNumber(result.nextDueAtMs);
  to.number(result.jobs.length);
  for (const job of result.jobs) {
    to.text(job.id);
    packFence(to, job.fence);
    to.text(job.queue);
    to.bytes(job.payload);
    to.optionalText(job.key);
    to.number(job.attempt);
    to.boolean(job.again);
    to.number(job.sentAtMs);
    to.number(job.leaseUntilMs);
  }
}

export function unpackReply(packed: Packed, epoch: number): BatchReply {
  const from = new Unpacker(packed);
  const n = from.number();
  const told = from.boolean();
  const queues = from.list(() => from.text());
  const results = from.list((): Result => {
    switch (resultKinds.nameOf(from.number())) {
      case "committed":
        return { ok: true, epoch, n: from.number() };
      case "nothing":
        return undefined;
      case "failure":
        return JSON.parse(from.text()) as Failure;
      case "outcome":
        return JSON.parse(from.text()) as CommitOutcome;
      case "held":
        return from.list(() => from.boolean());
      case "claims": {
        const nowMs = from.number();
        const nextDueAtMs = from.optionalNumber();
        const jobs = from.list(() => ({
          id: from.text(),
          fence: unpackFence(from),
          queue: from.text(),
          // A copy: a view would keep the payloads of the whole batch alive as long as one job runs.
          payload: from.bytes().slice(),
          key: from.optionalText(),
          attempt: from.number(),
          again: from.boolean(),
          sentAtMs: from.number(),
          leaseUntilMs: from.number(),
        }));
        return { jobs, nextDueAtMs, nowMs } satisfies Claims;
      }
    }
  });
  return { results, queues, n, ...(told && { told }) };
}

/** The newest commit that a packed reply tells of. */
export const replyNumber = (packed: Packed): number => new Unpacker(packed).number();

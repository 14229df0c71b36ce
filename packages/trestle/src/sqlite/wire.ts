/**
 * Batches between threads. Structured clone is slow for thousands of small objects and byte arrays (each carries its property
 * names and its own buffer), and quick for one flat array of texts and numbers. So a batch is flattened into `items`, and all its
 * payloads are laid end to end in one buffer that is transferred, not copied.
 *
 * Over 400 lines because packing and unpacking of each kind stand side by side, and must be changed together.
 *
 * Measured (benchmarks note in README.md): a commit of event + job + record packs and unpacks in about 2 µs; cloned as objects it takes about 20.
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
  Write,
} from "../store/index.ts";
import { isFailure, type BatchReply, type Failure, type Operation, type Result } from "./operation.ts";

export type Item = string | number | bigint | boolean | null | undefined;
export interface Packed {
  readonly items: readonly Item[];
  readonly bytes: ArrayBuffer;
}

class Packer {
  readonly items: Item[] = [];
  #payloads: Uint8Array[] = [];
  #size = 0;
  add(item: Item): void {
    this.items.push(item);
  }
  bytes(value: Uint8Array | undefined): void {
    if (value === undefined) return void this.items.push(-1);
    this.items.push(value.byteLength);
    this.#payloads.push(value);
    this.#size += value.byteLength;
  }
  done(): Packed {
    const all = new Uint8Array(this.#size);
    let at = 0;
    for (const payload of this.#payloads) {
      all.set(payload, at);
      at += payload.byteLength;
    }
    return { items: this.items, bytes: all.buffer };
  }
}

class Unpacker {
  readonly #items: readonly Item[];
  readonly #buffer: ArrayBuffer;
  #at = 0;
  #offset = 0;
  constructor({ items, bytes }: Packed) {
    this.#items = items;
    this.#buffer = bytes;
  }
  next<T extends Item>(): T {
    return this.#items[this.#at++] as T;
  }
  bytes(): Uint8Array | undefined {
    const size = this.#items[this.#at++] as number;
    if (size < 0) return undefined;
    const value = new Uint8Array(this.#buffer, this.#offset, size);
    this.#offset += size;
    return value;
  }
  list<T>(one: () => T): T[] {
    const count = this.next<number>();
    const all = new Array<T>(count);
    for (let i = 0; i < count; i++) all[i] = one();
    return all;
  }
}

/** A property that is there only when it has a value: `exactOptionalPropertyTypes` means it. */
const optional = <Name extends string, T>(name: Name, value: T | undefined): { [K in Name]?: T } =>
  value === undefined ? {} : ({ [name]: value } as { [K in Name]: T });

// ---- operations -----------------------------------------------------------------------------------------------------

export function packOperations(operations: readonly Operation[]): Packed {
  const packer = new Packer();
  packer.add(operations.length);
  for (const operation of operations) {
    packer.add(operation.kind);
    switch (operation.kind) {
      case "commit":
        packCommit(packer, operation.commit);
        break;
      case "resolve":
        packer.add(operation.id);
        break;
      case "claim":
        packer.add(operation.request.holder);
        packer.add(operation.request.leaseMs);
        packer.add(operation.request.queues.length);
        for (const { queue, limit, policy } of operation.request.queues) (packer.add(queue), packer.add(limit), packer.add(policy && JSON.stringify(policy)));
        break;
      case "extend":
        packer.add(operation.leaseMs);
        packer.add(operation.claims.length);
        for (const { id, fence } of operation.claims) (packer.add(id), packFence(packer, fence));
        break;
      case "keep":
        packer.add(operation.holder);
        packer.add(operation.leaseMs);
        break;
      case "release":
        packer.add(operation.holder);
        break;
      case "migrate":
        for (const item of [operation.component, operation.name, operation.text, operation.digest]) packer.add(item);
        break;
      case "move":
        (packer.add(operation.step), packer.add(operation.url));
        break;
      case "tend":
    }
  }
  return packer.done();
}

export function unpackOperations(packed: Packed): Operation[] {
  const from = new Unpacker(packed);
  return from.list((): Operation => {
    const kind = from.next<Operation["kind"]>();
    switch (kind) {
      case "commit":
        return { kind, commit: unpackCommit(from) };
      case "resolve":
        return { kind, id: from.next() };
      case "claim":
        return {
          kind,
          request: { holder: from.next(), leaseMs: from.next(), queues: from.list(() => unpackQueueClaim(from)) },
        };
      case "extend":
        return { kind, leaseMs: from.next(), claims: from.list(() => ({ id: from.next<string>(), fence: unpackFence(from) })) };
      case "keep":
        return { kind, holder: from.next(), leaseMs: from.next() };
      case "release":
        return { kind, holder: from.next() };
      case "migrate":
        return { kind, component: from.next(), name: from.next(), text: from.next(), digest: from.next() };
      case "move":
        return { kind, step: from.next(), url: from.next() };
      case "tend":
        return { kind };
    }
  });
}

function unpackQueueClaim(from: Unpacker): QueueClaim {
  const [queue, limit, policy] = [from.next<string>(), from.next<number>(), from.next<string | undefined>()];
  return { queue, limit, ...optional("policy", policy === undefined ? undefined : (JSON.parse(policy) as QueuePolicy)) };
}

export function packOne(commit: Commit): Packed {
  const packer = new Packer();
  packCommit(packer, commit);
  return packer.done();
}
export const unpackOne = (packed: Packed): Commit => unpackCommit(new Unpacker(packed));

function packCommit(packer: Packer, { id, expects, writes }: Commit): void {
  packer.add(id);
  packer.add(expects.length);
  for (const expectation of expects) packExpectation(packer, expectation);
  packer.add(writes.length);
  for (const write of writes) packWrite(packer, write);
}
function unpackCommit(from: Unpacker): Commit {
  return { id: from.next(), expects: from.list(() => unpackExpectation(from)), writes: from.list(() => unpackWrite(from)) };
}

function packExpectation(packer: Packer, expectation: Expectation): void {
  packer.add(expectation.kind);
  switch (expectation.kind) {
    case "record":
    case "token":
      packer.add(expectation.key);
      packer.add(expectation.version);
      break;
    case "stream":
      packer.add(expectation.stream);
      packer.add(expectation.version);
      packer.add(expectation.after);
      break;
    case "unchanged":
      packer.add(expectation.prefix);
      packer.add(expectation.since);
      break;
    case "claim":
      packer.add(expectation.job);
      packFence(packer, expectation.fence);
      break;
    case "rows":
      packStatement(packer, expectation.statement);
      packer.add(expectation.digest);
  }
}
function unpackExpectation(from: Unpacker): Expectation {
  const kind = from.next<Expectation["kind"]>();
  switch (kind) {
    case "record":
    case "token":
      return { kind, key: from.next(), version: from.next<string | number>() };
    case "stream":
      return { kind, stream: from.next(), version: from.next(), ...optional("after", from.next<string | undefined>()) };
    case "unchanged":
      return { kind, prefix: from.next(), since: from.next() };
    case "claim":
      return { kind, job: from.next(), fence: unpackFence(from) };
    case "rows":
      return { kind, statement: unpackStatement(from), digest: from.next() };
  }
}

function packWrite(packer: Packer, write: Write): void {
  packer.add(write.kind);
  switch (write.kind) {
    case "put":
      packer.add(write.key);
      packer.bytes(write.value);
      packer.add(write.expiresAtMs);
      packer.add(write.index?.length ?? 0);
      for (const { field, value } of write.index ?? []) (packer.add(field), packer.add(value));
      break;
    case "remove":
      packer.add(write.key);
      break;
    case "merge":
      packer.add(write.key);
      packMerge(packer, write.merge);
      break;
    case "token":
      packer.add(write.key);
      packer.bytes(write.value);
      packer.add(write.keepForMs);
      break;
    case "append":
      packer.add(write.stream);
      packer.add(write.events.length);
      for (const event of write.events) (packer.add(event.id), packer.add(event.type), packer.bytes(event.data), packer.bytes(event.meta));
      break;
    case "trim":
      packer.add(write.stream);
      packer.add(write.upTo);
      break;
    case "enqueue": {
      const { job } = write;
      packer.add(job.id);
      packer.add(job.queue);
      packer.bytes(job.payload);
      packer.add(job.dueAtMs);
      packer.add(job.priority);
      packer.add(job.key);
      packer.add(job.unique);
      packer.add(job.group);
      packer.add(job.startByMs);
      packer.add(job.replace !== undefined);
      if (job.replace) packer.add(job.replace.atMostMs);
      break;
    }
    case "finish":
      packer.add(write.job);
      packFence(packer, write.fence);
      packEnd(packer, write.end);
      break;
    case "cancel":
      packer.add(write.job);
      break;
    case "redrive":
      packer.add(write.job);
      packer.bytes(write.payload);
      break;
    case "pause":
      packer.add(write.queue);
      packer.add(write.paused);
      break;
    case "sql":
      packStatement(packer, write.statement);
  }
}
function unpackWrite(from: Unpacker): Write {
  const kind = from.next<Write["kind"]>();
  switch (kind) {
    case "put": {
      const key = from.next<string>();
      const value = from.bytes() as Uint8Array;
      const expiresAtMs = from.next<number | undefined>();
      const index = from.list((): IndexEntry => ({ field: from.next(), value: from.next<string | number>() }));
      return { kind, key, value, ...optional("expiresAtMs", expiresAtMs), ...(index.length ? { index } : {}) };
    }
    case "remove":
      return { kind, key: from.next() };
    case "merge":
      return { kind, key: from.next(), merge: unpackMerge(from) };
    case "token":
      return { kind, key: from.next(), value: from.bytes() as Uint8Array, keepForMs: from.next() };
    case "append":
      return {
        kind,
        stream: from.next(),
        events: from.list((): NewEvent => ({ id: from.next(), type: from.next(), data: from.bytes() as Uint8Array, ...optional("meta", from.bytes()) })),
      };
    case "trim":
      return { kind, stream: from.next(), upTo: from.next() };
    case "enqueue": {
      const [id, queue] = [from.next<string>(), from.next<string>()];
      const payload = from.bytes() as Uint8Array;
      const dueAtMs = from.next<number | undefined>();
      const priority = from.next<number>();
      return {
        kind,
        job: {
          id,
          queue,
          payload,
          priority,
          ...optional("dueAtMs", dueAtMs),
          ...optional("key", from.next<string | undefined>()),
          ...optional("unique", from.next<string | undefined>()),
          ...optional("group", from.next<string | undefined>()),
          ...optional("startByMs", from.next<number | undefined>()),
          ...(from.next<boolean>() ? { replace: optional("atMostMs", from.next<number | undefined>()) } : {}),
        },
      };
    }
    case "finish":
      return { kind, job: from.next(), fence: unpackFence(from), end: unpackEnd(from) };
    case "cancel":
      return { kind, job: from.next() };
    case "redrive":
      return { kind, job: from.next(), ...optional("payload", from.bytes()) };
    case "pause":
      return { kind, queue: from.next(), paused: from.next() };
    case "sql":
      return { kind, statement: unpackStatement(from) };
  }
}

function packMerge(packer: Packer, merge: Merge): void {
  packer.add(merge.kind);
  switch (merge.kind) {
    case "add":
      packer.add(merge.amount);
      packer.add(merge.min);
      packer.add(merge.max);
      break;
    case "max":
    case "min":
      packer.add(merge.value);
      break;
    case "union":
      packer.add(merge.members.length);
      for (const member of merge.members) packer.add(member);
      break;
    case "set-once":
      packer.bytes(merge.value);
  }
}
function unpackMerge(from: Unpacker): Merge {
  const kind = from.next<Merge["kind"]>();
  switch (kind) {
    case "add":
      return { kind, amount: from.next(), ...optional("min", from.next<number | undefined>()), ...optional("max", from.next<number | undefined>()) };
    case "max":
    case "min":
      return { kind, value: from.next() };
    case "union":
      return { kind, members: from.list(() => from.next<string>()) };
    case "set-once":
      return { kind, value: from.bytes() as Uint8Array };
  }
}

function packFence(packer: Packer, fence: Fence): void {
  packer.add(fence.epoch);
  packer.add(fence.n);
}
const unpackFence = (from: Unpacker): Fence => ({ epoch: from.next(), n: from.next() });

function packEnd(packer: Packer, end: JobEnd): void {
  packer.add(end.kind);
  packer.add("dueAtMs" in end ? end.dueAtMs : undefined);
  packer.add("error" in end ? end.error : "reason" in end ? end.reason : undefined);
  packer.add("keepUntilMs" in end ? end.keepUntilMs : undefined);
}
function unpackEnd(from: Unpacker): JobEnd {
  const kind = from.next<JobEnd["kind"]>();
  const dueAtMs = from.next<number>();
  const why = from.next<string | undefined>();
  const keepUntilMs = from.next<number | undefined>();
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

function packStatement(packer: Packer, { text, parameters }: Statement): void {
  packer.add(text);
  packer.add(parameters.length);
  for (const value of parameters) {
    packer.add(value instanceof Uint8Array);
    if (value instanceof Uint8Array) packer.bytes(value);
    else packer.add(value);
  }
}
function unpackStatement(from: Unpacker): Statement {
  return {
    text: from.next(),
    parameters: from.list((): SqlValue => (from.next<boolean>() ? (from.bytes() as Uint8Array) : from.next<string | number | bigint | boolean | null>())),
  };
}

// ---- replies --------------------------------------------------------------------------------------------------------

/** Results as one item each for what is common (the number of an accepted commit), and more for the rest. */
export function packReply(reply: BatchReply, epoch: number): Packed {
  const packer = new Packer();
  packer.add(reply.n);
  packer.add(reply.told === true);
  packer.add(reply.queues.length);
  for (const queue of reply.queues) packer.add(queue);
  packer.add(reply.results.length);
  for (const result of reply.results) packResult(packer, result, epoch);
  return packer.done();
}

function packResult(packer: Packer, result: Result, epoch: number): void {
  if (result === undefined) return packer.add(null);
  if (isFailure(result)) return (packer.add("failure"), packer.add(JSON.stringify(result)));
  if ("ok" in result) {
    if (result.ok && result.epoch === epoch) return packer.add(result.n);
    return (packer.add("outcome"), packer.add(JSON.stringify(result)));
  }
  if (!("jobs" in result)) {
    packer.add("held");
    packer.add(result.length);
    for (const held of result) packer.add(held);
    return;
  }
  packer.add("claims");
  packer.add(result.nowMs);
  packer.add(result.nextDueAtMs);
  packer.add(result.jobs.length);
  for (const job of result.jobs) {
    packer.add(job.id);
    packFence(packer, job.fence);
    packer.add(job.queue);
    packer.bytes(job.payload);
    for (const item of [job.key, job.attempt, job.again, job.sentAtMs, job.leaseUntilMs]) packer.add(item);
  }
}

export function unpackReply(packed: Packed, epoch: number): BatchReply {
  const from = new Unpacker(packed);
  const n = from.next<number>();
  const told = from.next<boolean>();
  const queues = from.list(() => from.next<string>());
  const results = from.list((): Result => {
    const head = from.next<number | string | null>();
    if (typeof head === "number") return { ok: true, epoch, n: head };
    switch (head) {
      case null:
        return undefined;
      case "failure":
        return JSON.parse(from.next<string>()) as Failure;
      case "outcome":
        return JSON.parse(from.next<string>()) as CommitOutcome;
      case "held":
        return from.list(() => from.next<boolean>());
      default: {
        const nowMs = from.next<number>();
        const nextDueAtMs = from.next<number | undefined>();
        const jobs = from.list(() => ({
          id: from.next<string>(),
          fence: unpackFence(from),
          queue: from.next<string>(),
          // A copy: a view would keep the payloads of the whole batch alive as long as one job runs.
          payload: (from.bytes() as Uint8Array).slice(),
          key: from.next<string | undefined>(),
          attempt: from.next<number>(),
          again: from.next<boolean>(),
          sentAtMs: from.next<number>(),
          leaseUntilMs: from.next<number>(),
        }));
        return { jobs, nextDueAtMs, nowMs } satisfies Claims;
      }
    }
  });
  return { results, queues, n, ...(told && { told }) };
}

/** The newest commit that a packed reply tells of. */
export const replyNumber = (packed: Packed): number => new Unpacker(packed).next<number>();

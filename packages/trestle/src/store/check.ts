/**
 * What a commit must be before it is let in: sizes, names, ids. Wrong use is a fault that names the rule and the value. The same
 * for every engine, so that a commit one of them takes is not refused by the next.
 */
import { Fault, mintedAtMs } from "../kernel/index.ts";
import type { Commit, Statement, Write } from "./commit.ts";
import { limits } from "./limits.ts";
import type { ClaimRequest, QueuePolicy } from "./store.ts";

/** Bytes of framing counted for each write, so that a million empty ones are not free. */
const writeBytes = 32;

/** Checks it, and answers its size in bytes, keys and payloads together. */
export function checkCommit(commit: Commit): number {
  checkId(commit.id, "commit.id");
  if (commit.expects.length > limits.expectationsMax) {
    throw Fault.create(
      "commit.read-set-full",
      `a commit may have ${limits.expectationsMax} expectations, this one has ${commit.expects.length}`,
      "Read fewer keys in one handler, or expect a whole prefix to be unchanged.",
      { details: { expectations: commit.expects.length } },
    );
  }
  let sizeBytes = 0;
  for (const expectation of commit.expects) {
    switch (expectation.kind) {
      case "record":
      case "token":
        sizeBytes += checkKey(expectation.key, "expectation.key");
        if (typeof expectation.version === "string") checkId(expectation.version, "expectation.version");
        break;
      case "stream":
        sizeBytes += checkKey(expectation.stream, "expectation.stream");
        if (expectation.after !== undefined) checkId(expectation.after, "expectation.after");
        break;
      case "unchanged":
        sizeBytes += checkKey(expectation.prefix, "expectation.prefix");
        break;
      case "claim":
        checkId(expectation.job, "expectation.job");
        break;
      case "rows":
        sizeBytes += statementBytes(expectation.statement);
    }
  }
  for (const write of commit.writes) sizeBytes += writeBytes + checkWrite(write);
  if (sizeBytes > limits.commitBytesMax) {
    throw Fault.create(
      "commit.too-large",
      `a commit may have ${limits.commitBytesMax} bytes, this one has ${sizeBytes}`,
      "Split the work, or store large payloads as files and commit their references.",
      { details: { sizeBytes } },
    );
  }
  return sizeBytes;
}

function checkWrite(write: Write): number {
  switch (write.kind) {
    case "put": {
      let sizeBytes =
        checkKey(write.key, "put.key") + write.value.byteLength + (write.expiresAtMs === undefined ? 0 : checkNumber(write.expiresAtMs, "put.expiresAtMs"));
      for (const entry of write.index ?? [])
        sizeBytes +=
          checkKey(entry.field, "put.index.field") +
          (typeof entry.value === "string" ? checkKey(entry.value, `put.index.${entry.field}`) : checkNumber(entry.value, `put.index.${entry.field}`));
      return sizeBytes;
    }
    case "remove":
      return checkKey(write.key, "remove.key");
    case "merge": {
      const { merge } = write;
      const sizeBytes = checkKey(write.key, "merge.key");
      if (merge.kind === "add" && !Number.isSafeInteger(merge.amount))
        throw Fault.create("commit.not-an-integer", `add must be an integer within 2^53, got ${merge.amount}`, "Count in whole units.", {
          details: { key: write.key },
        });
      if (merge.kind === "take" && !(Number.isSafeInteger(merge.amountUs) && Number.isSafeInteger(merge.burstUs) && merge.amountUs <= merge.burstUs))
        throw Fault.create(
          "commit.not-an-integer",
          `take must be integers within 2^53, and at most its burst, got ${merge.amountUs} of ${merge.burstUs}`,
          "Count in whole microseconds.",
          { details: { key: write.key } },
        );
      if (merge.kind === "max" || merge.kind === "min") checkNumber(merge.value, `merge.${merge.kind}`);
      if (merge.kind === "union") return sizeBytes + merge.members.reduce((sum, member) => sum + checkText(member, "merge.union", limits.commitBytesMax), 0);
      return sizeBytes + (merge.kind === "set-once" ? merge.value.byteLength : 8);
    }
    case "token":
      if (!(write.keepForMs > 0 && write.keepForMs <= limits.tokenKeepMsMax))
        throw Fault.create(
          "token.keep-out-of-range",
          `keepForMs must be above 0 and at most ${limits.tokenKeepMsMax} (30 days), got ${write.keepForMs}`,
          "Keep it for a shorter time, or use a record.",
          { details: { key: write.key } },
        );
      return checkKey(write.key, "token.key") + write.value.byteLength;
    case "append": {
      let sizeBytes = checkKey(write.stream, "append.stream");
      for (const event of write.events) {
        checkId(event.id, "event.id");
        const eventBytes = event.data.byteLength + (event.meta?.byteLength ?? 0);
        if (eventBytes > limits.eventBytesMax)
          throw Fault.create(
            "event.too-large",
            `an event may have ${limits.eventBytesMax} bytes, this one (${event.type}) has ${eventBytes}`,
            "Store the payload as a file and append its reference.",
            { details: { type: event.type, sizeBytes: eventBytes } },
          );
        sizeBytes += writeBytes + eventBytes + checkKey(event.type, "event.type");
      }
      return sizeBytes;
    }
    case "trim":
      if (!Number.isSafeInteger(write.upTo) || write.upTo < 0)
        throw Fault.create("commit.not-an-integer", `trim.upTo must be a version, 0 or more, got ${write.upTo}`, "Name the last event to remove.", {
          details: { stream: write.stream },
        });
      return checkKey(write.stream, "trim.stream");
    case "enqueue": {
      const { job } = write;
      checkId(job.id, "job.id");
      if (job.dueAtMs !== undefined) checkNumber(job.dueAtMs, "job.dueAtMs");
      if (!Number.isSafeInteger(job.priority))
        throw Fault.create("job.priority-not-an-integer", `priority must be an integer, lower is sooner, got ${job.priority}`, "Use 0, 1 or 2.", {
          details: { queue: job.queue },
        });
      return (
        checkKey(job.queue, "job.queue") +
        job.payload.byteLength +
        (job.key === undefined ? 0 : checkKey(job.key, "job.key")) +
        (job.unique === undefined ? 0 : checkKey(job.unique, "job.unique")) +
        (job.replace?.atMostMs === undefined ? 0 : checkNumber(job.replace.atMostMs, "job.replace.atMostMs")) +
        (job.group === undefined ? 0 : checkKey(job.group, "job.group")) +
        (job.startByMs === undefined ? 0 : checkNumber(job.startByMs, "job.startByMs"))
      );
    }
    case "finish":
      checkId(write.job, "finish.job");
      if ("dueAtMs" in write.end) checkNumber(write.end.dueAtMs, "finish.dueAtMs");
      if ("keepUntilMs" in write.end && write.end.keepUntilMs !== undefined) checkNumber(write.end.keepUntilMs, "finish.keepUntilMs");
      // An error's text is for people: SQLite replaces what is not Unicode in it.
      return "error" in write.end ? write.end.error.length : 0;
    case "cancel":
      checkId(write.job, "cancel.job");
      return 0;
    case "redrive":
      checkId(write.job, "redrive.job");
      return write.payload?.byteLength ?? 0;
    case "pause":
      return checkKey(write.queue, "pause.queue");
    case "sql":
      return statementBytes(write.statement);
  }
}

export function checkId(id: string, option: string): void {
  if (mintedAtMs(id) === undefined)
    throw Fault.create("store.id-not-uuidv7", `${option} must be a UUIDv7 in lower case, got ${JSON.stringify(id)}`, "Mint ids with the kernel's Ids.", {
      details: { option },
    });
}

/** The same for every engine: what a claim may ask. */
export function checkClaim({ leaseMs, queues }: ClaimRequest): void {
  checkAbove0(leaseMs, "claim.leaseMs");
  for (const { queue, limit, policy } of queues) {
    checkKey(queue, "claim.queue");
    checkCount(limit, "claim.limit");
    if (policy) checkPolicy(policy);
  }
}

function checkPolicy({ concurrency, rate, perGroup, weights, keepDeadMs }: QueuePolicy): void {
  for (const [part, limit] of [
    ["", { concurrency, rate }],
    [".perGroup", perGroup ?? {}],
  ] as const) {
    if (limit.concurrency !== undefined) checkCount(limit.concurrency, `claim.policy${part}.concurrency`);
    if (limit.rate) {
      checkAbove0(limit.rate.everyMs, `claim.policy${part}.rate.everyMs`);
      checkNumber(limit.rate.slackMs, `claim.policy${part}.rate.slackMs`);
    }
  }
  for (const [group, weight] of Object.entries(weights ?? {}))
    if (!(Number.isInteger(weight) && weight >= 1 && weight <= limits.groupWeightMax))
      throw outOfRange(`claim.policy.weights.${group}`, `an integer from 1 to ${limits.groupWeightMax}`, weight);
  if (keepDeadMs !== undefined) checkAbove0(keepDeadMs, "claim.policy.keepDeadMs");
}

export function checkAbove0(ms: number, option: string): void {
  if (!(Number.isFinite(ms) && ms > 0)) throw outOfRange(option, "milliseconds above 0", ms);
}
function checkCount(count: number, option: string): void {
  if (!Number.isInteger(count) || count < 0) throw outOfRange(option, "an integer, 0 or more", count);
}
function outOfRange(option: string, rule: string, seen: number): Fault {
  return Fault.create("option.out-of-range", `${option} must be ${rule}, got ${seen}`, `Set ${option} within the range.`);
}

/** UTF-8 bytes of a key, stream, queue or name. */
export function checkKey(key: string, option: string): number {
  return checkText(key, option, limits.keyBytesMax, "store.key-too-long");
}

function checkText(text: string, option: string, most: number, tooLong: "store.key-too-long" | "commit.too-large" = "commit.too-large"): number {
  // A lone surrogate has no UTF-8: two different texts would become one key. NUL ends a text in PostgreSQL.
  if (!text.isWellFormed() || text.includes("\u0000"))
    throw Fault.create(
      "store.key-not-text",
      `${option} must be Unicode text without NUL and lone surrogates, got ${JSON.stringify(text.slice(0, 100))}`,
      "Encode bytes before they become a key, for example with base64url.",
      { details: { option } },
    );
  const sizeBytes = text.length * 3 <= most ? text.length : Buffer.byteLength(text);
  if (sizeBytes > most)
    throw Fault.create(
      tooLong,
      `${option} may have ${most} bytes of UTF-8, got ${sizeBytes}: ${JSON.stringify(text.slice(0, 60))}…`,
      "Shorten it, or use a digest of it.",
      { details: { option, sizeBytes } },
    );
  return sizeBytes;
}

function checkNumber(value: number, option: string): number {
  if (!Number.isFinite(value))
    throw Fault.create("commit.not-a-number", `${option} must be a finite number, got ${value}`, "Leave out what is not a number.", { details: { option } });
  return 8;
}

function statementBytes({ text, parameters }: Statement): number {
  return (
    text.length +
    parameters.reduce<number>((sum, value) => sum + (typeof value === "string" ? value.length : value instanceof Uint8Array ? value.byteLength : 8), 0)
  );
}

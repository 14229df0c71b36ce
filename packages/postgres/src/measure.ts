/** What a commit may hold: checked before it waits for anything, so that one caller's mistake never reaches a batch of others. */
import { Fault, mintedAtMs } from "trestle/kernel";
import { limits, type Commit } from "trestle/store";

/**
 * The bytes of a commit, payloads and texts together. Faults with `commit.read-set-full`, `commit.too-large`, `commit.malformed`
 * (an id that is no UUIDv7; a text that PostgreSQL cannot hold) and `postgres.beyond-the-proof`.
 */
export function commitBytes(commit: Commit): number {
  if (mintedAtMs(commit.id) === undefined) throw malformed("id", "must be a UUIDv7", commit.id);
  if (commit.expects.length > limits.expectationsMax) {
    throw Fault.create("commit.read-set-full", `A commit expects at most ${limits.expectationsMax} things, and this one ${commit.expects.length}.`, "Read fewer keys in one handler, or read what need not be judged through list().");
  }
  let bytes = 0;
  const text = (what: string, value: string, bytesMax: number = limits.keyBytesMax) => {
    // PostgreSQL's text holds neither; keys with them would also not compare alike on every engine.
    if (!value.isWellFormed() || value.includes("\u0000")) throw malformed(what, "must be well-formed Unicode without NUL", value);
    const length = Buffer.byteLength(value);
    if (length > bytesMax) throw tooLarge(what, bytesMax, length);
    bytes += length;
  };
  for (const expectation of commit.expects) {
    if (expectation.kind === "stream") text("stream", expectation.stream);
    else if (expectation.kind === "unchanged") text("prefix", expectation.prefix);
    else if (expectation.kind === "record" || expectation.kind === "token") text("key", expectation.key);
    else throw beyond(`the expectation "${expectation.kind}"`);
  }
  for (const write of commit.writes) {
    switch (write.kind) {
      case "put":
      case "token":
        text("key", write.key);
        bytes += write.value.byteLength;
        break;
      case "remove":
        text("key", write.key);
        break;
      case "merge":
        text("key", write.key);
        bytes += write.merge.kind === "set-once" ? write.merge.value.byteLength : JSON.stringify(write.merge).length;
        break;
      case "append":
        text("stream", write.stream);
        for (const event of write.events) {
          text("type", event.type);
          const length = event.data.byteLength + (event.meta?.byteLength ?? 0);
          if (length > limits.eventBytesMax) throw tooLarge("event", limits.eventBytesMax, length);
          bytes += length;
        }
        break;
      case "enqueue":
        text("queue", write.job.queue);
        if (write.job.key !== undefined) text("job key", write.job.key);
        if (write.job.unique !== undefined) text("job unique", write.job.unique);
        bytes += write.job.payload.byteLength;
        break;
      default:
        throw beyond(`the write "${write.kind}"`);
    }
  }
  if (bytes > limits.commitBytesMax) throw tooLarge("commit", limits.commitBytesMax, bytes);
  return bytes;
}

const malformed = (what: string, rule: string, value: string) =>
  Fault.create("commit.malformed", `The ${what} of a commit ${rule}; it is ${JSON.stringify(value.slice(0, 80))}.`, "Encode it before it becomes a key or an id.");
const tooLarge = (what: string, bytesMax: number, bytes: number) =>
  Fault.create("commit.too-large", `A ${what} holds at most ${bytesMax} bytes, and this one ${bytes}.`, "Split it, or store the large part elsewhere and refer to it.", { details: { what, bytesMax, bytes } });
const beyond = (what: string) =>
  Fault.create("postgres.beyond-the-proof", `This package applies commits only, and ${what} needs a whole engine.`, "Use the SQLite engine.");

/** What a process asks while the writer changes: the writer thread's part is played here. */
import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { sleep, systemClock, systemRandom, uuidv7Ids, Fault } from "../kernel/index.ts";
import { Client, type ToSeat } from "./client.ts";
import { frameOf } from "./frames.ts";
import { connect } from "./link.ts";
import { toFailure } from "./operation.ts";
import type { Answer, FromWriter, Question } from "./questions.ts";
import { packOne, packOperations, packReply, unpackOperations } from "./wire.ts";
import type { WriterNote } from "./writer-note.ts";
import type { Notice } from "./writer.ts";

const ids = uuidv7Ids(systemClock, systemRandom);

function asking() {
  const told: (Question | ToSeat)[] = [];
  const notices: Notice[] = [];
  const refusals: string[] = [];
  const answers: (readonly [name: string, answer: Answer])[] = [];
  const client = new Client({
    session: "1.0.a",
    durability: "full",
    clock: systemClock,
    random: systemRandom,
    tell: (message) => void told.push(message),
    notice: (notice) => void notices.push(notice),
    begun: () => undefined,
    refused: (fault) => void refusals.push(fault.code),
  });
  const ask = (name: string, question: Question) => client.ask(question, (answer) => void answers.push([name, answer]));
  return {
    client,
    notices,
    refusals,
    told: () =>
      told.splice(0).map((message) => (message.ask === "join" ? `join ${message.term} knows ${message.knows}, heard of ${message.heardOf}` : message.ask)),
    answers: () => answers.splice(0).map(([name, answer]) => ("failed" in answer ? `${name} ${(answer.failed as { code?: string }).code}` : name)),
    last: () => told.at(-1) as Question & { ask: "apply" },
    ask,
    apply: (name: string) =>
      ask(name, { ask: "apply", nowMs: 1, packed: packOperations([{ kind: "commit", commit: { id: ids.next(), expects: [], writes: [] } }]) }),
    here: (term: number) => client.found({ at: "here", term, epoch: 1 }),
    reply: (n: number, outcome: Parameters<typeof packReply>[0]["results"][number] = { ok: true, epoch: 1, n }) =>
      client.answered({ packed: packReply({ results: [outcome], queues: [], n }, 1), tookMs: 1, flushMs: 1 }),
  };
}

test("what was asked of a lost writer is asked of the next one, in its order, after it was told what this process knows", () => {
  const all = asking();
  all.apply("before");
  assert.deepEqual(all.told(), []);

  all.here(1);
  all.reply(7);
  all.apply("first");
  all.apply("second");
  all.client.found({ at: "nowhere" });
  all.apply("third");
  assert.deepEqual(all.told(), ["join 1 knows undefined, heard of undefined", "apply", "apply", "apply"]);
  all.here(2);

  assert.deepEqual(all.told(), ["join 2 knows 7, heard of 7", "apply", "apply", "apply"]);
  for (const n of [8, 9, 10]) all.reply(n);
  assert.deepEqual(all.answers(), ["before", "first", "second", "third"]);
});

test("a transaction that was open is lost with its writer; the end of one is decided by the id of its commit", () => {
  const all = asking();
  const commit = { id: ids.next(), expects: [], writes: [] };
  all.here(1);
  all.ask("begin", { ask: "begin", nowMs: 1, withinMs: 250 });
  all.client.answered({ answer: undefined });
  all.ask("execute", { ask: "execute", statement: { text: "select 1", parameters: [] } });
  all.client.found({ at: "nowhere" });
  all.ask("end", { ask: "end", commit: packOne(commit) });
  all.ask("abandon", { ask: "abandon" });
  assert.deepEqual(all.answers(), ["begin", "execute transaction.lost", "end transaction.lost", "abandon"]);

  all.here(2);
  all.ask("begin", { ask: "begin", nowMs: 1, withinMs: 250 });
  all.client.answered({ answer: undefined });
  all.ask("end", { ask: "end", commit: packOne(commit) });
  all.client.found({ at: "nowhere" });
  all.here(3);
  assert.deepEqual(unpackOperations(all.last().packed), [{ kind: "resolve", id: commit.id }]);
  all.reply(4);

  assert.deepEqual(all.answers(), ["begin", "end"]);
});

test("where no writer can be had callers hear why, and those whose commit was with a lost one that nobody knows; later ones are asked again", () => {
  const all = asking();
  const refused = toFailure(Fault.create("store.in-use", "somebody has it", "Wait."));
  all.here(1);
  all.apply("asked");
  all.client.found({ at: "nowhere" });
  all.apply("waits");
  all.client.found({ at: "nowhere", refused });
  all.apply("comes later");
  assert.deepEqual(all.answers(), ["asked commit.unknown", "waits store.in-use", "comes later store.in-use"]);
  assert.deepEqual(all.refusals, ["store.in-use"]);

  all.here(2);
  all.apply("again");
  all.reply(3);

  assert.deepEqual(all.answers(), ["again"]);
});

/** The writer was lost while it ended a transaction. */
function endingATransaction() {
  const all = asking();
  all.here(1);
  all.ask("begin", { ask: "begin", nowMs: 1, withinMs: 250 });
  all.client.answered({ answer: undefined });
  all.ask("end", { ask: "end", commit: packOne({ id: ids.next(), expects: [], writes: [] }) });
  all.client.found({ at: "nowhere" });
  return all;
}

test("where no writer can follow one that was lost with the end of a transaction, nobody knows what became of it", () => {
  const all = endingATransaction();
  all.client.found({ at: "nowhere", refused: toFailure(Fault.create("store.in-use", "somebody has it", "Wait.")) });

  assert.deepEqual(all.answers(), ["begin", "end commit.unknown"]);
});

test("where the next writer cannot tell what became of a transaction's end, nobody knows it", () => {
  const all = endingATransaction();
  all.here(2);
  all.reply(4, toFailure(Fault.create("store.disk-full", "there is no room", "Free space.")));

  assert.deepEqual(all.answers(), ["begin", "end commit.unknown"]);
});

// ---- the writer of another process ----------------------------------------------------------------------------------------

const secret = "ab".repeat(32);

/** Takes whoever comes in, and says this with the welcome. */
async function writerElsewhere(...withWelcome: readonly FromWriter[]): Promise<AsyncDisposable & { readonly note: WriterNote }> {
  const directory = mkdtempSync(join(tmpdir(), "trestle-client-"));
  const socket = join(directory, "s");
  const server = createServer((visitor) => {
    visitor.on("error", () => undefined);
    visitor.once("data", () => visitor.write(Buffer.concat([{ welcome: { epoch: 1 } }, ...withWelcome].map((message) => frameOf(message) as Buffer))));
  });
  await new Promise<void>((resolve) => void server.listen(socket, resolve));
  return {
    note: { pid: 1, term: 2, socket, secret },
    async [Symbol.asyncDispose]() {
      server.close();
      rmSync(directory, { recursive: true });
    },
  };
}

test("a change that comes with the welcome does not hide those that came before it and were missed", async () => {
  await using writer = await writerElsewhere({ change: { n: 120, keys: [], queues: [] } });
  const all = asking();
  all.here(1);
  all.client.changed({ n: 100, keys: [], queues: [] });
  all.client.found({ at: "nowhere" });
  all.client.found({ at: "there", note: writer.note });
  while (all.notices.length < 2) await sleep(systemClock, 5);

  assert.deepEqual(all.notices.at(-1), { missedSince: 100 });
  all.client.close();
});

test("a process that is busy while it is welcomed does not take the writer for stopped", async () => {
  await using writer = await writerElsewhere();
  const connecting = connect(
    writer.note,
    { session: "1.0.a", durability: "full", listens: true },
    systemClock,
    { answer() {}, change() {}, ended() {} },
    () => true,
  );
  for (const untilMs = systemClock.monotonicMs() + 1_300; systemClock.monotonicMs() < untilMs;);

  const link = await connecting;
  assert.ok(typeof link === "object", String(link));
  link.drop();
});

test("a socket that this process cannot reach is no sign of a writer that has gone", async () => {
  const note = { pid: 1, term: 2, socket: join(tmpdir(), "x".repeat(200)), secret };
  assert.equal(
    await connect(note, { session: "1.0.a", durability: "full", listens: true }, systemClock, { answer() {}, change() {}, ended() {} }, () => true),
    "absent",
  );
});

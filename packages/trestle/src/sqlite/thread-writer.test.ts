/** The writer in its thread: what is asked while it is busy. */
import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { systemClock, systemRandom, uuidv7Ids } from "../kernel/index.ts";
import type { CommitOutcome } from "../store/index.ts";
import type { BatchReply, Operation } from "./operation.ts";
import { threadWriter } from "./thread-writer.ts";
import type { Writer } from "./writer.ts";

const ids = uuidv7Ids(systemClock, systemRandom);
const enqueue = (queue: string): Operation => ({
  kind: "commit",
  commit: { id: ids.next(), expects: [], writes: [{ kind: "enqueue", job: { id: ids.next(), queue, payload: new Uint8Array(10), priority: 1 } }] },
});
const numbers = (reply: BatchReply) => reply.results.map((result) => (result as CommitOutcome & { ok: true }).n);

async function withWriter(run: (writer: Writer) => Promise<void>): Promise<void> {
  const directory = mkdtempSync(join(tmpdir(), "trestle-thread-writer-"));
  const writer = await threadWriter({ path: join(directory, "store.db"), durability: "full" });
  try {
    await run(writer);
  } finally {
    await writer.close();
    rmSync(directory, { recursive: true });
  }
}

test("batches that come while the writer is busy share a flush, and each is told of its own operations", async () => {
  await withWriter(async (writer) => {
    const nowMs = systemClock.wallMs();
    const batches = Array.from({ length: 40 }, (_, n) => Array.from({ length: 1 + (n % 3) }, () => enqueue(`q${n}`)));

    // The store's time tells which of them were applied together.
    const replies = await Promise.all(batches.map(async (batch, n) => writer.apply(batch, nowMs + n)));

    assert.deepEqual(
      replies.flatMap(numbers),
      batches.flat().map((_, n) => n + 1),
    );
    assert.deepEqual(
      replies.map(({ results }) => results.length),
      batches.map(({ length }) => length),
    );
    assert.deepEqual(replies.flatMap(({ queues }) => queues).sort(), batches.map((_, n) => `q${n}`).sort(), "what happened to a queue is told once");
    await writer.begin(nowMs + 100, 1_000);
    const { rows } = await writer.execute({ text: "select 1 as one", parameters: [] });
    assert.deepEqual(rows, [{ one: 1 }]);
    await writer.abandon();
    const claimed = await writer.apply(
      [{ kind: "claim", request: { holder: "t", leaseMs: 1_000, queues: batches.map((_, n) => ({ queue: `q${n}`, limit: 9 })) } }],
      nowMs + 200,
    );
    const { jobs } = claimed.results[0] as { readonly jobs: readonly { readonly sentAtMs: number }[] };
    assert.equal(jobs.length, batches.flat().length);
    const times = new Set(jobs.map(({ sentAtMs }) => sentAtMs));
    assert.ok(times.size < batches.length, `${times.size} transactions for ${batches.length} batches`);
  });
});

test("what is asked behind batches is done behind them, and a batch behind it not before", async () => {
  await withWriter(async (writer) => {
    const nowMs = systemClock.wallMs();
    const first = writer.apply([enqueue("a"), enqueue("a")], nowMs);
    const second = writer.apply([enqueue("b")], nowMs);
    const begun = writer.begin(nowMs, 5_000);
    const ended = writer.end({ id: ids.next(), expects: [], writes: [{ kind: "put", key: "k//1", value: new Uint8Array(1) }] });
    const third = writer.apply([enqueue("c")], nowMs);

    await begun;
    assert.deepEqual(
      [numbers(await first), numbers(await second), (await ended).outcome, numbers(await third)],
      [[1, 2], [3], { ok: true, epoch: 1, n: 4 }, [5]],
    );
  });
});

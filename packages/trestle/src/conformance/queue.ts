/** The queue's half of the port: claims, fences, leases, and one case for each cell of docs/concepts/queue.md (FINDINGS F17).
 * Over 400 lines because it is one list, which is compared with that table. */
import assert from "node:assert/strict";
import type { VirtualClock } from "../kernel/index.ts";
import type { Claim, ClaimedJob, Claims, CommitOutcome, JobEnd, NewJob, QueuePolicy, Store, Write } from "../store/index.ts";
import { bytes, text, type Case, type CaseTools } from "./case.ts";

export interface StoreSubject extends CaseTools {
  readonly store: Store;
  /** The store's clock, which the case moves. */
  readonly clock: VirtualClock;
}

/** A queue of its own for each case, with the steps the cases are told in. */
export function queueOf({ store, ids, clock }: StoreSubject) {
  const queue = `q-${ids.next()}`;
  const write = (...writes: Write[]): Promise<CommitOutcome> => store.commit({ id: ids.next(), expects: [], writes });
  const known = new Map<string, string>();
  const nameOf = (id: string) => known.get(id) ?? id;
  return {
    queue,
    write,
    async send(name: string, options: Partial<Omit<NewJob, "id" | "queue" | "payload">> = {}): Promise<string> {
      const id = ids.next();
      known.set(id, name);
      const outcome = await write({ kind: "enqueue", job: { id, queue, payload: bytes(name), priority: 1, ...options } });
      assert.equal(outcome.ok, true);
      return id;
    },
    async claim(limit = 10, leaseMs = 10_000): Promise<readonly ClaimedJob[]> {
      return (await this.ask(limit, undefined, leaseMs)).jobs;
    },
    ask: (limit: number, policy: QueuePolicy | undefined, leaseMs = 10_000): Promise<Claims> =>
      store.claim({ holder: "case", leaseMs, queues: [{ queue, limit, ...(policy && { policy }) }] }),
    /** The names a claim hands out; what it took is then done, if asked. */
    async names(limit = 10): Promise<string[]> {
      return (await this.claim(limit)).map(({ id }) => nameOf(id));
    },
    async one(leaseMs?: number): Promise<ClaimedJob> {
      const jobs = await this.claim(1, leaseMs);
      assert.equal(jobs.length, 1, "a job to claim");
      return jobs[0] as ClaimedJob;
    },
    end: (job: Claim, end: JobEnd) => write({ kind: "finish", job: job.id, fence: job.fence, end }),
    async ended(job: Claim, end: JobEnd): Promise<void> {
      assert.equal((await this.end(job, end)).ok, true);
    },
    done: (job: Claim) => write({ kind: "finish", job: job.id, fence: job.fence, end: { kind: "done" } }),
    async drainInOrder(): Promise<string[]> {
      const order: string[] = [];
      for (let jobs = await this.claim(1); jobs.length; jobs = await this.claim(1)) {
        order.push(nameOf((jobs[0] as ClaimedJob).id));
        await this.ended(jobs[0] as ClaimedJob, { kind: "done" });
      }
      return order;
    },
    nowMs: () => clock.wallMs(),
    nameOf,
  };
}

export const aCase = (guarantee: string, name: string, run: (subject: StoreSubject) => Promise<void>): Case<StoreSubject> => ({ name, guarantee, run });

const cells: readonly Case<StoreSubject>[] = [
  aCase(
    "queue.fifo-per-key",
    "[F17] cell 1: a key's messages are handed out in the order sent, one at a time; keys in the order of their heads",
    async (subject) => {
      const q = queueOf(subject);
      for (const name of ["a1", "b1", "a2", "b2", "a3"]) await q.send(name, { key: name[0] as string });

      const first = await q.claim();
      assert.deepEqual(
        first.map(({ id }) => q.nameOf(id)),
        ["a1", "b1"],
      );
      assert.deepEqual(await q.names(), [], "the keys are busy");
      await q.ended(first[1] as ClaimedJob, { kind: "done" });
      const second = await q.claim();
      assert.deepEqual(
        second.map(({ id }) => q.nameOf(id)),
        ["b2"],
      );
      for (const job of [first[0], second[0]]) await q.ended(job as ClaimedJob, { kind: "done" });

      assert.deepEqual(await q.drainInOrder(), ["a2", "a3"]);
    },
  ),
  aCase("queue.fifo-per-key", "[F17] cell 1: messages sent to one key by one burst of callers keep the order in which they were sent", async (subject) => {
    const q = queueOf(subject);
    const names = Array.from({ length: 50 }, (_, i) => `m${i}`);

    await Promise.all(names.map((name) => q.send(name, { key: "k" })));

    assert.deepEqual(await q.drainInOrder(), names);
  }),
  aCase("queue.fifo-per-key", "[F17] cell 2: done: the next of the key is ready at once, and the job is gone", async (subject) => {
    const q = queueOf(subject);
    await q.send("one", { key: "k" });
    await q.send("two", { key: "k" });

    await q.ended(await q.one(), { kind: "done" });

    assert.deepEqual(await q.names(), ["two"]);
    assert.equal((await subject.store.read.queue(q.queue)).waiting, 0);
    assert.equal((await subject.store.read.jobs({ queue: q.queue, limit: 10 })).length, 1);
  }),
  aCase("queue.fifo-per-key", "[F17] cell 3: retry: the head blocks its key until it is done, and other keys go on", async (subject) => {
    const q = queueOf(subject);
    for (const [name, key] of [
      ["a1", "a"],
      ["a2", "a"],
      ["b1", "b"],
    ] as const)
      await q.send(name, { key });
    await q.ended(await q.one(), { kind: "retry", dueAtMs: q.nowMs() + 5_000, error: "boom" });

    assert.deepEqual(await q.names(), ["b1"]);
    await subject.clock.advance(4_999);
    assert.deepEqual(await q.names(), []);
    await subject.clock.advance(1);
    const again = await q.one();

    assert.deepEqual([q.nameOf(again.id), again.attempt], ["a1", 2]);
    await q.ended(again, { kind: "done" });
    assert.deepEqual(await q.names(), ["a2"]);
  }),
  aCase("queue.fifo-per-key", "[F17] cell 3: a retried message without a key takes a new place when it is due", async (subject) => {
    const q = queueOf(subject);
    await q.send("first");
    await q.ended(await q.one(), { kind: "retry", dueAtMs: q.nowMs() + 1_000, error: "boom" });
    await q.send("second");

    await subject.clock.advance(1_000);

    assert.deepEqual(await q.drainInOrder(), ["second", "first"]);
  }),
  aCase("queue.fifo-per-key", "[F17] cell 4: later: as a retry, but it does not count as an attempt", async (subject) => {
    const q = queueOf(subject);
    await q.send("one", { key: "k" });
    await q.send("two", { key: "k" });
    const first = await q.one();
    assert.deepEqual([first.attempt, first.again], [1, false]);

    await q.ended(first, { kind: "later", dueAtMs: q.nowMs() + 1_000, reason: "not now" });
    assert.deepEqual(await q.names(), []);
    await subject.clock.advance(1_000);
    const again = await q.one();

    assert.deepEqual([q.nameOf(again.id), again.attempt, again.again], ["one", 1, true]);
  }),
  aCase("queue.fifo-per-key", "[F17] cell 5: priority orders keys, never the messages of one key", async (subject) => {
    const q = queueOf(subject);
    await q.send("lazy head", { key: "k", priority: 2 });
    await q.send("urgent behind it", { key: "k", priority: 0 });
    await q.send("normal", { priority: 1 });
    await q.send("urgent", { priority: 0 });

    assert.deepEqual(await q.drainInOrder(), ["urgent", "normal", "lazy head", "urgent behind it"]);
  }),
  aCase("queue.fifo-per-key", "[F17] cell 6: a message with a due time joins its key when due, not when sent", async (subject) => {
    const q = queueOf(subject);
    await q.send("later", { key: "k", dueAtMs: q.nowMs() + 1_000 });
    await q.send("now", { key: "k" });
    await subject.clock.advance(1_500);
    await q.send("after", { key: "k" });

    assert.deepEqual(await q.drainInOrder(), ["now", "later", "after"]);
  }),
  aCase(
    "queue.fifo-per-key",
    "[F17] cell 6: late messages join in order of their due times, then of sending; priority places them among the keys",
    async (subject) => {
      const q = queueOf(subject);
      const at = q.nowMs() + 1_000;
      await q.send("k third", { key: "k", dueAtMs: at + 2 });
      await q.send("k first", { key: "k", dueAtMs: at });
      await q.send("k second", { key: "k", dueAtMs: at });
      await q.send("urgent", { dueAtMs: at + 1, priority: 0 });
      assert.deepEqual(await q.names(), []);

      await subject.clock.advance(1_002);

      assert.deepEqual(await q.drainInOrder(), ["urgent", "k first", "k second", "k third"]);
    },
  ),
  aCase("queue.fifo-per-key", "[F17] cell 7: dead: it is kept for a person, and its key goes on", async (subject) => {
    const q = queueOf(subject);
    await q.send("poison", { key: "k" });
    await q.send("next", { key: "k" });

    await q.ended(await q.one(), { kind: "dead", error: "gave up" });

    assert.deepEqual(await q.names(), ["next"]);
    const [kept] = await subject.store.read.jobs({ queue: q.queue, state: "dead", limit: 10 });
    assert.deepEqual([text(kept?.payload), kept?.error, kept?.attempt], ["poison", "gave up", 1]);
  }),
  ...(["parked", "undetermined"] as const).map((kind, i) =>
    aCase("queue.fifo-per-key", `[F17] cell ${8 + i}: ${kind}: it is kept for a person, its key waits, other keys go on`, async (subject) => {
      const q = queueOf(subject);
      for (const [name, key] of [
        ["a1", "a"],
        ["a2", "a"],
        ["b1", "b"],
      ] as const)
        await q.send(name, { key });

      await q.ended(await q.one(), { kind, error: "who knows" });

      assert.deepEqual(await q.drainInOrder(), ["b1"]);
      await subject.clock.advance(3_600_000);
      assert.deepEqual(await q.names(), []);
      const depth = await subject.store.read.queue(q.queue);
      assert.deepEqual([depth.waiting, depth[kind]], [1, 1]);
    }),
  ),
  ...(["parked", "undetermined"] as const).map((kind) =>
    aCase("queue.fifo-per-key", `[F17] cell 10: a ${kind} one that is redriven is still the head, and counts attempts from 0`, async (subject) => {
      const q = queueOf(subject);
      await q.send("one", { key: "k" });
      await q.send("two", { key: "k" });
      const held = await q.one();
      await q.ended(held, { kind, error: "who knows" });

      await q.write({ kind: "redrive", job: held.id });
      const again = await q.one();

      assert.deepEqual([q.nameOf(again.id), again.attempt], ["one", 1]);
      await q.ended(again, { kind: "done" });
      assert.deepEqual(await q.drainInOrder(), ["two"]);
    }),
  ),
  aCase("queue.fifo-per-key", "[F17] cell 11: a dead one that is redriven joins the end of its key, and counts attempts from 0", async (subject) => {
    const q = queueOf(subject);
    await q.send("one", { key: "k" });
    await q.send("two", { key: "k" });
    const held = await q.one();
    await q.ended(held, { kind: "dead", error: "gave up" });

    await q.write({ kind: "redrive", job: held.id });

    const two = await q.one();
    assert.equal(q.nameOf(two.id), "two");
    await q.ended(two, { kind: "done" });
    const again = await q.one();
    assert.deepEqual([q.nameOf(again.id), again.attempt], ["one", 1]);
  }),
  aCase("queue.fifo-per-key", "[F17] cell 12: cancelled while it waits: it is removed, and a head gives way to the next", async (subject) => {
    const q = queueOf(subject);
    const [head, behind] = [await q.send("head", { key: "k" }), await q.send("behind", { key: "k" })];
    await q.send("last", { key: "k" });
    const scheduled = await q.send("scheduled", { dueAtMs: q.nowMs() + 1 });

    for (const job of [behind, head, scheduled]) await q.write({ kind: "cancel", job });
    await subject.clock.advance(10);

    assert.deepEqual(await q.drainInOrder(), ["last"]);
    assert.equal((await q.write({ kind: "cancel", job: head })).ok, true, "cancelling what is gone is nothing");
  }),
  aCase("queue.fifo-per-key", "[F17] cell 12: cancelling one that waits for its retry frees the key", async (subject) => {
    const q = queueOf(subject);
    await q.send("head", { key: "k" });
    await q.send("next", { key: "k" });
    const held = await q.one();
    await q.ended(held, { kind: "retry", dueAtMs: q.nowMs() + 60_000, error: "boom" });

    await q.write({ kind: "cancel", job: held.id });

    assert.deepEqual(await q.names(), ["next"]);
  }),
  aCase(
    "queue.fifo-per-key",
    "[F17] cell 13: cancelled while it runs: extend says so, the key waits for the holder, and a retry does not run again",
    async (subject) => {
      const q = queueOf(subject);
      await q.send("running", { key: "k" });
      await q.send("next", { key: "k" });
      const held = await q.one();
      assert.deepEqual(await subject.store.extend([held], 10_000), [true]);

      await q.write({ kind: "cancel", job: held.id });

      assert.deepEqual(await subject.store.extend([held], 10_000), [false]);
      assert.deepEqual(await q.names(), [], "the holder may still be at it");
      await q.ended(held, { kind: "retry", dueAtMs: q.nowMs(), error: "told to stop" });
      assert.deepEqual(await q.drainInOrder(), ["next"]);
    },
  ),
  aCase(
    "queue.fifo-per-key",
    "[F17] cell 14: a lease that runs out: run again as the head under a higher fence, and the old holder is refused",
    async (subject) => {
      const q = queueOf(subject);
      await q.send("one", { key: "k" });
      await q.send("two", { key: "k" });
      const slow = await q.one(1_000);
      await subject.clock.advance(1_001);

      const again = await q.one();

      assert.deepEqual([q.nameOf(again.id), again.attempt], ["one", 2]);
      assert.ok(again.fence.epoch === slow.fence.epoch && again.fence.n > slow.fence.n);
      assert.deepEqual(await q.end(slow, { kind: "done" }), { ok: false, refused: "fenced", job: slow.id });
      assert.deepEqual(await subject.store.extend([slow, again], 1_000), [false, true]);
      await q.ended(again, { kind: "done" });
      assert.deepEqual(await q.drainInOrder(), ["two"]);
    },
  ),
  aCase("queue.fifo-per-key", "[F17] cell 14: a lease can be extended, and shortened", async (subject) => {
    const q = queueOf(subject);
    await q.send("long");
    await q.send("short");
    const [long, short] = (await q.claim(2, 10_000)) as [ClaimedJob, ClaimedJob];
    assert.deepEqual([await subject.store.extend([long], 20_000), await subject.store.extend([short], 1_000)], [[true], [true]]);

    await subject.clock.advance(1_000);
    assert.deepEqual(await q.names(), ["short"]);
    await subject.clock.advance(18_999);
    assert.deepEqual(await q.names(), ["short"]);
    await subject.clock.advance(1);

    assert.deepEqual(await q.names(), ["long"]);
  }),
  aCase("queue.fifo-per-key", "[F17] cell 16: a claim takes at most one message of a key, and each item is ended by itself", async (subject) => {
    const q = queueOf(subject);
    for (const name of ["a1", "a2", "b1", "c1"]) await q.send(name, { key: name[0] as string });

    const batch = await q.claim(3);
    assert.deepEqual(
      batch.map(({ id }) => q.nameOf(id)),
      ["a1", "b1", "c1"],
    );
    const [a, b, c] = batch as [ClaimedJob, ClaimedJob, ClaimedJob];
    await q.ended(a, { kind: "done" });
    await q.ended(b, { kind: "dead", error: "bad item" });
    await q.ended(c, { kind: "retry", dueAtMs: q.nowMs() + 1_000, error: "again" });

    assert.deepEqual(await q.drainInOrder(), ["a2"]);
    await subject.clock.advance(1_000);
    assert.deepEqual(await q.drainInOrder(), ["c1"]);
  }),
  aCase("queue.fifo-per-key", "[F17] cell 17: unique: a second one is dropped while the first waits, and accepted once it runs", async (subject) => {
    const q = queueOf(subject);
    await q.send("first", { unique: "u" });
    await q.send("dropped", { unique: "u" });
    await q.send("other", { unique: "v" });
    const held = await q.claim();
    assert.deepEqual(
      held.map(({ id }) => q.nameOf(id)),
      ["first", "other"],
    );

    await q.send("second", { unique: "u" });
    await q.send("dropped too", { unique: "u" });

    assert.deepEqual(await q.drainInOrder(), ["second"]);
  }),
  aCase("queue.fifo-per-key", "[F17] cell 17: unique also counts one that is not due yet, or waits for its retry", async (subject) => {
    const q = queueOf(subject);
    await q.send("scheduled", { unique: "u", dueAtMs: q.nowMs() + 1_000 });
    await q.send("dropped", { unique: "u" });
    await subject.clock.advance(1_000);
    const held = await q.one();
    await q.ended(held, { kind: "retry", dueAtMs: q.nowMs() + 1_000, error: "boom" });
    await q.send("dropped too", { unique: "u" });
    await subject.clock.advance(1_000);

    assert.deepEqual(await q.drainInOrder(), ["scheduled"]);
  }),
  aCase("queue.fifo-per-key", "[F17] cell 18: the same message id sent twice is one message", async (subject) => {
    const q = queueOf(subject);
    const id = subject.ids.next();
    const job: NewJob = { id, queue: q.queue, payload: bytes("once"), priority: 1 };

    await q.write({ kind: "enqueue", job });
    await q.write({ kind: "enqueue", job });

    assert.deepEqual(await q.drainInOrder(), [id]);
  }),
];

export const queueCases: readonly Case<StoreSubject>[] = [
  ...cells,
  aCase("queue.fifo-per-key", "messages without a key are handed out by priority, then in the order sent", async (subject) => {
    const q = queueOf(subject);
    for (const [name, priority] of [
      ["n1", 1],
      ["l1", 2],
      ["h1", 0],
      ["n2", 1],
      ["h2", 0],
    ] as const)
      await q.send(name, { priority });

    assert.deepEqual(await q.names(), ["h1", "h2", "n1", "n2", "l1"]);
  }),
  aCase("queue.finishes-with-effect", "a job is done in the commit that holds its effect, or neither happens", async (subject) => {
    const q = queueOf(subject);
    await q.send("work");
    const held = await q.one();
    const key = `conformance//${q.queue}`;
    const effect: Write = { kind: "put", key, value: bytes("effect") };

    const refused = await subject.store.commit({
      id: subject.ids.next(),
      expects: [{ kind: "record", key, version: 99 }],
      writes: [effect, { kind: "finish", job: held.id, fence: held.fence, end: { kind: "done" } }],
    });
    assert.equal(refused.ok, false);
    assert.deepEqual(await subject.store.extend([held], 1_000), [true], "still held");
    const both = await q.write(effect, { kind: "finish", job: held.id, fence: held.fence, end: { kind: "done" } });
    const twice = await q.write(effect, { kind: "finish", job: held.id, fence: held.fence, end: { kind: "done" } });

    assert.equal(both.ok, true);
    assert.deepEqual(twice, { ok: false, refused: "fenced", job: held.id });
  }),
  aCase("queue.finishes-with-effect", "a commit that ends a job whose claim is over leaves nothing, wherever the end stands in it", async (subject) => {
    const q = queueOf(subject);
    await q.send("one");
    await q.send("two");
    const [one, two] = (await q.claim(2)) as [ClaimedJob, ClaimedJob];
    await q.ended(one, { kind: "done" });
    const key = `conformance//${q.queue}`;
    const put: Write = { kind: "put", key, value: bytes("effect") };
    const send: Write = { kind: "enqueue", job: { id: subject.ids.next(), queue: q.queue, payload: bytes("more"), priority: 1 } };
    const end = ({ id, fence }: Claim): Write => ({ kind: "finish", job: id, fence, end: { kind: "done" } });
    const fenced = { ok: false, refused: "fenced", job: one.id };

    assert.deepEqual(await q.write(put, end(one)), fenced);
    assert.deepEqual(await q.write(put, end(one), send), fenced);
    assert.deepEqual(await q.write(send, end(two), put, end(one)), fenced);
    assert.deepEqual(await q.write(put, end(two), end(two)), { ...fenced, job: two.id });
    assert.deepEqual(await subject.store.read.records([key]), [undefined]);
    assert.deepEqual(await q.names(), []);

    const applied = await q.write(put, { kind: "cancel", job: two.id }, end(two));
    assert.equal(applied.ok, true);
    assert.notEqual((await subject.store.read.records([key]))[0], undefined);
  }),
  aCase("queue.finishes-with-effect", "a commit that expects a claim is refused once the claim is over", async (subject) => {
    const q = queueOf(subject);
    await q.send("work");
    const held = await q.one();
    const key = `conformance//${q.queue}`;
    const guarded = () =>
      subject.store.commit({
        id: subject.ids.next(),
        expects: [{ kind: "claim", job: held.id, fence: held.fence }],
        writes: [{ kind: "put", key, value: bytes("x") }],
      });

    assert.equal((await guarded()).ok, true);
    await q.ended(held, { kind: "done" });

    assert.deepEqual(await guarded(), { ok: false, refused: "fenced", job: held.id });
  }),
  aCase("queue.finishes-with-effect", "a refused commit enqueues nothing", async (subject) => {
    const q = queueOf(subject);

    await subject.store.commit({
      id: subject.ids.next(),
      expects: [{ kind: "record", key: "conformance//nobody", version: 5 }],
      writes: [{ kind: "enqueue", job: { id: subject.ids.next(), queue: q.queue, payload: bytes("x"), priority: 1 } }],
    });

    assert.deepEqual(await q.names(), []);
  }),
  aCase("queue.fifo-per-key", "no job is handed to two of many claimers at once", async (subject) => {
    const q = queueOf(subject);
    await Promise.all(Array.from({ length: 100 }, (_, i) => q.send(`m${i}`)));

    const claims = await Promise.all(Array.from({ length: 20 }, () => q.claim(7)));

    const taken = claims.flat().map(({ id }) => id);
    assert.equal(taken.length, 100);
    assert.equal(new Set(taken).size, 100);
  }),
  aCase("queue.redelivers-after-crash", "of more leases that run out together than one step takes back, none is forgotten", async (subject) => {
    const q = queueOf(subject);
    const jobs = Array.from({ length: 1_200 }, () => ({ id: subject.ids.next(), queue: q.queue, payload: bytes("x"), priority: 1 }));
    for (let at = 0; at < jobs.length; at += 200) await q.write(...jobs.slice(at, at + 200).map((job): Write => ({ kind: "enqueue", job })));
    const claimAll = async (leaseMs: number) => {
      const claimed: string[] = [];
      for (let some = await q.claim(512, leaseMs); some.length > 0; some = await q.claim(512, leaseMs)) claimed.push(...some.map(({ id }) => id));
      return claimed.sort();
    };
    const first = await claimAll(1_000);

    await subject.clock.advance(1_001);
    const again = await claimAll(10_000);

    assert.equal(first.length, jobs.length);
    assert.deepEqual(again, first);
  }),
  aCase("queue.fifo-per-key", "fences rise with every batch of claims", async (subject) => {
    const q = queueOf(subject);
    await q.send("one");
    await q.send("two");

    const [a, b] = [await q.one(), await q.one()];

    assert.ok(b.fence.n > a.fence.n);
  }),
  aCase("queue.fifo-per-key", "a claim says when the next job falls due, and nothing when none waits", async (subject) => {
    const q = queueOf(subject);
    const ask = () => subject.store.claim({ holder: "case", leaseMs: 1_000, queues: [{ queue: q.queue, limit: 1 }] });
    assert.equal((await ask()).nextDueAtMs, undefined);
    const dueAtMs = q.nowMs() + 5_000;
    await q.send("later", { dueAtMs: dueAtMs + 1 });
    await q.send("sooner", { dueAtMs });

    const empty = await ask();
    assert.deepEqual([empty.jobs.length, empty.nextDueAtMs, empty.nowMs], [0, dueAtMs, q.nowMs()]);
    await subject.clock.advance(5_001);
    const full = await ask();

    assert.deepEqual([full.jobs.length, full.nextDueAtMs], [1, q.nowMs()], "another one is due already");
  }),
  aCase("queue.fifo-per-key", "a claim over several queues takes from each at most what was asked", async (subject) => {
    const [a, b] = [queueOf(subject), queueOf(subject)];
    for (let i = 0; i < 3; i++) (await a.send(`a${i}`), await b.send(`b${i}`));

    const { jobs } = await subject.store.claim({
      holder: "case",
      leaseMs: 1_000,
      queues: [
        { queue: a.queue, limit: 2 },
        { queue: b.queue, limit: 1 },
      ],
    });

    assert.deepEqual(
      jobs.map(({ queue }) => queue),
      [a.queue, a.queue, b.queue],
    );
    assert.deepEqual(
      jobs.map(({ payload }) => text(payload)),
      ["a0", "a1", "b0"],
    );
  }),
  aCase("queue.fifo-per-key", "depths count each state, and tell the age of the oldest that is due", async (subject) => {
    const q = queueOf(subject);
    for (const name of ["dead", "parked", "running"]) await q.send(name);
    const [dead, parked] = (await q.claim(3)) as [ClaimedJob, ClaimedJob, ClaimedJob];
    await q.ended(dead, { kind: "dead", error: "e" });
    await q.ended(parked, { kind: "parked", error: "e" });
    await q.send("waits");
    await q.send("scheduled", { dueAtMs: q.nowMs() + 60_000 });
    await subject.clock.advance(2_000);

    const depth = await subject.store.read.queue(q.queue);

    assert.deepEqual(depth, { queue: q.queue, waiting: 2, running: 1, dead: 1, parked: 1, undetermined: 0, oldestAgeMs: 2_000, paused: false });
    assert.deepEqual(
      (await subject.store.read.queues()).find(({ queue }) => queue === q.queue),
      depth,
    );
  }),
  aCase("queue.fifo-per-key", "jobs are listed by queue and state, in pages", async (subject) => {
    const q = queueOf(subject);
    for (let i = 0; i < 5; i++) await q.send(`m${i}`, i === 4 ? { key: "k", dueAtMs: q.nowMs() + 1_000 } : {});
    await q.one();

    const first = await subject.store.read.jobs({ queue: q.queue, state: "waiting", limit: 3 });
    const rest = await subject.store.read.jobs({ queue: q.queue, state: "waiting", limit: 3, after: (first[2] as { id: string }).id });

    assert.deepEqual(
      [...first, ...rest].map(({ payload, state }) => [text(payload), state]),
      ["m1", "m2", "m3", "m4"].map((name) => [name, "waiting"]),
    );
    assert.equal((await subject.store.read.jobs({ queue: q.queue, state: "running", limit: 3 })).length, 1);
    assert.equal(rest[0]?.key, "k");
  }),
];

/** How a queue is handed out under a policy: one case for each cell of the second table of docs/concepts/queue.md. Beside
 * queue.ts, so that an engine can have the first table before the second. Over 400 lines because it is one list, which is compared with that table. */
import assert from "node:assert/strict";
import { expiredError, type ClaimedJob, type Claims, type QueuePolicy } from "../store/index.ts";
import { text, type Case } from "./case.ts";
import { aCase, queueOf, type StoreSubject } from "./queue.ts";

type Queue = ReturnType<typeof queueOf>;

async function sendTo(q: Queue, group: string, ...names: readonly string[]): Promise<void> {
  for (const name of names) await q.send(name, { group });
}
const namesOf = (q: Queue, { jobs }: Pick<Claims, "jobs">): string[] => jobs.map(({ id }) => q.nameOf(id));

/** Hands out one at a time, and ends each, until nothing comes. */
async function inTurns(q: Queue, policy: QueuePolicy | undefined, most = Infinity): Promise<string[]> {
  const order: string[] = [];
  while (order.length < most) {
    const [job] = (await q.ask(1, policy)).jobs;
    if (!job) break;
    order.push(q.nameOf(job.id));
    await q.ended(job, { kind: "done" });
  }
  return order;
}

const pauses: readonly Case<StoreSubject>[] = [
  aCase("queue.pauses", "[F17] cell 19: a paused queue hands nothing out, to anybody, until it is resumed; other queues go on", async (subject) => {
    const [q, other] = [queueOf(subject), queueOf(subject)];
    await q.send("before");
    await other.send("elsewhere");
    await q.write({ kind: "pause", queue: q.queue, paused: true });
    await q.send("meanwhile");

    const whilePaused = await q.ask(10, undefined);
    assert.deepEqual([whilePaused.jobs.length, whilePaused.nextDueAtMs], [0, undefined]);
    assert.deepEqual(await other.names(), ["elsewhere"]);
    assert.equal((await subject.store.read.queue(q.queue)).paused, true);
    await q.write({ kind: "pause", queue: q.queue, paused: false });

    assert.deepEqual(await q.names(), ["before", "meanwhile"]);
    assert.equal((await subject.store.read.queue(q.queue)).paused, false);
  }),
  aCase("queue.pauses", "[F17] cell 19: what runs when its queue is paused goes on, and ends; what falls due joins its key", async (subject) => {
    const q = queueOf(subject);
    for (const name of ["k1", "k2"]) await q.send(name, { key: "k" });
    await q.send("scheduled", { key: "k", dueAtMs: q.nowMs() + 10 });
    const running = await q.one();

    await q.write({ kind: "pause", queue: q.queue, paused: true });
    assert.deepEqual(await subject.store.extend([running], 10_000), [true]);
    await q.ended(running, { kind: "done" });
    await subject.clock.advance(10);
    await q.send("last", { key: "k" });
    await q.write({ kind: "pause", queue: q.queue, paused: false });

    assert.deepEqual(await q.drainInOrder(), ["k2", "scheduled", "last"]);
  }),
  aCase("queue.pauses", "[F17] cell 19: a pause that is refused with its commit is none; pausing twice is pausing once", async (subject) => {
    const q = queueOf(subject);
    await q.send("one");
    const refused = await subject.store.commit({
      id: subject.ids.next(),
      expects: [{ kind: "record", key: "conformance//nobody", version: 5 }],
      writes: [{ kind: "pause", queue: q.queue, paused: true }],
    });
    assert.equal(refused.ok, false);
    assert.deepEqual(await q.names(), ["one"]);

    for (const paused of [true, true, false]) await q.write({ kind: "pause", queue: q.queue, paused });
    await q.send("two");

    assert.deepEqual(await q.names(), ["two"]);
  }),
  aCase("queue.pauses", "an end of a pause is told like work", async (subject) => {
    const q = queueOf(subject);
    await q.send("one");
    await q.write({ kind: "pause", queue: q.queue, paused: true });
    const told: string[] = [];
    const forget = subject.store.onChange(({ queues }) => void told.push(...queues));

    await q.write({ kind: "pause", queue: q.queue, paused: false });
    for (let turns = 0; turns < 100 && !told.includes(q.queue); turns++) await subject.store.read.head();
    forget();

    assert.ok(told.includes(q.queue));
  }),
];

const shares: readonly Case<StoreSubject>[] = [
  aCase("queue.fair-share", "[F17] cell 20: groups take turns, one job each; inside a group the order is that of sending", async (subject) => {
    const q = queueOf(subject);
    await sendTo(q, "a", "a1", "a2", "a3", "a4");
    await sendTo(q, "b", "b1", "b2");
    await sendTo(q, "c", "c1");

    assert.deepEqual(await inTurns(q, undefined), ["a1", "b1", "c1", "a2", "b2", "a3", "a4"]);
  }),
  aCase("queue.fair-share", "[F17] cell 20: one claim of many takes the same turns, and goes on where the last one stopped", async (subject) => {
    const q = queueOf(subject);
    await sendTo(q, "a", "a1", "a2", "a3", "a4");
    await sendTo(q, "b", "b1", "b2", "b3");

    assert.deepEqual(namesOf(q, await q.ask(3, undefined)), ["a1", "b1", "a2"]);
    assert.deepEqual(namesOf(q, await q.ask(10, undefined)), ["b2", "a3", "b3", "a4"]);
  }),
  aCase("queue.fair-share", "[F17] cell 20: who sends one message waits for one turn of each, however much the others have waiting", async (subject) => {
    const q = queueOf(subject);
    await sendTo(q, "busy", ...Array.from({ length: 60 }, (_, i) => `x${i}`));
    assert.deepEqual(await inTurns(q, undefined, 5), ["x0", "x1", "x2", "x3", "x4"]);

    await sendTo(q, "quiet", "mine");

    assert.ok((await inTurns(q, undefined, 2)).includes("mine"));
  }),
  aCase("queue.fair-share", "[F17] cell 20: nobody's jobs are a group of their own, and the first", async (subject) => {
    const q = queueOf(subject);
    await sendTo(q, "a", "a1", "a2");
    for (const name of ["n1", "n2"]) await q.send(name);

    assert.deepEqual(await inTurns(q, undefined), ["n1", "a1", "n2", "a2"]);
  }),
  aCase("queue.fair-share", "[F17] cell 21: a weight says how many a group gets in its turn", async (subject) => {
    const q = queueOf(subject);
    await sendTo(q, "a", "a1", "a2", "a3", "a4");
    await sendTo(q, "b", "b1", "b2", "b3", "b4", "b5");

    assert.deepEqual(await inTurns(q, { weights: { b: 2 } }), ["a1", "b1", "b2", "a2", "b3", "b4", "a3", "b5", "a4"]);
  }),
  aCase("queue.fair-share", "[F17] cell 22: priority orders the jobs of a group, and takes no turn from another", async (subject) => {
    const q = queueOf(subject);
    await q.send("a lazy", { group: "a", priority: 2 });
    await q.send("a urgent", { group: "a", priority: 0 });
    await q.send("b lazy", { group: "b", priority: 2 });

    assert.deepEqual(await inTurns(q, undefined), ["a urgent", "b lazy", "a lazy"]);
  }),
  aCase("queue.fair-share", "[F17] cell 23: a key is served in the turn of its head's group, and stays in order", async (subject) => {
    const q = queueOf(subject);
    await q.send("k1", { key: "k", group: "b" });
    await q.send("k2", { key: "k", group: "a" });
    await q.send("a1", { group: "a" });
    await q.send("b1", { group: "b" });

    assert.deepEqual(await inTurns(q, undefined), ["a1", "k1", "k2", "b1"]);
  }),
  aCase("queue.fair-share", "groups are listed with what is ready and what runs, in pages", async (subject) => {
    const q = queueOf(subject);
    await sendTo(q, "b", "b1", "b2");
    await sendTo(q, "a", "a1");
    await sendTo(q, "c", "c1");
    await q.claim(2);

    const read = (limit: number, after?: string) => subject.store.read.groups({ queue: q.queue, limit, ...(after !== undefined && { after }) });

    assert.deepEqual(await read(10), [
      { group: "a", ready: 0, running: 1 },
      { group: "b", ready: 1, running: 1 },
      { group: "c", ready: 1, running: 0 },
    ]);
    assert.deepEqual(await read(1), [{ group: "a", ready: 0, running: 1 }]);
    assert.deepEqual(
      (await read(5, "a")).map(({ group }) => group),
      ["b", "c"],
    );
    assert.deepEqual(
      (await subject.store.read.jobs({ queue: q.queue, limit: 10 })).map(({ group }) => group),
      ["b", "b", "a", "c"],
    );
    assert.deepEqual(((depth) => [depth.waiting, depth.running])(await subject.store.read.queue(q.queue)), [2, 2]);
  }),
];

const limited: readonly Case<StoreSubject>[] = [
  aCase("queue.limits-exact", "[F17] cell 24: no more of a queue run than its limit, whoever claims; an end makes room for one", async (subject) => {
    const q = queueOf(subject);
    for (let i = 0; i < 10; i++) await q.send(`m${i}`);
    const policy = { concurrency: 3 };

    const claims = await Promise.all(Array.from({ length: 5 }, () => q.ask(2, policy)));
    const running = claims.flatMap(({ jobs }) => jobs);
    assert.deepEqual(
      running.map(({ id }) => q.nameOf(id)),
      ["m0", "m1", "m2"],
    );
    assert.equal((await q.ask(2, policy)).nextDueAtMs, undefined, "it is for others to end theirs");
    await q.ended(running[1] as ClaimedJob, { kind: "done" });
    await q.ended(running[2] as ClaimedJob, { kind: "retry", dueAtMs: q.nowMs() + 60_000, error: "boom" });

    assert.deepEqual(namesOf(q, await q.ask(10, policy)), ["m3", "m4"]);
  }),
  aCase("queue.limits-exact", "[F17] cell 24: a job whose lease ran out takes no place any more", async (subject) => {
    const q = queueOf(subject);
    for (const name of ["one", "two"]) await q.send(name);
    const policy = { concurrency: 1 };
    assert.deepEqual(namesOf(q, await q.ask(5, policy, 1_000)), ["one"]);

    await subject.clock.advance(1_000);

    assert.deepEqual(namesOf(q, await q.ask(5, policy)), ["one"]);
  }),
  aCase("queue.limits-exact", "[F17] cell 24: an end is told, so that whoever was refused asks again", async (subject) => {
    const q = queueOf(subject);
    for (const name of ["one", "two"]) await q.send(name);
    const [running] = (await q.ask(1, { concurrency: 1 })).jobs;
    const told: string[] = [];
    const forget = subject.store.onChange(({ queues }) => void told.push(...queues));

    await q.ended(running as ClaimedJob, { kind: "done" });
    for (let turns = 0; turns < 100 && !told.includes(q.queue); turns++) await subject.store.read.head();
    forget();

    assert.ok(told.includes(q.queue));
  }),
  aCase("queue.limits-exact", "[F17] cell 25: a group at its limit waits, and the others go on", async (subject) => {
    const q = queueOf(subject);
    await sendTo(q, "a", "a1", "a2", "a3");
    await sendTo(q, "b", "b1");
    await q.send("n1");
    const policy = { perGroup: { concurrency: 1 } };

    const first = await q.ask(10, policy);
    assert.deepEqual([namesOf(q, first), first.nextDueAtMs], [["n1", "a1", "b1"], undefined]);
    assert.deepEqual(namesOf(q, await q.ask(10, policy)), []);
    await q.ended(first.jobs[1] as ClaimedJob, { kind: "done" });

    assert.deepEqual(namesOf(q, await q.ask(10, policy)), ["a2"]);
  }),
  aCase("queue.limits-exact", "[F17] cell 26: a rate lets one go at a time, and says when the next may", async (subject) => {
    const q = queueOf(subject);
    for (const name of ["one", "two", "three"]) await q.send(name);
    const policy = { rate: { everyMs: 500, slackMs: 0 } };

    const first = await q.ask(10, policy);
    assert.deepEqual([namesOf(q, first), first.nextDueAtMs], [["one"], q.nowMs() + 500]);
    await subject.clock.advance(499);
    assert.deepEqual(namesOf(q, await q.ask(10, policy)), []);
    await subject.clock.advance(1);
    assert.deepEqual(namesOf(q, await q.ask(10, policy)), ["two"]);
    await subject.clock.advance(5_000);

    assert.deepEqual(namesOf(q, await q.ask(10, policy)), ["three"], "a quiet time saves nothing up");
    assert.equal((await q.ask(10, policy)).nextDueAtMs, undefined);
  }),
  aCase("queue.limits-exact", "[F17] cell 26: over any time a rate is kept to the fraction; what was late is made up for within the slack", async (subject) => {
    const q = queueOf(subject);
    for (let i = 0; i < 200; i++) await q.send(`m${i}`);
    const policy = { rate: { everyMs: 2.5, slackMs: 20 } };
    assert.equal((await q.ask(512, policy)).jobs.length, 9, "the slack, and the one that is due");
    let taken = 0;
    for (const waitMs of [1, 7, 20, 2, 30, 40]) {
      await subject.clock.advance(waitMs);
      taken += (await q.ask(512, policy)).jobs.length;
    }

    // 1 + 7 + 20 + 2 ms in full; of the waits beyond the slack only the slack, and the one that is due.
    assert.equal(taken, 12 + 9 + 9);
  }),
  aCase("queue.limits-exact", "[F17] cell 27: each group has a rate of its own", async (subject) => {
    const q = queueOf(subject);
    await sendTo(q, "a", "a1", "a2");
    await sendTo(q, "b", "b1", "b2");
    const policy = { perGroup: { rate: { everyMs: 1_000, slackMs: 0 } } };

    const first = await q.ask(10, policy);
    assert.deepEqual([namesOf(q, first), first.nextDueAtMs], [["a1", "b1"], q.nowMs() + 1_000]);
    await subject.clock.advance(1_000);

    assert.deepEqual(namesOf(q, await q.ask(10, policy)), ["a2", "b2"]);
  }),
  aCase("queue.limits-exact", "[F17] cell 28: limits of the queue and of its groups hold together, and turns go on among those who may", async (subject) => {
    const q = queueOf(subject);
    await sendTo(q, "a", "a1", "a2", "a3");
    await sendTo(q, "b", "b1", "b2", "b3");
    const policy = { concurrency: 3, perGroup: { concurrency: 2 }, weights: { a: 5 } };

    const first = await q.ask(10, policy);
    assert.deepEqual(namesOf(q, first), ["a1", "a2", "b1"]);
    await q.ended(first.jobs[0] as ClaimedJob, { kind: "done" });

    assert.deepEqual(namesOf(q, await q.ask(10, policy)), ["a3"], "b was served last");
  }),
];

const ends: readonly Case<StoreSubject>[] = [
  aCase("queue.deadlines", "[F17] cell 29: a job that nobody started by its deadline is dead, and its key goes on", async (subject) => {
    const q = queueOf(subject);
    await q.send("late", { key: "k", startByMs: q.nowMs() + 1_000 });
    await q.send("next", { key: "k" });
    await q.send("in time", { startByMs: q.nowMs() + 1_001 });
    await subject.clock.advance(1_001);

    assert.deepEqual((await q.names()).sort(), ["in time", "next"]);
    const [dead] = await subject.store.read.jobs({ queue: q.queue, state: "dead", limit: 10 });
    assert.deepEqual([text(dead?.payload), dead?.error, dead?.attempt], ["late", expiredError, 0]);
  }),
  aCase("queue.deadlines", "[F17] cell 29: a deadline also ends the tries; a redrive lifts it", async (subject) => {
    const q = queueOf(subject);
    await q.send("tried", { group: "g", startByMs: q.nowMs() + 1_000 });
    const held = await q.one();
    await q.ended(held, { kind: "retry", dueAtMs: q.nowMs() + 2_000, error: "boom" });
    await subject.clock.advance(2_000);
    assert.deepEqual(await q.names(), []);

    await q.write({ kind: "redrive", job: held.id });

    assert.deepEqual(await q.names(), ["tried"]);
  }),
  aCase("queue.deadlines", "[F17] cell 29: many that are too late do not hide the one that is not", async (subject) => {
    const q = queueOf(subject);
    for (let i = 0; i < 20; i++) await q.send(`late${i}`, { startByMs: q.nowMs(), ...(i % 2 ? { group: "g" } : {}) });
    await q.send("fine");
    await subject.clock.advance(1);

    assert.deepEqual(await q.names(1), ["fine"]);
  }),
  aCase("queue.replaces-waiting", "[F17] cell 30: a replacing message takes the place of the one that waits, and moves its due time", async (subject) => {
    const q = queueOf(subject);
    const replace = (name: string, atMostMs?: number) =>
      q.send(name, { unique: "u", dueAtMs: q.nowMs() + 1_000, replace: atMostMs === undefined ? {} : { atMostMs } });
    await replace("first");
    await subject.clock.advance(600);
    await replace("second");
    await subject.clock.advance(600);
    assert.deepEqual(await q.names(), []);
    await subject.clock.advance(400);

    assert.deepEqual(await q.names(), ["second"]);
  }),
  aCase("queue.replaces-waiting", "[F17] cell 30: replaced again and again it is due at the latest so long after the first one", async (subject) => {
    const q = queueOf(subject);
    const sentAtMs = q.nowMs();
    for (let i = 0; i < 5; i++) {
      await q.send(`m${i}`, { unique: "u", dueAtMs: q.nowMs() + 1_000, replace: { atMostMs: 2_500 } });
      await subject.clock.advance(600);
    }
    assert.equal(q.nowMs(), sentAtMs + 3_000);

    const [job] = await q.claim();
    assert.deepEqual([q.nameOf((job as ClaimedJob).id), job?.sentAtMs], ["m4", sentAtMs]);
  }),
  aCase("queue.replaces-waiting", "[F17] cell 30: one that has run before is not replaced: both are handled", async (subject) => {
    const q = queueOf(subject);
    await q.send("tried", { unique: "u" });
    await q.ended(await q.one(), { kind: "retry", dueAtMs: q.nowMs() + 1_000, error: "boom" });

    await q.send("second", { unique: "u", replace: {} });
    await q.send("third", { unique: "u", replace: {} });
    await subject.clock.advance(1_000);

    assert.deepEqual(await q.drainInOrder(), ["third", "tried"]);
  }),
  aCase("queue.replaces-waiting", "[F17] cell 30: replacing the head of a key, the new one joins its end", async (subject) => {
    const q = queueOf(subject);
    await q.send("head", { key: "k", unique: "u" });
    await q.send("next", { key: "k" });

    await q.send("instead", { key: "k", unique: "u", replace: {} });

    assert.deepEqual(await q.drainInOrder(), ["next", "instead"]);
  }),
  aCase("queue.keeps-ended", "[F17] cell 31: a done job that is kept can be looked at, holds nothing up, and goes when its time is over", async (subject) => {
    const q = queueOf(subject);
    await q.send("one", { key: "k", unique: "u" });
    await q.send("two", { key: "k" });
    await q.ended(await q.one(), { kind: "done", keepUntilMs: q.nowMs() + 5_000 });
    await q.send("again", { unique: "u" });

    assert.deepEqual(await q.names(), ["two", "again"]);
    const [kept] = await subject.store.read.jobs({ queue: q.queue, state: "done", limit: 10 });
    assert.deepEqual([text(kept?.payload), kept?.attempt], ["one", 1]);
    assert.equal((await subject.store.read.queue(q.queue)).waiting, 0);
    await subject.clock.advance(5_000);
    await swept(subject);

    assert.deepEqual(await subject.store.read.jobs({ queue: q.queue, state: "done", limit: 10 }), []);
  }),
  aCase("queue.keeps-ended", "[F17] cell 31: a dead one goes when its time is over, unless a person has put it back", async (subject) => {
    const q = queueOf(subject);
    for (const name of ["goes", "put back"]) await q.send(name);
    const [goes, putBack] = (await q.claim(2)) as [ClaimedJob, ClaimedJob];
    for (const job of [goes, putBack]) await q.ended(job, { kind: "dead", error: "gave up", keepUntilMs: q.nowMs() + 5_000 });
    await q.write({ kind: "redrive", job: putBack.id });
    await subject.clock.advance(5_000);
    await swept(subject);

    assert.deepEqual(await subject.store.read.jobs({ queue: q.queue, state: "dead", limit: 10 }), []);
    assert.deepEqual(await q.names(), ["put back"]);
  }),
  aCase("queue.keeps-ended", "[F17] cell 32: a redrive may carry another payload", async (subject) => {
    const q = queueOf(subject);
    await q.send("broken");
    const held = await q.one();
    await q.ended(held, { kind: "dead", error: "gave up" });

    await q.write({ kind: "redrive", job: held.id, payload: new TextEncoder().encode("mended") });

    assert.equal(text((await q.one()).payload), "mended");
  }),
];

/** Tidying up rides on commits, now and then. */
async function swept({ store, ids, clock }: StoreSubject): Promise<void> {
  for (let i = 0; i < 3; i++) {
    await store.commit({ id: ids.next(), expects: [], writes: [{ kind: "put", key: `conformance//swept-${ids.next()}`, value: new Uint8Array(0) }] });
    await clock.advance(1_500);
  }
}

export const queuePolicyCases: readonly Case<StoreSubject>[] = [...pauses, ...shares, ...limited, ...ends];

/** Claims of a holder whose event loop is blocked. These cases take real time: they block the thread they run on. */
import assert from "node:assert/strict";
import type { ClaimedJob, Write } from "../store/index.ts";
import { bytes, freshKey, type Case } from "./case.ts";
import type { StoreSubject } from "./queue.ts";

export interface HeartbeatSubject extends Omit<StoreSubject, "clock"> {
  /** Lets the event loop stand still for so long. */
  block(ms: number): void;
}

const leaseMs = 300;
const blockedMsMax = 1_200;

async function held({ store, ids }: HeartbeatSubject) {
  const queue = `q-${ids.next()}`;
  const write = (...writes: Write[]) => store.commit({ id: ids.next(), expects: [], writes });
  const send = () => write({ kind: "enqueue", job: { id: ids.next(), queue, payload: bytes("work"), priority: 1 } });
  await send();
  const claim = async (holder: string) => (await store.claim({ holder, leaseMs, queues: [{ queue, limit: 1 }] })).jobs[0];
  const heartbeat = store.heartbeat("blocked", { leaseMs, blockedMsMax });
  assert.ok(heartbeat, "an engine that gives the guarantee has heartbeats");
  heartbeat.beat();
  const job = (await claim("blocked")) as ClaimedJob;
  const key = freshKey({ ids });
  const done = () => write({ kind: "put", key, value: bytes("effect") }, { kind: "finish", job: job.id, fence: job.fence, end: { kind: "done" } });
  return { queue, send, claim, heartbeat, job, done, key };
}

/** The thread runs: a lease has outlived its end without a beat. On a busy machine that takes longer than a lease, and nothing is promised before. */
async function started(subject: HeartbeatSubject): Promise<void> {
  await soon(subject, async () => {
    const { claim, heartbeat } = await held(subject);
    subject.block(2 * leaseMs);
    const another = await claim("another");
    heartbeat.stop();
    return another === undefined;
  });
}

/**
 * A loop that stood still until its job was taken back. Nobody can look while it does, and on a busy machine the thread is late: a try in which the claim
 * still held afterwards counts for nothing, and the next one stands still for four times as long beyond it, the last for 38 s.
 */
async function blockedBeyondItsBound(subject: HeartbeatSubject) {
  for (let beyondMs = 2 * leaseMs; ; beyondMs *= 4) {
    const one = await held(subject);
    subject.block(blockedMsMax + beyondMs);
    const [holds] = await subject.store.extend([one.job], leaseMs);
    if (!holds || beyondMs > 20_000) return one;
    one.heartbeat.stop();
  }
}

/** What `ask` answers once it answers something: at most a hundred leases later. */
async function soon<Found>({ block }: HeartbeatSubject, ask: () => Promise<Found | undefined | false>): Promise<Found | undefined> {
  for (let leases = 0; leases < 100; leases++) {
    const found = await ask();
    if (found) return found;
    block(leaseMs);
  }
  return undefined;
}

const aCase = (name: string, run: (subject: HeartbeatSubject) => Promise<void>): Case<HeartbeatSubject> => ({
  name,
  guarantee: "queue.outlives-blocked-loop",
  run,
});

export const heartbeatCases: readonly Case<HeartbeatSubject>[] = [
  aCase("a holder whose loop is blocked for longer than its lease, and no longer than its bound, keeps its job", async (subject) => {
    await started(subject);
    const { claim, heartbeat, job, done } = await held(subject);

    subject.block(3 * leaseMs);

    assert.equal(await claim("another"), undefined);
    assert.deepEqual(await subject.store.extend([job], leaseMs), [true]);
    assert.equal((await done()).ok, true);
    heartbeat.stop();
  }),
  aCase("a holder that is blocked beyond its bound loses its job, and what it then commits for it is refused", async (subject) => {
    const { claim, heartbeat, job, done, key } = await blockedBeyondItsBound(subject);

    assert.deepEqual(await done(), { ok: false, refused: "fenced", job: job.id });
    assert.deepEqual(await subject.store.read.records([key]), [undefined]);
    assert.deepEqual(await subject.store.extend([job], leaseMs), [false]);
    const again = await claim("another");
    assert.deepEqual([again?.id, again?.attempt], [job.id, 2]);
    heartbeat.stop();
  }),
  aCase("after a block a holder that beats again keeps what it claims from then on", async (subject) => {
    const { claim, heartbeat, job } = await blockedBeyondItsBound(subject);

    heartbeat.beat();
    const again = await claim("blocked");
    subject.block(3 * leaseMs);

    assert.equal(again?.id, job.id);
    assert.deepEqual(await subject.store.extend([again as ClaimedJob], leaseMs), [true]);
    heartbeat.stop();
  }),
  aCase("what is taken back is told like work", async (subject) => {
    const { queue, heartbeat } = await held(subject);
    const told: string[] = [];
    const forget = subject.store.onChange(({ queues }) => void told.push(...queues));

    subject.block(blockedMsMax + 2 * leaseMs);
    await soon(subject, async () => (await subject.store.resolve(subject.ids.next()), told.includes(queue)));
    forget();

    assert.ok(told.includes(queue));
    heartbeat.stop();
  }),
  aCase("a claim that a beating holder does not know of, because its answer was lost, comes back when its lease ends", async (subject) => {
    const { claim, heartbeat, job } = await held(subject);

    const back = await soon(subject, () => {
      for (let leases = 0; leases < 3; leases += 1 / 6) {
        heartbeat.beat();
        subject.block(leaseMs / 6);
      }
      return claim("another");
    });

    assert.equal(back?.id, job.id);
    heartbeat.stop();
  }),
  aCase("it keeps what its own holder has, and lets the leases of others run out", async (subject) => {
    await started(subject);
    const { send, claim, heartbeat, job } = await held(subject);
    await send();
    const others = await claim("gone");

    subject.block(3 * leaseMs);

    assert.ok(others);
    assert.equal((await claim("another"))?.id, others.id);
    assert.deepEqual(await subject.store.extend([job], leaseMs), [true]);
    heartbeat.stop();
  }),
  aCase("once stopped it keeps nothing: the lease runs out", async (subject) => {
    const { claim, heartbeat, job } = await held(subject);
    heartbeat.stop();
    heartbeat.stop();

    subject.block(2 * leaseMs);

    assert.equal((await soon(subject, () => claim("another")))?.id, job.id);
  }),
];

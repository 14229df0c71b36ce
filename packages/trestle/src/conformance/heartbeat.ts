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

const aCase = (name: string, run: (subject: HeartbeatSubject) => Promise<void>): Case<HeartbeatSubject> => ({
  name,
  guarantee: "queue.outlives-blocked-loop",
  run,
});

export const heartbeatCases: readonly Case<HeartbeatSubject>[] = [
  aCase("a holder whose loop is blocked for longer than its lease, and no longer than its bound, keeps its job", async (subject) => {
    const { claim, heartbeat, job, done } = await held(subject);

    subject.block(3 * leaseMs);

    assert.equal(await claim("another"), undefined);
    assert.deepEqual(await subject.store.extend([job], leaseMs), [true]);
    assert.equal((await done()).ok, true);
    heartbeat.stop();
  }),
  aCase("a holder that is blocked beyond its bound loses its job, and what it then commits for it is refused", async (subject) => {
    const { claim, heartbeat, job, done, key } = await held(subject);

    subject.block(blockedMsMax + 2 * leaseMs);

    assert.deepEqual(await done(), { ok: false, refused: "fenced", job: job.id });
    assert.deepEqual(await subject.store.read.records([key]), [undefined]);
    assert.deepEqual(await subject.store.extend([job], leaseMs), [false]);
    const again = await claim("another");
    assert.deepEqual([again?.id, again?.attempt], [job.id, 2]);
    heartbeat.stop();
  }),
  aCase("after a block a holder that beats again keeps what it claims from then on", async (subject) => {
    const { claim, heartbeat, job } = await held(subject);
    subject.block(blockedMsMax + 2 * leaseMs);

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
    for (let turns = 0; turns < 100 && !told.includes(queue); turns++) await subject.store.resolve(subject.ids.next());
    forget();

    assert.ok(told.includes(queue));
    heartbeat.stop();
  }),
  aCase("a claim that a beating holder does not know of, because its answer was lost, comes back when its lease ends", async (subject) => {
    const { claim, heartbeat, job } = await held(subject);

    for (let leases = 0; leases < 3; leases += 1 / 6) {
      heartbeat.beat();
      subject.block(leaseMs / 6);
    }

    assert.equal((await claim("another"))?.id, job.id);
    heartbeat.stop();
  }),
  aCase("it keeps what its own holder has, and lets the leases of others run out", async (subject) => {
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

    assert.equal((await claim("another"))?.id, job.id);
  }),
];

/**
 * The random life of one queue: jobs are sent, handed out, ended, cancelled, redriven, paused, alone and in bursts that become one batch, under
 * a policy or none, while time passes; after each step the store must have answered what `QueueModel` says.
 */
import assert from "node:assert/strict";
import type { Ids, Random, VirtualClock } from "../kernel/index.ts";
import type { Claim, JobEnd, QueuePolicy, Store, Write } from "../store/index.ts";
import { bytes } from "./case.ts";
import { QueueModel } from "./queue-model.ts";

export interface QueueLife {
  /** A store that judges time by `clock`, in which nobody uses the queue "q". */
  readonly store: Store;
  readonly clock: VirtualClock;
  readonly ids: Ids;
  readonly random: Random;
  readonly steps: number;
}

const pick = <T>(random: Random, list: readonly T[]): T => list[Math.floor(random.next() * list.length)] as T;
const chance = (random: Random, likely: number) => random.next() < likely;
const below = (random: Random, most: number) => Math.floor(random.next() * most);

/** Rejects with the first difference. One function of more than 60 lines, because it is one list of what may happen. */
export async function liveQueue({ store, clock, ids, random, steps }: QueueLife): Promise<void> {
  const model = new QueueModel();
  const held: { readonly claim: Claim; readonly modelClaim: number }[] = [];
  const names: string[] = [];
  const write = (each: Write) => store.commit({ id: ids.next(), expects: [], writes: [each] });
  const groups = chance(random, 0.6) ? ["", "a", "b", "é", "\ue000", "\u{1f600}"] : [];
  const policy = pick<QueuePolicy | undefined>(random, [
    undefined,
    undefined,
    { concurrency: 3 },
    { perGroup: { concurrency: 1 } },
    { weights: { a: 2, b: 3 } },
    { concurrency: 4, perGroup: { concurrency: 2 }, weights: { b: 3 } },
  ]);

  const send = async () => {
    const name = ids.next();
    names.push(name);
    const options = {
      priority: below(random, 3),
      ...(chance(random, 0.7) && { key: pick(random, ["k", "l", "m"]) }),
      ...(chance(random, 0.15) && { unique: pick(random, ["u", "v"]) }),
      ...(chance(random, 0.3) && { dueAtMs: clock.wallMs() + below(random, 500) - 50 }),
      ...(groups.length > 0 && chance(random, 0.8) && { group: pick(random, groups) }),
      ...(chance(random, 0.15) && { startByMs: clock.wallMs() + below(random, 600) }),
      ...(chance(random, 0.15) && { unique: "w", replace: chance(random, 0.5) ? {} : { atMostMs: below(random, 300) } }),
    };
    model.send(name, options);
    await write({ kind: "enqueue", job: { id: name, queue: "q", payload: bytes(name), ...options } });
  };
  const end = async (step: number) => {
    const at = below(random, held.length);
    const { claim, modelClaim } = held[at] as (typeof held)[number];
    const how = pick<JobEnd>(random, [
      { kind: "done" },
      { kind: "done", keepUntilMs: clock.wallMs() + below(random, 300) },
      { kind: "retry", dueAtMs: clock.wallMs() + below(random, 300), error: "e" },
      { kind: "later", dueAtMs: clock.wallMs() + below(random, 300) },
      { kind: "dead", error: "e" },
      { kind: "parked", error: "e" },
      { kind: "undetermined", error: "e" },
    ]);
    if (chance(random, 0.8)) held.splice(at, 1);
    const expected = model.end(claim.id, modelClaim, how);
    const outcome = await write({ kind: "finish", job: claim.id, fence: claim.fence, end: how });
    assert.equal(outcome.ok, expected, `step ${step}: ${how.kind}`);
  };
  const putBackOrCancel = async () => {
    const name = pick(random, names);
    const kind = chance(random, 0.7) ? "redrive" : "cancel";
    model[kind](name);
    await write({ kind, job: name });
  };
  const claim = async (step: number) => {
    const limit = 1 + below(random, 4);
    const leaseMs = 1 + below(random, 400);
    const expected = model.claim(limit, leaseMs, policy);
    const { jobs } = await store.claim({ holder: "h", leaseMs, queues: [{ queue: "q", limit, ...(policy && { policy }) }] });
    assert.deepEqual(
      jobs.map(({ id, attempt }) => [id, attempt]),
      expected.map(({ name, attempt }) => [name, attempt]),
      `step ${step}`,
    );
    jobs.forEach((job, i) => held.push({ claim: { id: job.id, fence: job.fence }, modelClaim: expected[i]?.claim ?? 0 }));
  };

  for (let step = 0; step < steps; step++) {
    model.tick(clock.wallMs());
    if (chance(random, 0.03)) {
      model.paused = !model.paused;
      await write({ kind: "pause", queue: "q", paused: model.paused });
    }
    const what = below(random, 10);
    if (what < 4) await claim(step);
    else if (what === 4 && held.length > 0) {
      const { claim, modelClaim } = pick(random, held);
      assert.deepEqual(await store.extend([claim], 200), [model.extend(claim.id, modelClaim, 200)], `step ${step}`);
    } else {
      // Not awaited one by one: what is submitted together is one batch, and means what it would mean one after the other.
      const burst: Promise<void>[] = [];
      for (let left = chance(random, 0.5) ? 1 : 1 + below(random, 12); left > 0; left--) {
        const which = below(random, 8);
        if (which < 4 || names.length === 0) burst.push(send());
        else if (which < 7 && held.length > 0) burst.push(end(step));
        else burst.push(putBackOrCancel());
      }
      await Promise.all(burst);
    }
    if (chance(random, 0.1)) {
      const { waiting, running, dead, parked, undetermined } = await store.read.queue("q");
      assert.deepEqual({ waiting, running, dead, parked, undetermined }, model.states(), `step ${step}`);
    }
    if (chance(random, 0.6)) await clock.advance(below(random, 120));
  }
}

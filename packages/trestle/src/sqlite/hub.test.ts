/** Who gets how much of the lane: without sockets, threads or a clock that moves by itself. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { seededRandom, uuidv7Ids, virtualClock } from "../kernel/index.ts";
import type { Change, ClaimedJob, Claims, CommitOutcome } from "../store/index.ts";
import { openForWriting } from "./connection.ts";
import { comeBackWithinMs, Hub, type Member } from "./hub.ts";
import { stepRows } from "./jobs-part.ts";
import { openLane } from "./lane.ts";
import type { Operation } from "./operation.ts";
import type { Answer } from "./questions.ts";
import { raiseTerm } from "./term.ts";
import { packOne, packOperations, unpackReply } from "./wire.ts";

function rig() {
  const clock = virtualClock();
  const ids = uuidv7Ids(clock, seededRandom("hub"));
  const db = openForWriting(":memory:", "full");
  const term = raiseTerm(db) as number;
  const lane = openLane({ open: () => db, term, keepsClaims: true });
  const batches: number[] = [];
  const counted = {
    ...lane,
    get n() {
      return lane.n;
    },
    get epoch() {
      return lane.epoch;
    },
    apply(operations: readonly Operation[], nowMs: number) {
      batches.push(operations.length);
      return lane.apply(operations, nowMs);
    },
  };
  let superseded = 0;
  const living = new Set<string>();
  const hub = new Hub({ lane: counted, clock, superseded: () => void superseded++, isGone: (session) => !living.has(session) });
  const order: string[] = [];
  const commit = (key = ids.next(), sizeBytes = 1): Operation => ({
    kind: "commit",
    commit: { id: ids.next(), expects: [], writes: [{ kind: "put", key: `a//${key}`, value: new Uint8Array(sizeBytes) }] },
  });
  function join(session: string, knows?: number, near = false) {
    const answers: Answer[] = [];
    const notices: Change[] = [];
    const member: Member = {
      session,
      near,
      answer: (answer) => {
        answers.push(answer);
        order.push(session);
      },
      notice: (change) => void notices.push(change),
    };
    const chair = hub.join(member, knows);
    return {
      member,
      chair,
      answers,
      notices,
      apply: (operations: readonly Operation[]) => hub.ask(chair, { ask: "apply", packed: packOperations(operations), nowMs: clock.wallMs() }),
      ask: (question: Parameters<Hub["ask"]>[1]) => hub.ask(chair, question),
      results: () => answers.flatMap((answer) => ("packed" in answer ? unpackReply(answer.packed, lane.epoch).results : [])),
    };
  }
  return { clock, ids, lane, db, hub, batches, order, commit, join, living, settle: () => clock.advance(0), superseded: () => superseded };
}
type Rig = ReturnType<typeof rig>;
const commits = (rig: Rig, count: number, sizeBytes?: number) => Array.from({ length: count }, () => rig.commit(undefined, sizeBytes));

test("what several processes ask in one moment is one batch, and everybody gets an answer of their own", async () => {
  const all = rig();
  const [a, b] = [all.join("1.a"), all.join("2.b")];
  await all.settle();

  a.apply(commits(all, 3));
  b.apply(commits(all, 2));
  await all.settle();

  assert.deepEqual(all.batches, [5]);
  assert.deepEqual([a.results().length, b.results().length], [3, 2]);
  assert.deepEqual(
    [...a.results(), ...b.results()].map((result) => (result as CommitOutcome).ok),
    [true, true, true, true, true],
  );
});

test("a process with thousands of commits waiting delays another's few by no batch, and gets the places it leaves", async () => {
  const all = rig();
  const [greedy, small, third] = [all.join("1.greedy"), all.join("2.small"), all.join("3.third")];
  await all.settle();
  for (let i = 0; i < 4; i++) greedy.apply(commits(all, 512));
  small.apply(commits(all, 8));
  third.apply(commits(all, 300));

  await all.settle();

  assert.equal(all.batches[0], 512);
  assert.deepEqual(all.order.slice(0, 1), ["2.small"], "answered with the first batch");
  assert.equal(all.order[1], "3.third", "its half of what is left takes two batches, before the greedy one's second question");
  assert.equal(greedy.answers.length, 4);
  assert.equal(
    all.batches.reduce((sum, size) => sum + size, 0),
    4 * 512 + 8 + 300,
  );
});

test("places are bytes, too: a process with large commits leaves room for small ones", async () => {
  const all = rig();
  const [large, small] = [all.join("1.large"), all.join("2.small")];
  await all.settle();
  large.apply(commits(all, 4, 1_000_000));
  large.apply(commits(all, 4, 1_000_000));
  small.apply(commits(all, 20, 100));

  await all.settle();

  assert.equal(all.order[0], "2.small");
  assert.ok((all.batches[0] as number) >= 22 && (all.batches[0] as number) <= 24, `the first batch had ${all.batches[0]} commits`);
});

test("everybody hears of what the others changed, once, and before the answers to it", async () => {
  const all = rig();
  const [a, b] = [all.join("1.a"), all.join("2.b")];
  await all.settle();

  a.apply([all.commit("one")]);
  await all.settle();

  for (const { notices } of [a, b]) assert.deepEqual(notices, [{ n: 1, keys: ["a//one"], queues: [] }]);
  const [answer] = a.answers;
  assert.ok(answer && "packed" in answer && unpackReply(answer.packed, 1).told, "the engine need not tell it again");
});

test("what is asked by one who does not listen is told to the only one who does", async () => {
  const all = rig();
  const listens = all.join("1.a", undefined, true);
  const beats = all.hub.join({ session: "2.b", listens: false, answer: () => undefined, notice: () => undefined });

  all.hub.ask(beats, { ask: "apply", packed: packOperations([all.commit("told")]), nowMs: all.clock.wallMs() });
  await all.settle();

  assert.deepEqual(
    listens.notices.map(({ keys }) => keys),
    [["a//told"]],
  );
});

test("[F19] batches and transactions take turns, and a transaction of one who has gone is rolled back at once", async () => {
  const all = rig();
  const [a, b] = [all.join("1.a"), all.join("2.b")];
  await all.settle();
  a.ask({ ask: "begin", nowMs: all.clock.wallMs(), withinMs: 10_000 });
  await all.settle();
  a.ask({ ask: "execute", statement: { text: "create table mine (x)", parameters: [] } });
  b.apply(commits(all, 1));
  await all.settle();
  assert.deepEqual([a.answers.length, b.answers.length], [2, 0], "the other one waits");

  all.hub.leave(a.chair, "ended");
  await all.settle();

  assert.equal(b.answers.length, 1);
  assert.equal(all.db.prepare("select count(*) as n from sqlite_schema where name = 'mine'").get()?.["n"], 0);
});

test("[F19] a transaction over its limit frees the lane for the others, and its own process hears of it when it comes back", async () => {
  const all = rig();
  const [a, b] = [all.join("1.a"), all.join("2.b")];
  await all.settle();
  a.ask({ ask: "begin", nowMs: all.clock.wallMs(), withinMs: 250 });
  b.apply(commits(all, 1));
  await all.settle();
  assert.equal(b.answers.length, 0);

  await all.clock.advance(251);
  assert.equal(b.answers.length, 1);
  a.ask({ ask: "end", commit: packOne({ id: all.ids.next(), expects: [], writes: [] }) });
  await all.settle();

  const end = a.answers.at(-1);
  assert.ok(end && "failed" in end && "code" in end.failed && end.failed.code === "transaction.overran");
});

async function withClaims(all: Rig, session: string) {
  const holder = all.join(session);
  await all.settle();
  holder.apply([
    {
      kind: "commit",
      commit: {
        id: all.ids.next(),
        expects: [],
        writes: [{ kind: "enqueue", job: { id: all.ids.next(), queue: "q", payload: new Uint8Array(), priority: 1 } }],
      },
    },
  ]);
  await all.settle();
  holder.apply([{ kind: "claim", request: { holder: "h", leaseMs: 30_000, queues: [{ queue: "q", limit: 1 }] } }]);
  await all.settle();
  const [job] = (holder.results().at(-1) as Claims).jobs;
  assert.ok(job);
  return { holder, job };
}
const claim = (all: Rig, member: ReturnType<Rig["join"]>) => {
  member.apply([{ kind: "claim", request: { holder: "h", leaseMs: 30_000, queues: [{ queue: "q", limit: 1 }] } }]);
  return all.settle().then(() => (member.results().at(-1) as Claims).jobs);
};

test("jobs of a process that is gone are free at once under a higher fence, those of the living are kept", async () => {
  const all = rig();
  const { holder, job } = await withClaims(all, "1.a");
  const other = all.join("2.b");
  await all.settle();
  assert.deepEqual(await claim(all, other), []);

  all.hub.leave(holder.chair, "ended");
  await all.settle();

  assert.ok(
    other.notices.some(({ queues }) => queues.includes("q")),
    "the others are told",
  );
  const [again] = await claim(all, other);
  assert.ok(again && again.id === job.id && again.fence.n > job.fence.n && again.again);
});

test("[F17] thousands of claims of a process that is gone come back in parts, between what the living ask: none is handed out twice, each key in its order", async () => {
  const all = rig();
  const gone = all.join("1.gone");
  await all.settle();
  const keys = 2_500;
  const places = new Map<string, { readonly key: number; readonly place: number }>();
  const send = (key: number, place: number): Operation => {
    const id = all.ids.next();
    places.set(id, { key, place });
    return {
      kind: "commit",
      commit: {
        id: all.ids.next(),
        expects: [],
        writes: [{ kind: "enqueue", job: { id, queue: "q", payload: new Uint8Array(), priority: 1, key: `k${key}` } }],
      },
    };
  };
  for (const place of [0, 1]) gone.apply(Array.from({ length: keys }, (_, key) => send(key, place)));
  const claim500: Operation = { kind: "claim", request: { holder: "h", leaseMs: 30_000, queues: [{ queue: "q", limit: 500 }] } };
  gone.apply(Array.from({ length: 5 }, () => claim500));
  await all.settle();
  const before = new Map(
    gone.results().flatMap((result) => ("jobs" in (result as object) ? (result as Claims).jobs : []).map((job) => [job.id, job] as const)),
  );
  assert.equal(before.size, keys, "the heads of all keys");

  const leftAtAnswers: number[] = [];
  const handedOut: ClaimedJob[] = [];
  const lives = all.hub.join({
    session: "2.lives",
    notice: () => undefined,
    answer(answer) {
      assert.ok("packed" in answer);
      const [claims] = unpackReply(answer.packed, all.lane.epoch).results.slice(-1) as [Claims];
      handedOut.push(...claims.jobs);
      const left = Number(all.db.prepare("select count(*) as n from trestle_jobs where state = 2 and holder like '1.gone/%'").get()?.["n"]);
      leftAtAnswers.push(left);
      if (left > 0 || claims.jobs.length > 0) finishAndClaim(claims.jobs);
    },
  });
  const finishAndClaim = (jobs: readonly ClaimedJob[]) => {
    const finish = jobs.map(({ id, fence }): Operation => ({
      kind: "commit",
      commit: { id: all.ids.next(), expects: [], writes: [{ kind: "finish", job: id, fence, end: { kind: "done" } }] },
    }));
    all.hub.ask(lives, { ask: "apply", packed: packOperations([...finish, claim500]), nowMs: all.clock.wallMs() });
  };
  all.hub.leave(gone.chair, "ended");
  finishAndClaim([]);
  await all.settle();

  assert.deepEqual(leftAtAnswers.slice(0, 3), [keys - stepRows, keys - 2 * stepRows, 0]);
  assert.equal(handedOut.length, 2 * keys);
  const order = new Map<number, number[]>();
  for (const { id, attempt, fence } of handedOut) {
    const { key, place } = places.get(id) as { readonly key: number; readonly place: number };
    order.set(key, [...(order.get(key) ?? []), place]);
    assert.equal(attempt, place === 0 ? 2 : 1);
    assert.ok(fence.n > (before.get(id)?.fence.n ?? 0));
  }
  for (const [key, handed] of order) assert.deepEqual(handed, [0, 1], `key ${key}`);
  assert.equal(order.size, keys);
});

test("a living process whose connection ended has a moment to come back for its claims, and none when it said goodbye", async () => {
  const all = rig();
  const { holder } = await withClaims(all, "1.a");
  all.living.add("1.a");
  const running = () => all.db.prepare("select count(*) as n from trestle_jobs where state = 2").get()?.["n"];

  all.hub.leave(holder.chair, "ended");
  await all.clock.advance(comeBackWithinMs / 2);
  assert.equal(running(), 1);
  const again = all.hub.join(holder.member, 1_000);
  await all.clock.advance(comeBackWithinMs * 2);
  assert.equal(running(), 1, "it came back");

  all.hub.leave(again, "ended");
  await all.clock.advance(comeBackWithinMs + 50);
  assert.equal(running(), 0, "it did not come back");

  const other = await withClaims(all, "3.c");
  all.living.add("3.c");
  assert.equal(running(), 1);
  all.hub.leave(other.holder.chair, "goodbye");
  await all.settle();
  assert.equal(running(), 0);
});

test("a new writer keeps the claims of those who may come back, and takes back what the one who comes does not know of", async () => {
  const all = rig();
  const { holder, job } = await withClaims(all, "1.a");
  // A new term over the same file: nobody sits there yet.
  const lane = openLane({ open: () => all.db, term: raiseTerm(all.db) as number, keepsClaims: true });
  const hub = new Hub({ lane, clock: all.clock, superseded: () => undefined, isGone: (session) => session !== "1.a" });
  const noted: Change[] = [];
  const b = { session: "2.b", answer: () => undefined, notice: (change: Change) => void noted.push(change) };
  hub.join(b);
  hub.expect();
  await all.clock.advance(comeBackWithinMs / 2);
  assert.equal(lane.db.prepare("select count(*) as n from trestle_jobs where state = 2").get()?.["n"], 1);

  // It comes back, and has heard of its claim: it keeps it, also when the time is over.
  hub.join(holder.member, job.fence.n);
  await all.clock.advance(comeBackWithinMs);
  assert.equal(lane.db.prepare("select count(*) as n from trestle_jobs where state = 2").get()?.["n"], 1);

  // It comes once more, and never heard the answer that gave it the job.
  hub.join(holder.member, job.fence.n - 1);
  await all.settle();
  assert.equal(lane.db.prepare("select count(*) as n from trestle_jobs where state = 2").get()?.["n"], 0);
  assert.deepEqual(noted.at(-1)?.queues, ["q"]);
});

test("claims of those who do not come back within their time are taken back", async () => {
  const all = rig();
  await withClaims(all, "1.a");
  const lane = openLane({ open: () => all.db, term: raiseTerm(all.db) as number, keepsClaims: true });
  const hub = new Hub({ lane, clock: all.clock, superseded: () => undefined, isGone: () => false });
  hub.join({ session: "2.b", answer: () => undefined, notice: () => undefined });
  hub.expect();

  await all.clock.advance(comeBackWithinMs - 1);
  assert.equal(lane.db.prepare("select count(*) as n from trestle_jobs where state = 2").get()?.["n"], 1);
  await all.clock.advance(2);
  assert.equal(lane.db.prepare("select count(*) as n from trestle_jobs where state = 2").get()?.["n"], 0);
});

test("a heartbeat takes back what its holder claimed up to a number, and what it claimed after that is left alone", async () => {
  const all = rig();
  const { holder, job } = await withClaims(all, "1.a");
  const running = () => all.db.prepare("select count(*) as n from trestle_jobs where state = 2").get()?.["n"];

  holder.apply([{ kind: "release", holder: "h", madeUpTo: job.fence.n - 1 }]);
  await all.settle();
  assert.equal(running(), 1);

  holder.apply([{ kind: "release", holder: "h", madeUpTo: job.fence.n }]);
  await all.settle();
  assert.equal(running(), 0);
});

test("claims that could not be taken back at first are tried again, and what was claimed meanwhile is left alone", async () => {
  const all = rig();
  const { holder, job } = await withClaims(all, "1.a");
  const inner = openLane({ open: () => all.db, term: raiseTerm(all.db) as number, keepsClaims: true });
  let failures = 1;
  const lane = {
    ...inner,
    get n() {
      return inner.n;
    },
    release(...asked: Parameters<typeof inner.release>) {
      if (failures-- > 0) throw Object.assign(new Error("database or disk is full"), { errcode: 13 });
      return inner.release(...asked);
    },
  };
  const hub = new Hub({ lane, clock: all.clock, superseded: () => undefined, isGone: () => false });
  hub.join(holder.member, job.fence.n - 1); // it never heard of its claim
  await all.settle();
  const running = () => all.db.prepare("select count(*) as n from trestle_jobs where state = 2").get()?.["n"];
  assert.equal(running(), 1, "the disk was full");
  const enqueue = {
    kind: "commit",
    commit: {
      ...(all.commit() as Operation & { kind: "commit" }).commit,
      writes: [{ kind: "enqueue" as const, job: { id: all.ids.next(), queue: "other", payload: new Uint8Array(), priority: 1 } }],
    },
  } as const;
  inner.apply([enqueue, { kind: "claim", request: { holder: `${holder.member.session}/h`, leaseMs: 60_000, queues: [{ queue: "other", limit: 1 }] } }], 1);
  assert.equal(running(), 2);

  await all.clock.advance(1_000);

  assert.equal(running(), 1, "of the old one, not of the new one");
  assert.equal(all.db.prepare("select queue from trestle_jobs where state = 2").get()?.["queue"], "other");
});

test("of the hub's own process everything that waits goes into one batch, each question told of its own; of another process one at a time", async () => {
  const all = rig();
  const near = all.join("1.a", undefined, true);
  await all.settle();
  for (const size of [1, 2, 3]) near.apply(Array.from({ length: size }, () => all.commit()));
  await all.settle();

  assert.deepEqual(all.batches, [6]);
  assert.deepEqual(
    near.answers.map((answer) => ("packed" in answer ? unpackReply(answer.packed, 1).results.length : answer)),
    [1, 2, 3],
  );
  assert.deepEqual(
    near.results().map((result) => (result as CommitOutcome & { ok: true }).n),
    [1, 2, 3, 4, 5, 6],
  );
  all.hub.leave(near.chair, "goodbye");
  const far = all.join("2.b");
  await all.settle();
  for (const size of [1, 2, 3]) far.apply(Array.from({ length: size }, () => all.commit()));
  await all.settle();
  assert.deepEqual(all.batches, [6, 1, 2, 3]);
});

test("what does not fit a batch beside the first question waits for the next one, in order", async () => {
  const all = rig();
  const near = all.join("1.a", undefined, true);
  await all.settle();
  for (const size of [500, 12, 1, 400]) near.apply(Array.from({ length: size }, () => all.commit()));
  await all.settle();

  assert.deepEqual(all.batches, [512, 401]);
  assert.deepEqual(
    near.results().map((result) => (result as CommitOutcome & { ok: true }).n),
    Array.from({ length: 913 }, (_, n) => n + 1),
  );
});

test("[F18] a writer whose term is over applies nothing, answers nothing, and says so once", async () => {
  const all = rig();
  const a = all.join("1.a");
  await all.settle();
  a.apply([all.commit("before")]);
  await all.settle();
  assert.equal(a.answers.length, 1);

  raiseTerm(all.db);
  a.apply([all.commit("late")]);
  await all.settle();
  a.apply([all.commit("later")]);
  await all.settle();

  assert.deepEqual([a.answers.length, all.superseded(), all.hub.isOver], [1, 1, true]);
  assert.equal(all.db.prepare("select count(*) as n from trestle_records").get()?.["n"], 1);
});

test("[F5] a full disk is told to whoever's commit found no room, and to nobody else in its batch", async () => {
  const all = rig();
  const [large, small] = [all.join("1.large"), all.join("2.small")];
  await all.settle();
  const { page_count: pages } = all.db.prepare("pragma page_count").get() as { page_count: number };
  all.db.exec(`pragma max_page_count = ${pages + 20}`);

  large.apply([all.commit("large", 500_000)]);
  small.apply([all.commit("small", 10)]);
  await all.settle();

  const [failure] = large.results();
  assert.equal((failure as { code?: string }).code, "store.disk-full");
  assert.equal((small.results()[0] as CommitOutcome).ok, true);
  assert.deepEqual(
    small.notices.map(({ keys }) => keys),
    [["a//small"]],
  );
});

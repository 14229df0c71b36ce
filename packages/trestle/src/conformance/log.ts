/** The log's half of the port: one gapless order over all streams, the change feed, the head. */
import assert from "node:assert/strict";
import { Fault } from "../kernel/index.ts";
import type { EventRow, Position, Write } from "../store/index.ts";
import { bytes, freshKey, type Case, type CaseTools } from "./case.ts";
import type { StoreSubject } from "./queue.ts";

const append = ({ ids }: CaseTools, stream: string, count = 1): Write => ({
  kind: "append",
  stream,
  events: Array.from({ length: count }, (_, i) => ({ id: ids.next(), type: `E${i}`, data: bytes("{}") })),
});
const commit = ({ store, ids }: StoreSubject, ...writes: Write[]) => store.commit({ id: ids.next(), expects: [], writes });

async function readAll(
  { store }: StoreSubject,
  after: Position,
  limit: number,
  components?: readonly string[],
  types?: readonly string[],
): Promise<EventRow[]> {
  const all: EventRow[] = [];
  for (let at = after; ;) {
    const page = await store.read.log({ after: at, limit, ...(components && { components }), ...(types && { types }) });
    all.push(...page.events);
    if (page.atEnd) return all;
    assert.ok(page.next.position > at.position, "a page that is not the end moves on");
    at = page.next;
  }
}

export const logCases: readonly Case<StoreSubject>[] = [
  {
    name: "[F10] positions are gapless over all streams, also when some commits were refused between",
    guarantee: "log.gapless",
    async run(subject) {
      const start = await subject.store.read.head();
      const nobody = "conformance//nobody";
      await Promise.all(
        Array.from({ length: 60 }, (_, i) =>
          subject.store.commit({
            id: subject.ids.next(),
            expects: i % 4 === 0 ? [{ kind: "record", key: nobody, version: 9 }] : [],
            // Refused after its events were written, where the guard fails.
            writes: [
              append(subject, freshKey(subject), 1 + (i % 3)),
              ...(i % 4 === 2 ? [{ kind: "merge", key: nobody, merge: { kind: "add", amount: 1, max: 0 } } as const] : []),
            ],
          }),
        ),
      );

      const events = await readAll(subject, { epoch: start.epoch, position: start.position }, 7);

      const head = await subject.store.read.head();
      assert.ok(events.length > 50);
      assert.deepEqual(
        events.map(({ position }) => position),
        Array.from({ length: head.position - start.position }, (_, i) => start.position + i + 1),
      );
      assert.ok(
        events.every((event, i) => i === 0 || event.commit >= (events[i - 1]?.commit ?? 0)),
        "in the order of their commits",
      );
    },
  },
  {
    name: "a page of some components skips the others and still says how far it has looked",
    guarantee: "log.gapless",
    async run(subject) {
      const start = await subject.store.read.head();
      const after = { epoch: start.epoch, position: start.position };
      for (let i = 0; i < 9; i++) await commit(subject, append(subject, `${i % 3 === 0 ? "wanted" : "other"}//${subject.ids.next()}`, 2));

      const events = await readAll(subject, after, 4, ["wanted"]);
      const nothing = await subject.store.read.log({ after, components: ["unknown"], limit: 4 });

      assert.equal(events.length, 6);
      assert.ok(events.every(({ stream }) => stream.startsWith("wanted//")));
      assert.deepEqual([nothing.events.length, nothing.next.position, nothing.atEnd], [0, start.position + 18, true]);
    },
  },
  {
    name: "a page of some types answers those and no others, alone and together with components, and says how far it has looked",
    guarantee: "log.gapless",
    async run(subject) {
      const { epoch, position } = await subject.store.read.head();
      for (let i = 0; i < 4; i++) await commit(subject, append(subject, `${i % 2 === 0 ? "wanted" : "other"}//${subject.ids.next()}`, 3));

      const ofType = await readAll(subject, { epoch, position }, 3, undefined, ["E1"]);
      const ofBoth = await readAll(subject, { epoch, position }, 3, ["wanted"], ["E0", "E2"]);
      const none = await subject.store.read.log({ after: { epoch, position }, types: ["never"], limit: 3 });

      assert.deepEqual(
        ofType.map((event) => event.position - position),
        [2, 5, 8, 11],
      );
      assert.deepEqual(
        ofBoth.map((event) => event.position - position),
        [1, 3, 7, 9],
      );
      assert.deepEqual([none.events.length, none.next.position - position, none.atEnd], [0, 12, true]);
    },
  },
  {
    name: "[F10] a position of another epoch, or beyond the end, is a fault and never silence",
    guarantee: "log.gapless",
    async run(subject) {
      const head = await subject.store.read.head();
      for (const after of [
        { epoch: head.epoch + 1, position: 0 },
        { epoch: head.epoch, position: head.position + 1 },
      ]) {
        await assert.rejects(subject.store.read.log({ after, limit: 1 }), (thrown) => Fault.is(thrown, "log.diverged"));
      }
    },
  },
  {
    name: "[F10] the change feed tells each commit with the records, streams, tokens and jobs it wrote, in order",
    guarantee: "log.gapless",
    async run(subject) {
      const { epoch, n: since } = await subject.store.read.head();
      const [a, b, stream, token, job] = [freshKey(subject), freshKey(subject), freshKey(subject), freshKey(subject), subject.ids.next()];
      const first = subject.ids.next();
      await subject.store.commit({
        id: first,
        expects: [],
        writes: [
          { kind: "put", key: a, value: bytes("1") },
          append(subject, stream),
          { kind: "token", key: token, value: bytes("t"), keepForMs: 1_000 },
          { kind: "enqueue", job: { id: job, queue: `q-${job}`, payload: bytes("x"), priority: 1 } },
        ],
      });
      await commit(subject, { kind: "remove", key: a }, { kind: "merge", key: b, merge: { kind: "add", amount: 1 } }, { kind: "cancel", job });

      const rows = await subject.store.read.commits({ after: { epoch, n: since }, limit: 10 });

      assert.deepEqual(
        rows.map(({ wrote }) => wrote.map(({ kind, key }) => `${kind} ${key}`)),
        [
          [`record ${a}`, `stream ${stream}`, `token ${token}`, `job ${job}`],
          [`record ${a}`, `record ${b}`, `job ${job}`],
        ],
      );
      assert.deepEqual([rows[0]?.id, rows[0]?.epoch, rows[0]?.atMs], [first, epoch, subject.clock.wallMs()]);
      assert.ok((rows[1]?.n ?? 0) > (rows[0]?.n ?? 0));
      assert.deepEqual(await subject.store.read.commits({ after: { epoch, n: rows[0]?.n ?? 0 }, limit: 10 }), rows.slice(1));
    },
  },
  {
    name: "[F10] a place in the change feed of another epoch, or beyond its end, is a fault and never silence",
    guarantee: "log.gapless",
    async run(subject) {
      const { epoch, n } = await subject.store.read.head();
      for (const after of [
        { epoch: epoch + 1, n: 0 },
        { epoch, n: n + 1 },
      ])
        await assert.rejects(subject.store.read.commits({ after, limit: 1 }), (thrown) => Fault.is(thrown, "log.diverged"));
    },
  },
  {
    name: "listeners hear of every commit that wrote, with its keys and the queues that got work",
    guarantee: "commit.atomic",
    async run(subject) {
      const [key, stream, queue] = [freshKey(subject), freshKey(subject), `q-${subject.ids.next()}`];
      const heard = { keys: new Set<string>(), queues: new Set<string>(), n: 0 };
      const stop = subject.store.onChange((change) => {
        for (const each of change.keys) heard.keys.add(each);
        for (const each of change.queues) heard.queues.add(each);
        heard.n = change.n;
      });

      const outcome = await commit(subject, { kind: "put", key, value: bytes("x") }, append(subject, stream), {
        kind: "enqueue",
        job: { id: subject.ids.next(), queue, payload: bytes("x"), priority: 1 },
      });
      stop();
      await commit(subject, { kind: "put", key: freshKey(subject), value: bytes("x") });

      assert.deepEqual([[...heard.keys].sort(), [...heard.queues], heard.n], [[key, stream].sort(), [queue], outcome.ok && outcome.n]);
    },
  },
  {
    name: "a stream is read from any version on, in pages",
    guarantee: "log.gapless",
    async run(subject) {
      const stream = freshKey(subject);
      await commit(subject, append(subject, stream, 5));

      const page = await subject.store.read.stream(stream, { after: 1, limit: 2 });
      const rest = await subject.store.read.stream(stream, { after: 3, limit: 10 });

      assert.deepEqual(
        [...page, ...rest].map(({ version, atMs }) => [version, atMs]),
        [2, 3, 4, 5].map((version) => [version, subject.clock.wallMs()]),
      );
      assert.deepEqual(await subject.store.read.stream(stream, { after: 5, limit: 10 }), []);
    },
  },
  {
    name: "a stream is read between two versions, from either end",
    guarantee: "log.gapless",
    async run(subject) {
      const stream = freshKey(subject);
      await commit(subject, append(subject, stream, 6));
      const versions = async (query: Parameters<StoreSubject["store"]["read"]["stream"]>[1]) =>
        (await subject.store.read.stream(stream, query)).map(({ version }) => version);

      assert.deepEqual(await versions({ after: 1, before: 5, limit: 10 }), [2, 3, 4]);
      assert.deepEqual(await versions({ after: 0, order: "newest", limit: 2 }), [6, 5]);
      assert.deepEqual(await versions({ after: 2, before: 5, order: "newest", limit: 10 }), [4, 3]);
      assert.deepEqual(await versions({ after: 4, before: 5, limit: 10 }), []);
    },
  },
  {
    name: "[EVS-01] a trim removes the events of one stream up to a version; the others, and versions and positions to come, stay as they are",
    guarantee: "log.keeps-head",
    async run(subject) {
      const [stream, beside] = [freshKey(subject), freshKey(subject)];
      await commit(subject, append(subject, stream, 4), append(subject, beside, 2));
      const before = await subject.store.read.head();

      const trimmed = await commit(subject, { kind: "trim", stream, upTo: 3 });
      await commit(subject, append(subject, stream));

      const kept = await subject.store.read.stream(stream, { after: 0, limit: 10 });
      assert.ok(trimmed.ok);
      assert.deepEqual(
        kept.map(({ version, position }) => [version, position - before.position]),
        [
          [4, -2],
          [5, 1],
        ],
      );
      assert.equal((await subject.store.read.stream(beside, { after: 0, limit: 10 })).length, 2);
    },
  },
  {
    name: "[EVS-01] [F10] of a stream that was trimmed to nothing the version stays, is judged, and goes on; the head of the log too",
    guarantee: "log.keeps-head",
    async run(subject) {
      const stream = freshKey(subject);
      await commit(subject, append(subject, stream, 3));
      const { epoch, position } = await subject.store.read.head();

      await commit(subject, { kind: "trim", stream, upTo: 99 });
      await commit(subject, { kind: "trim", stream, upTo: 99 });
      const left = await subject.store.read.stream(stream, { after: 0, limit: 10 });
      const version = await subject.store.read.streamVersion(stream);
      const head = await subject.store.read.head();
      const stale = await subject.store.commit({
        id: subject.ids.next(),
        expects: [{ kind: "stream", stream, version: 0 }],
        writes: [append(subject, stream)],
      });
      const next = await subject.store.commit({ id: subject.ids.next(), expects: [{ kind: "stream", stream, version: 3 }], writes: [append(subject, stream)] });

      assert.deepEqual([left.length, version, head.position], [0, 3, position]);
      assert.deepEqual([stale.ok, next.ok], [false, true]);
      const after = await readAll(subject, { epoch, position }, 5);
      assert.deepEqual(
        after.map((event) => [event.stream, event.version, event.position]),
        [[stream, 4, position + 1]],
      );
    },
  },
  {
    name: "[EVS-01] a trim in a commit that is refused removes nothing, and one of a stream without events is nothing",
    guarantee: "log.keeps-head",
    async run(subject) {
      const stream = freshKey(subject);
      await commit(subject, append(subject, stream, 2));

      const refused = await subject.store.commit({
        id: subject.ids.next(),
        expects: [{ kind: "record", key: freshKey(subject), version: 9 }],
        writes: [{ kind: "trim", stream, upTo: 2 }],
      });
      const nothing = await commit(subject, { kind: "trim", stream: freshKey(subject), upTo: 5 });

      assert.deepEqual([refused.ok, nothing.ok], [false, true]);
      assert.equal((await subject.store.read.stream(stream, { after: 0, limit: 10 })).length, 2);
    },
  },
];

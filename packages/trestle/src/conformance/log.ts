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

async function readAll({ store }: StoreSubject, after: Position, limit: number, components?: readonly string[]): Promise<EventRow[]> {
  const all: EventRow[] = [];
  for (let at = after; ;) {
    const page = await store.read.log({ after: at, limit, ...(components && { components }) });
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
    name: "[F10] the change feed tells each commit with the records, streams and tokens it wrote, in order",
    guarantee: "log.gapless",
    async run(subject) {
      const { n: since } = await subject.store.read.head();
      const [a, b, stream, token] = [freshKey(subject), freshKey(subject), freshKey(subject), freshKey(subject)];
      const first = subject.ids.next();
      await subject.store.commit({
        id: first,
        expects: [],
        writes: [{ kind: "put", key: a, value: bytes("1") }, append(subject, stream), { kind: "token", key: token, value: bytes("t"), keepForMs: 1_000 }],
      });
      await commit(subject, { kind: "remove", key: a }, { kind: "merge", key: b, merge: { kind: "add", amount: 1 } });

      const rows = await subject.store.read.commits({ after: since, limit: 10 });

      assert.deepEqual(
        rows.map(({ keys }) => keys),
        [
          [a, stream, token],
          [a, b],
        ],
      );
      assert.equal(rows[0]?.id, first);
      assert.equal(rows[0]?.atMs, subject.clock.wallMs());
      assert.ok((rows[1]?.n ?? 0) > (rows[0]?.n ?? 0));
      assert.deepEqual(await subject.store.read.commits({ after: rows[0]?.n ?? 0, limit: 10 }), rows.slice(1));
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
];

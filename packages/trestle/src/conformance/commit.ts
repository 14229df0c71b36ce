/**
 * What every engine's `commit` must hold, stated over `commit`, `resolve` and reads of records and streams only, so that an
 * engine can be held to it before it has a queue or a log. Over 400 lines because it is one list of cases.
 */
import assert from "node:assert/strict";
import { Fault, formatUuidv7, mintedAtMs } from "../kernel/index.ts";
import { commitIdRetentionMs, limits, type Commit, type CommitOutcome, type Expectation, type Reader, type Store, type Write } from "../store/index.ts";
import { bytes, freshKey, text, type Case, type CaseTools } from "./case.ts";

export interface CommitSubject extends CaseTools {
  readonly store: Pick<Store, "commit" | "resolve"> & { readonly read: Pick<Reader, "records" | "stream" | "streamVersion"> };
}

function commitOf({ ids }: CaseTools, writes: readonly Write[], expects: readonly Expectation[] = []): Commit {
  return { id: ids.next(), expects, writes };
}
const put = (key: string, value: string): Write => ({ kind: "put", key, value: bytes(value) });
const absent = (key: string): Expectation => ({ kind: "record", key, version: 0 });
const streamAt = (stream: string, version: number, after?: string): Expectation => ({
  kind: "stream",
  stream,
  version,
  ...(after === undefined ? {} : { after }),
});
const append = ({ ids }: CaseTools, stream: string, ...types: string[]): Write => ({
  kind: "append",
  stream,
  events: types.map((type) => ({ id: ids.next(), type, data: bytes(`{"of":"${type}"}`) })),
});

function accepted(outcome: CommitOutcome): { readonly epoch: number; readonly n: number } {
  assert.equal(outcome.ok, true, `accepted, got ${JSON.stringify(outcome)}`);
  return outcome as { ok: true; epoch: number; n: number };
}
const refusedBy = (outcome: CommitOutcome): string => (outcome.ok ? `accepted as ${outcome.n}` : outcome.refused);

async function value(subject: CommitSubject, key: string): Promise<string | undefined> {
  return text((await subject.store.read.records([key]))[0]?.value);
}
async function refuses(code: `${string}.${string}`, attempt: () => Promise<unknown>): Promise<void> {
  await assert.rejects(attempt, (thrown) => Fault.is(thrown, code) || assert.fail(`expected ${code}, got ${String(thrown)}`));
}

export const commitCases: readonly Case<CommitSubject>[] = [
  {
    name: "a commit's writes are all there once it is answered",
    guarantee: "commit.atomic",
    async run(subject) {
      const [a, b, stream] = [freshKey(subject), freshKey(subject), freshKey(subject)];

      const { n } = accepted(await subject.store.commit(commitOf(subject, [put(a, "1"), put(b, "2"), append(subject, stream, "First", "Second")])));

      const [first, second] = await subject.store.read.records([a, b]);
      assert.deepEqual([text(first?.value), text(second?.value)], ["1", "2"]);
      assert.deepEqual([first?.version, first?.created, second?.version], [n, n, n]);
      const events = await subject.store.read.stream(stream, { after: 0, limit: 10 });
      assert.deepEqual(
        events.map(({ type, version, commit, data }) => [type, version, commit, text(data)]),
        [
          ["First", 1, n, '{"of":"First"}'],
          ["Second", 2, n, '{"of":"Second"}'],
        ],
      );
    },
  },
  {
    name: "a commit refused for one expectation leaves nothing of itself, and names what no longer holds",
    guarantee: "commit.atomic",
    async run(subject) {
      const [taken, other, stream] = [freshKey(subject), freshKey(subject), freshKey(subject)];
      accepted(await subject.store.commit(commitOf(subject, [put(taken, "first"), append(subject, stream, "First")])));

      const outcome = await subject.store.commit(
        commitOf(subject, [put(other, "x"), append(subject, stream, "Second")], [absent(taken), absent(other), { kind: "stream", stream, version: 0 }]),
      );

      assert.deepEqual(outcome, { ok: false, refused: "conflict", keys: [taken, stream] });
      assert.equal(await value(subject, other), undefined);
      assert.equal(await subject.store.read.streamVersion(stream), 1);
    },
  },
  {
    name: "a refused commit in the middle of a burst takes no other with it",
    guarantee: "commit.atomic",
    async run(subject) {
      const taken = freshKey(subject);
      accepted(await subject.store.commit(commitOf(subject, [put(taken, "first")])));
      const keys = Array.from({ length: 64 }, () => freshKey(subject));

      const outcomes = await Promise.all(keys.map((key, i) => subject.store.commit(commitOf(subject, [put(key, "x")], i % 3 === 0 ? [absent(taken)] : []))));

      assert.deepEqual(
        outcomes.map((outcome) => outcome.ok),
        keys.map((_, i) => i % 3 !== 0),
      );
      const found = await subject.store.read.records(keys);
      assert.deepEqual(
        found.map((record) => record !== undefined),
        keys.map((_, i) => i % 3 !== 0),
      );
    },
  },
  {
    name: "of many commits that start one stream at once, one is accepted",
    guarantee: "commit.serializable-over-keys",
    async run(subject) {
      const stream = freshKey(subject);

      const outcomes = await Promise.all(
        Array.from({ length: 32 }, () =>
          subject.store.commit(commitOf(subject, [append(subject, stream, "Started")], [{ kind: "stream", stream, version: 0 }])),
        ),
      );

      assert.equal(outcomes.filter((outcome) => outcome.ok).length, 1);
      assert.equal(await subject.store.read.streamVersion(stream), 1);
    },
  },
  {
    name: "versions of a stream count its events without a gap, also when appends arrive at once",
    guarantee: "log.gapless",
    async run(subject) {
      const stream = freshKey(subject);

      await Promise.all(
        Array.from({ length: 40 }, (_, i) => subject.store.commit(commitOf(subject, [append(subject, stream, `E${i}`, `F${i}`)])).then(accepted)),
      );

      const events = await subject.store.read.stream(stream, { after: 0, limit: 100 });
      assert.deepEqual(
        events.map(({ version }) => version),
        Array.from({ length: 80 }, (_, i) => i + 1),
      );
      assert.ok(
        events.every((event, i) => i === 0 || event.position > (events[i - 1]?.position ?? 0)),
        "positions rise with versions",
      );
    },
  },
  {
    name: "16 callers that compare and set one record lose no update",
    guarantee: "records.compare-and-set",
    async run(subject) {
      const key = freshKey(subject);
      let attempts = 0;
      const increment = async () => {
        for (;;) {
          attempts++;
          const [record] = await subject.store.read.records([key]);
          const next = String(Number(text(record?.value) ?? "0") + 1);
          const outcome = await subject.store.commit(commitOf(subject, [put(key, next)], [{ kind: "record", key, version: record?.version ?? 0 }]));
          if (outcome.ok) return;
          assert.equal(outcome.refused, "conflict");
        }
      };

      await Promise.all(Array.from({ length: 16 }, increment));

      assert.equal(await value(subject, key), "16");
      assert.ok(attempts >= 16);
    },
  },
  {
    name: "a removed record is absent, and one put again has a newer version, so an old version never fits by chance",
    guarantee: "records.compare-and-set",
    async run(subject) {
      const key = freshKey(subject);
      const first = accepted(await subject.store.commit(commitOf(subject, [put(key, "a")])));
      accepted(await subject.store.commit(commitOf(subject, [{ kind: "remove", key }], [{ kind: "record", key, version: first.n }])));
      assert.equal(await value(subject, key), undefined);
      const again = accepted(await subject.store.commit(commitOf(subject, [put(key, "a")], [absent(key)])));

      const stale = await subject.store.commit(commitOf(subject, [put(key, "b")], [{ kind: "record", key, version: first.n }]));

      assert.equal(refusedBy(stale), "conflict");
      const [record] = await subject.store.read.records([key]);
      assert.deepEqual([record?.version, record?.created], [again.n, again.n]);
    },
  },
  {
    name: "putting a record again keeps when it was created and moves its version",
    guarantee: "records.compare-and-set",
    async run(subject) {
      const key = freshKey(subject);
      const first = accepted(await subject.store.commit(commitOf(subject, [put(key, "a")])));
      const second = accepted(await subject.store.commit(commitOf(subject, [put(key, "b")])));

      const [record] = await subject.store.read.records([key]);

      assert.deepEqual([record?.version, record?.created, text(record?.value)], [second.n, first.n, "b"]);
      assert.ok(second.n > first.n);
    },
  },
  {
    name: "the same commit submitted again answers its first outcome and writes nothing twice",
    guarantee: "commit.once-per-id",
    async run(subject) {
      const [key, stream] = [freshKey(subject), freshKey(subject)];
      const commit = commitOf(
        subject,
        [{ kind: "merge", key, merge: { kind: "add", amount: 1 } }, append(subject, stream, "Once")],
        [{ kind: "stream", stream, version: 0 }],
      );
      const first = await subject.store.commit(commit);
      accepted(first);

      const again = await Promise.all([subject.store.commit(commit), subject.store.commit(commit)]);

      assert.deepEqual(again, [first, first]);
      assert.equal(await value(subject, key), "1");
      assert.equal(await subject.store.read.streamVersion(stream), 1);
    },
  },
  {
    name: "the same commit submitted many times at once is applied once",
    guarantee: "commit.once-per-id",
    async run(subject) {
      const key = freshKey(subject);
      const commit = commitOf(subject, [{ kind: "merge", key, merge: { kind: "add", amount: 1 } }]);

      const outcomes = await Promise.all(Array.from({ length: 8 }, () => subject.store.commit(commit)));

      assert.deepEqual(new Set(outcomes.map((outcome) => JSON.stringify(outcome))).size, 1);
      assert.equal(await value(subject, key), "1");
    },
  },
  {
    name: "[F6] resolving an id that was not committed refuses it for good",
    guarantee: "commit.once-per-id",
    async run(subject) {
      const key = freshKey(subject);
      const commit = commitOf(subject, [put(key, "late")]);

      const resolution = await subject.store.resolve(commit.id);
      const late = await subject.store.commit(commit);

      assert.deepEqual([resolution, late, await subject.store.resolve(commit.id)], Array(3).fill({ ok: false, refused: "resolved" }));
      assert.equal(await value(subject, key), undefined);
    },
  },
  {
    name: "[F6] resolving an id that was committed answers its outcome",
    guarantee: "commit.once-per-id",
    async run(subject) {
      const commit = commitOf(subject, [put(freshKey(subject), "x")]);
      const outcome = await subject.store.commit(commit);

      assert.deepEqual(await subject.store.resolve(commit.id), outcome);
    },
  },
  {
    name: "[F6] a commit and its resolution that race agree on one outcome",
    guarantee: "commit.once-per-id",
    async run(subject) {
      for (let i = 0; i < 20; i++) {
        const key = freshKey(subject);
        const commit = commitOf(subject, [put(key, "x")]);

        const [a, b] =
          i % 2
            ? await Promise.all([subject.store.commit(commit), subject.store.resolve(commit.id)])
            : (await Promise.all([subject.store.resolve(commit.id), subject.store.commit(commit)])).reverse();

        assert.deepEqual(a, b);
        assert.equal(await value(subject, key), a?.ok ? "x" : undefined);
      }
    },
  },
  {
    name: "[F6] an id older than the time ids are remembered is refused unread",
    guarantee: "commit.once-per-id",
    async run(subject) {
      const key = freshKey(subject);
      const nowMs = mintedAtMs(subject.ids.next()) as number;
      const id = formatUuidv7(nowMs - commitIdRetentionMs - 60_000, nowMs % 1_000, nowMs % 65_536);

      const outcome = await subject.store.commit({ id, expects: [], writes: [put(key, "old")] });

      assert.deepEqual(outcome, { ok: false, refused: "resolved" });
      assert.deepEqual(await subject.store.resolve(id), outcome);
      assert.equal(await value(subject, key), undefined);
    },
  },
  {
    name: "[F2] a chain follows the commit it was decided on, in the same burst",
    guarantee: "commit.serializable-over-keys",
    async run(subject) {
      const key = freshKey(subject);
      let before: string | 0 = 0;

      const outcomes = await Promise.all(
        Array.from({ length: 20 }, (_, i) => {
          const commit = commitOf(subject, [put(key, String(i))], [{ kind: "record", key, version: before }]);
          before = commit.id;
          return subject.store.commit(commit);
        }),
      );

      outcomes.forEach(accepted);
      assert.equal(await value(subject, key), "19");
    },
  },
  {
    name: "[F2] a chain falls with the commit it was decided on, and what follows falls too",
    guarantee: "commit.serializable-over-keys",
    async run(subject) {
      const [key, taken] = [freshKey(subject), freshKey(subject)];
      accepted(await subject.store.commit(commitOf(subject, [put(taken, "x")])));
      const first = commitOf(subject, [put(key, "1")], [absent(taken)]);
      const second = commitOf(subject, [put(key, "2")], [{ kind: "record", key, version: first.id }]);
      const third = commitOf(subject, [put(key, "3")], [{ kind: "record", key, version: second.id }]);

      const outcomes = await Promise.all([first, second, third].map((commit) => subject.store.commit(commit)));

      assert.deepEqual(outcomes.map(refusedBy), ["conflict", "conflict", "conflict"]);
      assert.equal(await value(subject, key), undefined);
    },
  },
  {
    name: "[F2] a chain on a commit of another burst is found by its id; on an unknown id it is a conflict",
    guarantee: "commit.serializable-over-keys",
    async run(subject) {
      const key = freshKey(subject);
      const first = commitOf(subject, [put(key, "1")]);
      accepted(await subject.store.commit(first));

      accepted(await subject.store.commit(commitOf(subject, [put(key, "2")], [{ kind: "record", key, version: first.id }])));
      const stale = await subject.store.commit(commitOf(subject, [put(key, "3")], [{ kind: "record", key, version: first.id }]));
      const unknown = await subject.store.commit(commitOf(subject, [put(key, "3")], [{ kind: "record", key, version: subject.ids.next() }]));

      assert.deepEqual([refusedBy(stale), refusedBy(unknown)], ["conflict", "conflict"]);
      assert.equal(await value(subject, key), "2");
    },
  },
  {
    name: "[F2] an append rests on the commit that staged its stream's last event, in the same burst",
    guarantee: "commit.serializable-over-keys",
    async run(subject) {
      const stream = freshKey(subject);
      let before: string | undefined;

      const outcomes = await Promise.all(
        Array.from({ length: 20 }, (_, i) => {
          const commit = commitOf(
            subject,
            [append(subject, stream, `A${i}`, `B${i}`)],
            [before === undefined ? streamAt(stream, 0) : streamAt(stream, 2 * i, before)],
          );
          before = commit.id;
          return subject.store.commit(commit);
        }),
      );

      outcomes.forEach(accepted);
      assert.equal(await subject.store.read.streamVersion(stream), 40);
    },
  },
  {
    name: "[F2] an append falls with the commit it rests on, though another commit has given the stream the same version",
    guarantee: "commit.serializable-over-keys",
    async run(subject) {
      const [stream, taken] = [freshKey(subject), freshKey(subject)];
      accepted(await subject.store.commit(commitOf(subject, [put(taken, "x")])));
      const base = commitOf(subject, [append(subject, stream, "Fallen")], [absent(taken)]);
      const other = commitOf(subject, [append(subject, stream, "Other")]);
      const above = commitOf(subject, [append(subject, stream, "Above")], [streamAt(stream, 1, base.id)]);
      const higher = commitOf(subject, [append(subject, stream, "Higher")], [streamAt(stream, 2, above.id)]);
      const beside = commitOf(subject, [append(subject, stream, "Beside")], [streamAt(stream, 1, other.id)]);

      const outcomes = await Promise.all([base, other, above, higher, beside].map((commit) => subject.store.commit(commit)));
      const late = await subject.store.commit(commitOf(subject, [append(subject, stream, "Late")], [streamAt(stream, 2, base.id)]));

      assert.deepEqual(
        outcomes.map(refusedBy).map((each) => each.replace(/ as .*/, "")),
        ["conflict", "accepted", "conflict", "conflict", "accepted"],
      );
      assert.deepEqual(outcomes[2], { ok: false, refused: "conflict", keys: [stream] });
      assert.equal(refusedBy(late), "conflict");
      const types = (await subject.store.read.stream(stream, { after: 0, limit: 10 })).map(({ type }) => type);
      assert.deepEqual(types, ["Other", "Beside"]);
    },
  },
  {
    name: "[F2] an append that rests on a commit which a guard has refused falls, and one that rests on what stood before it does not",
    guarantee: "commit.serializable-over-keys",
    async run(subject) {
      const [stream, stock] = [freshKey(subject), freshKey(subject)];
      const first = commitOf(subject, [append(subject, stream, "First")]);
      const refused = commitOf(subject, [append(subject, stream, "Refused"), { kind: "merge", key: stock, merge: { kind: "add", amount: -1, min: 0 } }]);
      const above = commitOf(subject, [append(subject, stream, "Above")], [streamAt(stream, 2, refused.id)]);
      const instead = commitOf(subject, [append(subject, stream, "Instead")], [streamAt(stream, 1, first.id)]);

      const outcomes = await Promise.all([first, refused, instead, above].map((commit) => subject.store.commit(commit)));

      assert.deepEqual(
        outcomes.map(refusedBy).map((each) => each.replace(/ as .*/, "")),
        ["accepted", "guard", "accepted", "conflict"],
      );
      const types = (await subject.store.read.stream(stream, { after: 0, limit: 10 })).map(({ type }) => type);
      assert.deepEqual(types, ["First", "Instead"]);
    },
  },
  {
    name: "[F2] the commit of a stream's last event is found by its id in another burst too; one of another stream, without events or unknown is a conflict",
    guarantee: "commit.serializable-over-keys",
    async run(subject) {
      const [stream, elsewhere] = [freshKey(subject), freshKey(subject)];
      const first = commitOf(subject, [append(subject, stream, "First", "Second")]);
      const aside = commitOf(subject, [append(subject, elsewhere, "Aside")]);
      const empty = commitOf(subject, [{ kind: "append", stream, events: [] }, put(freshKey(subject), "x")]);
      for (const commit of [first, aside]) accepted(await subject.store.commit(commit));
      const looks = (version: number, after?: string) => subject.store.commit(commitOf(subject, [], [streamAt(stream, version, after)]));

      const [again, emptied, holds, ...fail] = await Promise.all([
        subject.store.commit(first),
        subject.store.commit(empty),
        looks(2, first.id),
        looks(1, first.id),
        looks(2, aside.id),
        looks(2, empty.id),
        looks(2, subject.ids.next()),
      ]);
      const second = await subject.store.commit(commitOf(subject, [append(subject, stream, "Third")], [streamAt(stream, 2, first.id)]));
      const stale = await looks(3, first.id);

      for (const outcome of [again, emptied, holds, second]) accepted(outcome as CommitOutcome);
      assert.deepEqual(fail.map(refusedBy), ["conflict", "conflict", "conflict", "conflict"]);
      assert.equal(refusedBy(stale), "conflict");
    },
  },
  {
    name: "[F2] guarded adds sell exactly what there is: 100 callers, 30 in stock",
    guarantee: "commit.serializable-over-keys",
    async run(subject) {
      const key = freshKey(subject);
      accepted(await subject.store.commit(commitOf(subject, [{ kind: "merge", key, merge: { kind: "add", amount: 30 } }])));
      const marks = Array.from({ length: 100 }, () => freshKey(subject));

      const outcomes = await Promise.all(
        marks.map((mark) => subject.store.commit(commitOf(subject, [put(mark, "sold"), { kind: "merge", key, merge: { kind: "add", amount: -1, min: 0 } }]))),
      );

      assert.equal(outcomes.filter((outcome) => outcome.ok).length, 30);
      for (const outcome of outcomes) if (!outcome.ok) assert.deepEqual(outcome, { ok: false, refused: "guard", key, value: 0 });
      assert.equal(await value(subject, key), "0");
      assert.equal((await subject.store.read.records(marks)).filter(Boolean).length, 30, "a refused guard leaves nothing behind");
    },
  },
  {
    name: "[F2] add counts from 0, and leaves neither [min, max] nor the integers within 2^53",
    guarantee: "commit.serializable-over-keys",
    async run(subject) {
      const key = freshKey(subject);
      const add = (amount: number, range: { min?: number; max?: number } = {}) =>
        subject.store.commit(commitOf(subject, [{ kind: "merge", key, merge: { kind: "add", amount, ...range } }]));

      accepted(await add(7, { max: 7 }));
      assert.deepEqual(await add(1, { max: 7 }), { ok: false, refused: "guard", key, value: 7 });
      assert.deepEqual(await add(Number.MAX_SAFE_INTEGER), { ok: false, refused: "guard", key, value: 7 });
      accepted(await add(-10));
      assert.equal(await value(subject, key), "-3");
    },
  },
  {
    name: "[F2] max, min, union and set-once merge as documented, in any order of arrival",
    guarantee: "commit.serializable-over-keys",
    async run(subject) {
      const [most, least, set, once] = [freshKey(subject), freshKey(subject), freshKey(subject), freshKey(subject)];
      const merge = (key: string, merge: (Write & { kind: "merge" })["merge"]): Write => ({ kind: "merge", key, merge });

      await Promise.all(
        [3, 9, 4].map((number) =>
          subject.store
            .commit(
              commitOf(subject, [
                merge(most, { kind: "max", value: number }),
                merge(least, { kind: "min", value: -number }),
                merge(set, { kind: "union", members: [`m${number}`, "both"] }),
              ]),
            )
            .then(accepted),
        ),
      );
      accepted(await subject.store.commit(commitOf(subject, [merge(once, { kind: "set-once", value: bytes("first") })])));
      accepted(await subject.store.commit(commitOf(subject, [merge(once, { kind: "set-once", value: bytes("second") })])));

      assert.deepEqual([await value(subject, most), await value(subject, least), await value(subject, once)], ["9", "-9", "first"]);
      assert.deepEqual(JSON.parse((await value(subject, set)) as string), ["both", "m3", "m4", "m9"]);
    },
  },
  {
    name: "[F2] a number merge on a record that holds something else is refused, and changes nothing",
    guarantee: "commit.atomic",
    async run(subject) {
      const [key, other] = [freshKey(subject), freshKey(subject)];
      accepted(await subject.store.commit(commitOf(subject, [put(key, '{"a":1}')])));

      const outcome = await subject.store.commit(commitOf(subject, [put(other, "x"), { kind: "merge", key, merge: { kind: "add", amount: 1 } }]));

      assert.equal(refusedBy(outcome), "statement");
      assert.deepEqual([await value(subject, key), await value(subject, other)], ['{"a":1}', undefined]);
    },
  },
  {
    name: "[F20] payloads come back byte for byte: NUL, halves of surrogates, doubled JSON keys, nothing at all",
    guarantee: "commit.atomic",
    async run(subject) {
      const payloads = [
        new Uint8Array([0, 1, 0, 255, 0]),
        bytes(JSON.stringify("\ud800")),
        bytes('{"b":1,"a":2,"a":3}'),
        bytes('"\\u0000"'),
        new Uint8Array(0),
        new Uint8Array([0xff, 0xfe, 0xed, 0xa0, 0x80]),
      ];
      const keys = payloads.map(() => freshKey(subject));
      const stream = freshKey(subject);

      accepted(
        await subject.store.commit(
          commitOf(subject, [
            ...payloads.map((value, i): Write => ({ kind: "put", key: keys[i] as string, value })),
            { kind: "append", stream, events: payloads.map((data) => ({ id: subject.ids.next(), type: "Bytes", data, meta: data })) },
          ]),
        ),
      );

      const records = await subject.store.read.records(keys);
      const events = await subject.store.read.stream(stream, { after: 0, limit: 10 });
      payloads.forEach((payload, i) => {
        assert.deepEqual([...(records[i]?.value ?? [1, 2, 3])], [...payload]);
        assert.deepEqual([...(events[i]?.data ?? [1, 2, 3])], [...payload]);
        assert.deepEqual([...(events[i]?.meta ?? [1, 2, 3])], [...payload]);
      });
    },
  },
  {
    name: "[F20] one caller's odd bytes fail nobody else of the burst",
    guarantee: "commit.atomic",
    async run(subject) {
      const outcomes = await Promise.all(
        Array.from({ length: 32 }, (_, i) =>
          subject.store.commit(commitOf(subject, [{ kind: "put", key: freshKey(subject), value: i === 7 ? new Uint8Array([0, 0]) : bytes("fine") }])),
        ),
      );

      outcomes.forEach(accepted);
    },
  },
  {
    name: "[F20] keys may hold any Unicode text, and are told apart by it",
    guarantee: "commit.atomic",
    async run(subject) {
      const keys = ["é", "e\u0301", "漢字", "😀", "a b%2F/..", "'; drop table x; --", "__proto__", "\n"].map((name) => freshKey(subject, name));

      accepted(
        await subject.store.commit(
          commitOf(
            subject,
            keys.map((key, i) => put(key, String(i))),
          ),
        ),
      );

      const records = await subject.store.read.records(keys);
      assert.deepEqual(
        records.map((record) => [record?.key, text(record?.value)]),
        keys.map((key, i) => [key, String(i)]),
      );
    },
  },
  {
    name: "[F20] keys that are not text, or too long, and payloads over their limits are faults that name the rule",
    guarantee: "commit.atomic",
    async run(subject) {
      const key = freshKey(subject);
      const longest = key + "x".repeat(limits.keyBytesMax - key.length);

      accepted(await subject.store.commit(commitOf(subject, [put(longest, "fits")])));
      await refuses("store.key-too-long", () => subject.store.commit(commitOf(subject, [put(`${longest}x`, "")])));
      await refuses("store.key-too-long", () => subject.store.commit(commitOf(subject, [put(`${longest.slice(0, -1)}é`, "")])));
      await refuses("store.key-not-text", () => subject.store.commit(commitOf(subject, [put(`${key}\ud800`, "")])));
      await refuses("store.key-not-text", () => subject.store.commit(commitOf(subject, [put(`${key}\u0000`, "")])));
      await refuses("store.id-not-uuidv7", () => subject.store.commit({ id: "42", expects: [], writes: [] }));
      await refuses("store.id-not-uuidv7", () => subject.store.commit(commitOf(subject, [], [streamAt(key, 1, "42")])));
      await refuses("event.too-large", () =>
        subject.store.commit(
          commitOf(subject, [
            { kind: "append", stream: key, events: [{ id: subject.ids.next(), type: "Big", data: new Uint8Array(limits.eventBytesMax + 1) }] },
          ]),
        ),
      );
      await refuses("commit.too-large", () => subject.store.commit(commitOf(subject, [{ kind: "put", key, value: new Uint8Array(limits.commitBytesMax) }])));
      assert.equal(await value(subject, key), undefined);
      assert.equal(await subject.store.read.streamVersion(key), 0);
    },
  },
  {
    name: "[F20] a time or an amount that is no number is a fault, and not a row that nobody understands",
    guarantee: "commit.atomic",
    async run(subject) {
      const key = freshKey(subject);
      const refusing = (code: `${string}.${string}`, write: Write) => refuses(code, () => subject.store.commit(commitOf(subject, [write])));

      await refusing("commit.not-a-number", { kind: "put", key, value: bytes("x"), expiresAtMs: Number.NaN });
      await refusing("commit.not-a-number", { kind: "put", key, value: bytes("x"), index: [{ field: "f", value: Infinity }] });
      await refusing("commit.not-a-number", { kind: "merge", key, merge: { kind: "max", value: Number.NaN } });
      await refusing("commit.not-an-integer", { kind: "merge", key, merge: { kind: "add", amount: 0.5 } });
      await refusing("token.keep-out-of-range", { kind: "token", key, value: bytes("x"), keepForMs: 0 });
      await refusing("commit.not-a-number", {
        kind: "enqueue",
        job: { id: subject.ids.next(), queue: "q", payload: bytes("x"), priority: 1, dueAtMs: Number.NaN },
      });
      await refusing("job.priority-not-an-integer", { kind: "enqueue", job: { id: subject.ids.next(), queue: "q", payload: bytes("x"), priority: 0.5 } });
      assert.equal(await value(subject, key), undefined);
    },
  },
  {
    name: "[F9] a commit may have 256 expectations and not one more",
    guarantee: "commit.serializable-over-keys",
    async run(subject) {
      const expects = (count: number) => Array.from({ length: count }, () => absent(freshKey(subject)));

      accepted(await subject.store.commit(commitOf(subject, [put(freshKey(subject), "x")], expects(limits.expectationsMax))));
      await refuses("commit.read-set-full", () => subject.store.commit(commitOf(subject, [put(freshKey(subject), "x")], expects(limits.expectationsMax + 1))));
    },
  },
  {
    name: "[F9] a commit without writes validates what was read, and takes no number",
    guarantee: "commit.serializable-over-keys",
    async run(subject) {
      const key = freshKey(subject);
      const { n, epoch } = accepted(await subject.store.commit(commitOf(subject, [put(key, "x")])));

      const holds = await subject.store.commit(commitOf(subject, [], [{ kind: "record", key, version: n }]));
      const stale = await subject.store.commit(commitOf(subject, [], [absent(key)]));

      assert.equal(accepted(holds).epoch, epoch);
      assert.ok(accepted(holds).n >= n, "the newest number its expectations held at");
      assert.deepEqual(stale, { ok: false, refused: "conflict", keys: [key] });
    },
  },
  {
    name: "[F10] numbers rise with each commit that writes, in the order they were applied",
    guarantee: "commit.serializable-over-keys",
    async run(subject) {
      const key = freshKey(subject);
      const numbers: number[] = [];
      for (let i = 0; i < 10; i++) numbers.push(accepted(await subject.store.commit(commitOf(subject, [put(key, String(i))]))).n);

      assert.deepEqual(
        numbers,
        [...new Set(numbers)].sort((a, b) => a - b),
      );
      assert.equal((await subject.store.read.records([key]))[0]?.version, numbers.at(-1));
    },
  },
  {
    name: "later writes of a commit see its earlier ones",
    guarantee: "commit.atomic",
    async run(subject) {
      const key = freshKey(subject);
      const add = (amount: number): Write => ({ kind: "merge", key, merge: { kind: "add", amount, min: 0 } });

      accepted(await subject.store.commit(commitOf(subject, [put(key, "5"), add(-5), add(2)])));
      assert.equal(await value(subject, key), "2");
      accepted(await subject.store.commit(commitOf(subject, [{ kind: "remove", key }, add(1)])));
      assert.equal(await value(subject, key), "1");
    },
  },
];

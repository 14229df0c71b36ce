/** The records' and tokens' half of the port: expiry, lists, prefixes, rotation. */
import assert from "node:assert/strict";
import type { CommitOutcome, Expectation, ListQuery, RecordRow, Write } from "../store/index.ts";
import { bytes, text, type Case } from "./case.ts";
import type { StoreSubject } from "./queue.ts";

const commit = ({ store, ids }: StoreSubject, writes: readonly Write[], expects: readonly Expectation[] = []): Promise<CommitOutcome> =>
  store.commit({ id: ids.next(), expects, writes });
const fresh = ({ ids }: StoreSubject): string => `case-${ids.next()}`;
const hourMs = 3_600_000;

async function pages({ store }: StoreSubject, query: ListQuery): Promise<RecordRow[]> {
  const all: RecordRow[] = [];
  for (let after: ListQuery["after"]; ;) {
    const page = await store.read.list({ ...query, ...(after && { after }) });
    all.push(...page);
    if (page.length < query.limit) return all;
    after = page.at(-1) as RecordRow;
  }
}

export const recordCases: readonly Case<StoreSubject>[] = [
  {
    name: "a record is absent from the moment it expires, for reads, lists and expectations alike, swept or not",
    guarantee: "records.expire",
    async run(subject) {
      const home = `${fresh(subject)}//`;
      const [key, other] = [`${home}a`, `${home}b`];
      const first = await commit(subject, [
        { kind: "put", key, value: bytes("x"), expiresAtMs: subject.clock.wallMs() + 1_000, index: [{ field: "f", value: 1 }] },
      ]);
      assert.ok(first.ok);
      await subject.clock.advance(999);
      assert.equal((await subject.store.read.records([key]))[0]?.expiresAtMs, subject.clock.wallMs() + 1);
      assert.equal((await commit(subject, [{ kind: "put", key: other, value: bytes("") }], [{ kind: "record", key, version: first.n }])).ok, true);

      await subject.clock.advance(1);

      assert.deepEqual(await subject.store.read.records([key]), [undefined]);
      assert.deepEqual(await subject.store.read.list({ prefix: home, where: { field: "f", value: 1 }, order: "key", limit: 10 }), []);
      assert.equal(
        (await commit(subject, [{ kind: "put", key: other, value: bytes("") }], [{ kind: "record", key, version: first.n }])).ok,
        false,
        "expired is version 0",
      );
      const again = await commit(subject, [{ kind: "put", key, value: bytes("y") }], [{ kind: "record", key, version: 0 }]);
      const [record] = await subject.store.read.records([key]);
      assert.ok(again.ok);
      assert.deepEqual([record?.created, record?.version, record?.expiresAtMs], [again.n, again.n, undefined], "a new life");
      assert.deepEqual(
        await subject.store.read.list({ prefix: home, where: { field: "f", value: 1 }, order: "key", limit: 10 }),
        [],
        "without the index entries of its last one",
      );
    },
  },
  {
    name: "a merge on an expired record starts from nothing",
    guarantee: "records.expire",
    async run(subject) {
      const key = `${fresh(subject)}//a`;
      await commit(subject, [{ kind: "put", key, value: bytes("41"), expiresAtMs: subject.clock.wallMs() + 10 }]);
      await subject.clock.advance(10);

      await commit(subject, [{ kind: "merge", key, merge: { kind: "add", amount: 1 } }]);

      assert.equal(text((await subject.store.read.records([key]))[0]?.value), "1");
    },
  },
  {
    name: "a merge keeps when its record expires, and what it is listed by",
    guarantee: "records.expire",
    async run(subject) {
      const home = `${fresh(subject)}//`;
      const expiresAtMs = subject.clock.wallMs() + 1_000;
      await commit(subject, [{ kind: "put", key: `${home}a`, value: bytes("1"), expiresAtMs, index: [{ field: "f", value: "v" }] }]);
      await commit(subject, [{ kind: "merge", key: `${home}a`, merge: { kind: "add", amount: 1 } }]);

      const [found] = await subject.store.read.list({ prefix: home, where: { field: "f", value: "v" }, order: "key", limit: 1 });

      assert.deepEqual([text(found?.value), found?.expiresAtMs], ["2", expiresAtMs]);
    },
  },
  {
    name: "[RES-10] takes of a token bucket are judged by the store's clock: never more than it holds, given back, full again, and gone then",
    guarantee: "commit.serializable-over-keys",
    async run(subject) {
      const [key, other] = [`${fresh(subject)}//a`, `${fresh(subject)}//b`];
      const burstUs = 10_000;
      const take = (amountUs: number): Write => ({ kind: "merge", key, merge: { kind: "take", amountUs, burstUs } });
      const taking = (...amounts: readonly number[]) => commit(subject, amounts.map(take));
      const left = (outcome: CommitOutcome) => (outcome.ok ? outcome.takenUs : outcome.refused === "guard" ? -outcome.value : outcome.refused);

      const valueOf = async (of: string) => text((await subject.store.read.records([of]))[0]?.value);

      const first = await Promise.all(Array.from({ length: 8 }, () => taking(3_000)));
      assert.deepEqual(first.map(left), [3_000, 6_000, 9_000, -2_000, -2_000, -2_000, -2_000, -2_000]);
      assert.deepEqual([left(await taking(1_000)), left(await taking(1))], [10_000, -1]);

      await subject.clock.advance(4);
      assert.deepEqual([left(await taking(4_001)), left(await taking(4_000)), left(await taking(-2_500, 2_000))], [-1, 10_000, 9_500]);
      const refused = await commit(subject, [{ kind: "put", key: other, value: bytes("x") }, take(-5_000), take(6_000)]);
      assert.deepEqual([left(refused), await valueOf(other)], [-500, undefined]);

      const again = { id: subject.ids.next(), expects: [], writes: [take(500)] };
      const [once, twice] = [await subject.store.commit(again), await subject.store.commit(again)];
      assert.deepEqual([left(once), once.ok && twice.ok && once.n === twice.n, left(await taking(1))], [10_000, true, -1]);

      await subject.clock.advance(10);
      assert.equal(await valueOf(key), undefined, "a full bucket is none");
      assert.deepEqual([left(await taking(-1_000)), left(await taking(burstUs)), left(await taking(1))], [0, burstUs, -1]);
      await commit(subject, [{ kind: "put", key: other, value: bytes("x") }]);
      const unfit = await commit(subject, [{ kind: "merge", key: other, merge: { kind: "take", amountUs: 1, burstUs: 1 } }]);
      assert.ok(!unfit.ok && unfit.refused === "statement");
    },
  },
  {
    name: "lists by key follow the order of UTF-8 bytes, in pages without loss or repetition",
    guarantee: "records.compare-and-set",
    async run(subject) {
      const home = `${fresh(subject)}//`;
      const names = ["a", "aa", "ab", "b", "z", "é", "\ud7ff", "\ue000", "\uffff", "😀", "😁"];
      await commit(
        subject,
        [...names].reverse().map((name): Write => ({ kind: "put", key: home + name, value: bytes(name) })),
      );
      await commit(subject, [
        { kind: "put", key: `${home.slice(0, -1)}!outside`, value: bytes("") },
        { kind: "put", key: `${home.slice(0, -1)}0outside`, value: bytes("") },
      ]);

      assert.deepEqual(
        (await pages(subject, { prefix: home, order: "key", limit: 3 })).map(({ value }) => text(value)),
        names,
      );
      assert.deepEqual(
        (await pages(subject, { prefix: `${home}a`, order: "key", limit: 2 })).map(({ value }) => text(value)),
        ["a", "aa", "ab"],
      );
      assert.deepEqual(
        (await pages(subject, { prefix: `${home}\uffff`, order: "key", limit: 2 })).map(({ value }) => text(value)),
        ["\uffff"],
      );
      assert.deepEqual(
        (await pages(subject, { prefix: `${home}\ud7ff`, order: "key", limit: 2 })).map(({ value }) => text(value)),
        ["\ud7ff"],
      );
    },
  },
  {
    name: "lists of the newest go by the commit that created a record, also among records of one commit, in pages",
    guarantee: "records.compare-and-set",
    async run(subject) {
      const home = `${fresh(subject)}//`;
      const put = (name: string): Write => ({
        kind: "put",
        key: home + name,
        value: bytes(name),
        index: [{ field: "even", value: name.length % 2 === 0 ? "yes" : "no" }],
      });
      await commit(subject, [put("c1"), put("b1"), put("a1")]);
      await commit(subject, [put("two")]);
      await commit(subject, [put("d3"), put("e3")]);
      await commit(subject, [put("b1")]);

      const newest = await pages(subject, { prefix: home, order: "newest", limit: 2 });
      const even = await pages(subject, { prefix: home, order: "newest", where: { field: "even", value: "yes" }, limit: 2 });
      const narrow = await pages(subject, { prefix: `${home}b`, order: "newest", limit: 2 });

      assert.deepEqual(
        newest.map(({ value }) => text(value)),
        ["d3", "e3", "two", "a1", "b1", "c1"],
      );
      assert.deepEqual(
        even.map(({ value }) => text(value)),
        ["d3", "e3", "a1", "b1", "c1"],
      );
      assert.deepEqual(
        narrow.map(({ value }) => text(value)),
        ["b1"],
      );
    },
  },
  {
    name: "lists by a field find what is indexed now, texts and numbers apart, and nothing of another tenant",
    guarantee: "records.compare-and-set",
    async run(subject) {
      const component = fresh(subject);
      const put = (tenant: string, name: string, value: string | number): Write => ({
        kind: "put",
        key: `${component}/${tenant}/${name}`,
        value: bytes(name),
        index: [
          { field: "status", value },
          { field: "other", value },
        ],
      });
      await commit(subject, [put("", "a", "open"), put("", "b", "open"), put("", "c", 1), put("", "d", "1"), put("t", "e", "open")]);
      const find = async (value: string | number) =>
        (await pages(subject, { prefix: `${component}//`, where: { field: "status", value }, order: "key", limit: 2 })).map(({ value }) => text(value));
      assert.deepEqual([await find("open"), await find(1), await find("1")], [["a", "b"], ["c"], ["d"]]);

      await commit(subject, [put("", "a", "shut"), { kind: "remove", key: `${component}//b` }, { kind: "put", key: `${component}//c`, value: bytes("c") }]);

      assert.deepEqual([await find("open"), await find("shut"), await find(1)], [[], ["a"], []]);
    },
  },
  {
    name: "[F9] unchanged: a put, merge or remove under the prefix after the number read is a conflict; elsewhere it is not",
    guarantee: "commit.serializable-over-keys",
    async run(subject) {
      const home = `${fresh(subject)}//`;
      const since = async () => (await subject.store.read.head()).n;
      const expecting = (from: number) =>
        commit(subject, [{ kind: "put", key: `${fresh(subject)}//x`, value: bytes("") }], [{ kind: "unchanged", prefix: home, since: from }]);
      const before = await since();
      assert.equal((await expecting(before)).ok, true);
      await commit(subject, [
        { kind: "put", key: `${home.slice(0, -1)}0`, value: bytes("") },
        { kind: "append", stream: `${home}stream`, events: [{ id: subject.ids.next(), type: "T", data: bytes("") }] },
      ]);
      assert.equal((await expecting(before)).ok, true, "a neighbour's key, or a stream, is no record under the prefix");

      for (const write of [
        { kind: "put", key: `${home}a`, value: bytes("1") },
        { kind: "merge", key: `${home}a`, merge: { kind: "add", amount: 1 } },
        { kind: "remove", key: `${home}a` },
      ] as const) {
        const from = await since();
        await commit(subject, [write]);
        assert.deepEqual(await expecting(from), { ok: false, refused: "conflict", keys: [home] }, write.kind);
        assert.equal((await expecting(await since())).ok, true);
      }
    },
  },
  {
    name: "[F9] unchanged looks at the burst it is part of: of two that read nothing and insert, one is refused",
    guarantee: "commit.serializable-over-keys",
    async run(subject) {
      const home = `${fresh(subject)}//`;
      const { n: since } = await subject.store.read.head();

      const outcomes = await Promise.all(
        ["a", "b"].map((name) => commit(subject, [{ kind: "put", key: home + name, value: bytes("") }], [{ kind: "unchanged", prefix: home, since }])),
      );

      assert.deepEqual(
        outcomes.map((outcome) => outcome.ok),
        [true, false],
      );
    },
  },
  {
    name: "[F9] write skew between two records is refused when both were read",
    guarantee: "commit.serializable-over-keys",
    async run(subject) {
      const home = `${fresh(subject)}//`;
      const [a, b] = [`${home}a`, `${home}b`];
      const first = await commit(subject, [
        { kind: "put", key: a, value: bytes("on call") },
        { kind: "put", key: b, value: bytes("on call") },
      ]);
      assert.ok(first.ok);
      const read: Expectation[] = [a, b].map((key) => ({ kind: "record", key, version: first.n }));

      const outcomes = await Promise.all([a, b].map((key) => commit(subject, [{ kind: "put", key, value: bytes("off") }], read)));

      assert.deepEqual(
        outcomes.map((outcome) => outcome.ok),
        [true, false],
      );
    },
  },
];

export const tokenCases: readonly Case<StoreSubject>[] = [
  {
    name: "[F12] a token is found with its value and version, and compared and set like a record",
    guarantee: "tokens.keep",
    async run(subject) {
      const key = `${fresh(subject)}//t`;
      const put = (value: string, version: number) =>
        commit(subject, [{ kind: "token", key, value: bytes(value), keepForMs: 24 * hourMs }], [{ kind: "token", key, version }]);
      const first = await put("one", 0);
      assert.ok(first.ok);
      assert.deepEqual(await put("twice", 0), { ok: false, refused: "conflict", keys: [key] });
      const second = await put("two", first.n);
      assert.ok(second.ok);

      const token = await subject.store.read.token(key);

      assert.deepEqual([text(token?.value), token?.version], ["two", second.n]);
      assert.equal(await subject.store.read.token(`${key}x`), undefined);
      assert.deepEqual(await subject.store.read.records([key]), [undefined], "a token is no record");
    },
  },
  ...[1, 24, 7 * 24, 30 * 24].map((hours): Case<StoreSubject> => ({
    name: `[F12] a token kept for ${hours} h is there until then, whenever in its window it was put, and gone after twice that`,
    guarantee: "tokens.keep",
    async run(subject) {
      const keepForMs = hours * hourMs;
      const keys: { readonly key: string; readonly untilMs: number }[] = [];
      for (let i = 0; i < 8; i++) {
        const key = `${fresh(subject)}//${i}`;
        assert.equal((await commit(subject, [{ kind: "token", key, value: bytes("t"), keepForMs }])).ok, true);
        keys.push({ key, untilMs: subject.clock.wallMs() + keepForMs });
        await subject.clock.advance(keepForMs / 8 - 7);
        await commit(subject, [{ kind: "put", key: `${key}/record`, value: bytes("") }]);
        for (const each of keys) if (each.untilMs > subject.clock.wallMs()) assert.ok(await subject.store.read.token(each.key), "kept");
      }
      await subject.clock.advance(2 * keepForMs);

      await commit(subject, [{ kind: "put", key: `${fresh(subject)}//record`, value: bytes("") }]);

      for (const { key } of keys) assert.equal(await subject.store.read.token(key), undefined);
    },
  })),
  {
    name: "[F12] a token put again in the next window, or kept longer, answers its newest value",
    guarantee: "tokens.keep",
    async run(subject) {
      const key = `${fresh(subject)}//t`;
      const put = async (value: string, keepForMs: number) =>
        assert.equal((await commit(subject, [{ kind: "token", key, value: bytes(value), keepForMs }])).ok, true);
      await put("one", 24 * hourMs);
      await subject.clock.advance(20 * hourMs);
      await put("two", 24 * hourMs);
      assert.equal(text((await subject.store.read.token(key))?.value), "two");
      await put("three", hourMs);
      assert.equal(text((await subject.store.read.token(key))?.value), "three");
      await put("four", 6 * 24 * hourMs);

      assert.equal(text((await subject.store.read.token(key))?.value), "four");
    },
  },
  {
    name: "[F12] a clock that is set back hides no token",
    guarantee: "tokens.keep",
    async run(subject) {
      const key = `${fresh(subject)}//t`;
      const first = await commit(subject, [{ kind: "token", key, value: bytes("t"), keepForMs: hourMs }]);
      assert.ok(first.ok);

      subject.clock.jumpWall(-2 * hourMs);

      assert.equal((await subject.store.read.token(key))?.version, first.n);
      assert.equal((await commit(subject, [{ kind: "token", key, value: bytes("u"), keepForMs: hourMs }], [{ kind: "token", key, version: 0 }])).ok, false);
      const again = await commit(subject, [{ kind: "token", key, value: bytes("u"), keepForMs: hourMs }], [{ kind: "token", key, version: first.n }]);
      assert.equal(text((await subject.store.read.token(key))?.value), again.ok ? "u" : "refused");
    },
  },
  {
    name: "[F12] a commit refused with the first token of a window leaves no trace of it",
    guarantee: "tokens.keep",
    async run(subject) {
      const key = `${fresh(subject)}//t`;
      await subject.clock.advance(100 * 24 * hourMs);

      const refused = await commit(subject, [{ kind: "token", key, value: bytes("t"), keepForMs: hourMs }], [{ kind: "record", key, version: 3 }]);

      assert.equal(refused.ok, false);
      assert.equal(await subject.store.read.token(key), undefined);
      assert.equal((await commit(subject, [{ kind: "token", key, value: bytes("t"), keepForMs: hourMs }])).ok, true);
    },
  },
];

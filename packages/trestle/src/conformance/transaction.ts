/** The user's SQL, in a commit and in an interactive transaction. */
import assert from "node:assert/strict";
import { Fault } from "../kernel/index.ts";
import { rowsDigest, type Commit, type CommitOutcome, type Expectation, type SqlValue, type Statement, type Write } from "../store/index.ts";
import { bytes, freshKey, text, type Case } from "./case.ts";
import type { StoreSubject } from "./queue.ts";

const sql = (text: string, ...parameters: SqlValue[]): Statement => ({ text, parameters });
const write = (text: string, ...parameters: SqlValue[]): Write => ({ kind: "sql", statement: sql(text, ...parameters) });
const commit = ({ store, ids }: StoreSubject, writes: readonly Write[], expects: readonly Expectation[] = []): Promise<CommitOutcome> =>
  store.commit({ id: ids.next(), expects, writes });

/** A table of the case's own. */
async function table(subject: StoreSubject): Promise<string> {
  const name = `t_${subject.ids.next().replaceAll("-", "")}`;
  await subject.store.migrate(name, [{ name: "001.sql", text: `create table ${name} (id integer primary key, label text unique)` }]);
  return name;
}
async function labels(subject: StoreSubject, name: string): Promise<SqlValue[]> {
  return (await subject.store.read.rows(sql(`select label from ${name} order by id`))).map((row) => row["label"] as SqlValue);
}

export const sqlCases: readonly Case<StoreSubject>[] = [
  {
    name: "the user's rows are written in the commit, or not at all",
    guarantee: "sql.same-commit",
    async run(subject) {
      const name = await table(subject);
      const key = freshKey(subject);
      assert.equal((await commit(subject, [write(`insert into ${name} (label) values (?)`, "a"), { kind: "put", key, value: bytes("x") }])).ok, true);

      const refused = await commit(subject, [write(`insert into ${name} (label) values (?)`, "b")], [{ kind: "record", key, version: 0 }]);
      const failed = await commit(subject, [{ kind: "put", key: `${key}2`, value: bytes("x") }, write(`insert into ${name} (label) values (?)`, "a")]);

      assert.deepEqual([refused.ok, failed.ok || failed.refused], [false, "statement"]);
      assert.deepEqual(await labels(subject, name), ["a"]);
      assert.deepEqual(await subject.store.read.records([`${key}2`]), [undefined]);
    },
  },
  {
    name: "values come back as they went in: texts, numbers, bytes, null, integers beyond 2^53",
    guarantee: "sql.same-commit",
    async run(subject) {
      const name = `v_${subject.ids.next().replaceAll("-", "")}`;
      await subject.store.migrate(name, [{ name: "1", text: `create table ${name} (a, b, c, d, e, f)` }]);

      assert.equal(
        (await commit(subject, [write(`insert into ${name} values (?, ?, ?, ?, ?, ?)`, "té", 1.5, null, 9_007_199_254_740_993n, true, new Uint8Array([0, 1]))]))
          .ok,
        true,
      );

      const [row] = await subject.store.read.rows(sql(`select * from ${name}`));
      assert.ok(row);
      assert.deepEqual({ ...row, f: [...(row["f"] as Uint8Array)] }, { a: "té", b: 1.5, c: null, d: 9_007_199_254_740_993n, e: 1, f: [0, 1] });
    },
  },
  {
    name: "[F9] rows: a query that answers otherwise at commit is a conflict",
    guarantee: "commit.serializable-over-keys",
    async run(subject) {
      const name = await table(subject);
      const statement = sql(`select count(*) as n from ${name} where label like ?`, "a%");
      const digest = rowsDigest(await subject.store.read.rows(statement));
      const booking = (label: string) => commit(subject, [write(`insert into ${name} (label) values (?)`, label)], [{ kind: "rows", statement, digest }]);

      const outcomes = await Promise.all([booking("a1"), booking("a2")]);

      assert.equal(outcomes[0]?.ok, true);
      assert.deepEqual(outcomes[1], { ok: false, refused: "conflict", keys: [statement.text] });
      assert.deepEqual(await labels(subject, name), ["a1"]);
    },
  },
  ...(
    [
      ["COMMIT", "commit"],
      ["ROLLBACK", "rollback"],
      ["SAVEPOINT", "savepoint mine"],
      ["RELEASE", "release one"],
      ["ATTACH", "attach ':memory:' as other"],
      ["a temporary table", "create temp table mine (a)"],
      ["a read of Trestle's tables", "select * from trestle_records"],
      ["a write to Trestle's tables", "delete from trestle_events"],
      ["a trigger on Trestle's tables", "create trigger mine after insert on trestle_records begin select 1; end"],
      ["a table of Trestle's name", "create table trestle_mine (a)"],
    ] as const
  ).map(([what, statement]): Case<StoreSubject> => ({
    name: `[F5] the user's SQL may not use ${what}, and a burst with it loses nobody else`,
    guarantee: "commit.atomic",
    async run(subject) {
      const keys = Array.from({ length: 5 }, () => freshKey(subject));

      const outcomes = await Promise.all(
        keys.map((key, i) => commit(subject, [{ kind: "put", key, value: bytes("x") }, ...(i === 2 ? [write(statement)] : [])])),
      );

      assert.deepEqual(
        outcomes.map((outcome) => outcome.ok || outcome.refused),
        [true, true, "statement", true, true],
      );
      assert.deepEqual(
        (await subject.store.read.records(keys)).map((record) => record !== undefined),
        [true, true, false, true, true],
      );
      await assert.rejects(
        subject.store.transaction(async (connection) => ({ result: await connection.execute(sql(statement)) })),
        (thrown) => Fault.is(thrown, "sql.denied"),
      );
    },
  })),
  {
    name: "[F5] one statement is one statement: what follows a semicolon is refused, not dropped",
    guarantee: "sql.same-commit",
    async run(subject) {
      const name = await table(subject);

      const outcome = await commit(subject, [write(`insert into ${name} (label) values ('a'); insert into ${name} (label) values ('b')`)]);

      assert.equal(outcome.ok, false);
      assert.deepEqual(await labels(subject, name), []);
      assert.equal((await commit(subject, [write(`insert into ${name} (label) values ('a'); -- done\n;`)])).ok, true);
    },
  },
  {
    name: "read.rows writes nothing",
    guarantee: "sql.same-commit",
    async run(subject) {
      const name = await table(subject);

      await assert.rejects(subject.store.read.rows(sql(`insert into ${name} (label) values ('a') returning id`)), (thrown) =>
        Fault.is(thrown, "sql.not-a-query"),
      );
      await assert.rejects(subject.store.read.rows(sql("select * from nowhere")), (thrown) => Fault.is(thrown, "sql.failed"));
      await assert.rejects(subject.store.read.rows(sql("select * from trestle_meta")), (thrown) => Fault.is(thrown, "sql.denied"));
      assert.deepEqual(await labels(subject, name), []);
    },
  },
  {
    name: "a migration is applied once, in order of name; a changed one is a fault; a failed one leaves nothing",
    guarantee: "sql.same-commit",
    async run(subject) {
      const name = `m_${subject.ids.next().replaceAll("-", "")}`;
      const files = [
        { name: "002.sql", text: `insert into ${name} values (2); insert into ${name} values (3)` },
        { name: "001.sql", text: `create table ${name} (label)` },
      ];
      await subject.store.migrate(name, files);
      await subject.store.migrate(name, files);
      assert.deepEqual((await subject.store.read.rows(sql(`select label from ${name}`))).length, 2);

      await assert.rejects(subject.store.migrate(name, [{ name: "001.sql", text: `create table ${name} (other)` }]), (thrown) =>
        Fault.is(thrown, "sql.migration-changed"),
      );
      await assert.rejects(
        subject.store.migrate(name, [{ name: "003.sql", text: `insert into ${name} values (4); insert into nowhere values (1)` }]),
        (thrown) => Fault.is(thrown, "sql.migration-failed"),
      );
      await assert.rejects(subject.store.migrate(name, [{ name: "004.sql", text: "delete from trestle_records" }]), (thrown) => Fault.is(thrown, "sql.denied"));

      assert.deepEqual((await subject.store.read.rows(sql(`select label from ${name}`))).length, 2);
    },
  },
];

export const transactionCases: readonly Case<StoreSubject>[] = [
  {
    name: "[F19] a transaction reads its own writes, others do not until it has ended, and its commit is part of it",
    guarantee: "sql.same-commit",
    async run(subject) {
      const name = await table(subject);
      const key = freshKey(subject);

      const answer = await subject.store.transaction(async (connection) => {
        const inserted = await connection.execute(sql(`insert into ${name} (label) values (?)`, "a"));
        const seen = await connection.execute(sql(`select label from ${name}`));
        return {
          result: [inserted.changes, inserted.lastInsertRowid, seen.rows],
          commit: { id: subject.ids.next(), expects: [], writes: [{ kind: "put", key, value: bytes("x") }] },
        };
      });

      assert.deepEqual(answer, [1, 1n, [{ label: "a" }]]);
      assert.deepEqual(await labels(subject, name), ["a"]);
      assert.equal(text((await subject.store.read.records([key]))[0]?.value), "x");
    },
  },
  {
    name: "[F19] a transaction that throws, or whose commit is refused, leaves nothing",
    guarantee: "commit.atomic",
    async run(subject) {
      const name = await table(subject);
      const key = freshKey(subject);
      const insert = sql(`insert into ${name} (label) values ('a')`);

      await assert.rejects(
        subject.store.transaction(async (connection) => {
          await connection.execute(insert);
          throw new Error("changed my mind");
        }),
        /changed my mind/,
      );
      await assert.rejects(
        subject.store.transaction(async (connection) => {
          await connection.execute(insert);
          return {
            result: 0,
            commit: { id: subject.ids.next(), expects: [{ kind: "record", key, version: 7 }], writes: [{ kind: "put", key, value: bytes("x") }] },
          };
        }),
        (thrown) => Fault.is(thrown, "commit.conflict"),
      );

      assert.deepEqual(await labels(subject, name), []);
      assert.deepEqual(await subject.store.read.records([key]), [undefined]);
    },
  },
  {
    name: "[F19] a failed statement leaves the transaction open; what it did before can still be committed",
    guarantee: "sql.same-commit",
    async run(subject) {
      const name = await table(subject);

      await subject.store.transaction(async (connection) => {
        await connection.execute(sql(`insert into ${name} (label) values ('a')`));
        await assert.rejects(connection.execute(sql(`insert into ${name} (label) values ('a')`)), (thrown) => Fault.is(thrown, "sql.failed"));
        await connection.execute(sql(`insert into ${name} (label) values ('b')`));
        return { result: 0 };
      });

      assert.deepEqual(await labels(subject, name), ["a", "b"]);
    },
  },
  {
    name: "[F19] reads made in the work of a transaction answer, and show what is durable",
    guarantee: "commit.atomic",
    async run(subject) {
      const name = await table(subject);
      const [key, stream] = [freshKey(subject), freshKey(subject)];
      const before: Commit = {
        id: subject.ids.next(),
        expects: [],
        writes: [
          { kind: "put", key, value: bytes("x") },
          { kind: "append", stream, events: [{ id: subject.ids.next(), type: "T", data: bytes("1") }] },
        ],
      };
      assert.equal((await subject.store.commit(before)).ok, true);

      const seen = await subject.store.transaction(async (connection) => {
        await connection.execute(sql(`insert into ${name} (label) values ('a')`));
        const [record] = await subject.store.read.records([key]);
        return {
          result: [
            text(record?.value),
            await subject.store.read.streamVersion(stream),
            (await subject.store.read.list({ prefix: key, order: "key", limit: 2 })).length,
          ],
        };
      });

      assert.deepEqual(seen, ["x", 1, 1]);
    },
  },
  {
    name: "[F19] commits made beside a transaction are not in it: they stay when it rolls back, and it does not see them",
    guarantee: "commit.atomic",
    async run(subject) {
      const name = await table(subject);
      const keys = Array.from({ length: 8 }, () => freshKey(subject));
      let beside: Promise<CommitOutcome[]> | undefined;

      await assert.rejects(
        subject.store.transaction(async (connection) => {
          await connection.execute(sql(`insert into ${name} (label) values ('mine')`));
          beside = Promise.all(
            keys.map((key) => commit(subject, [{ kind: "put", key, value: bytes("x") }, write(`insert into ${name} (label) values (?)`, key)])),
          );
          const seen = await connection.execute(sql(`select label from ${name}`));
          assert.deepEqual(seen.rows, [{ label: "mine" }]);
          throw new Error("roll back");
        }),
        /roll back/,
      );

      assert.deepEqual(
        (await (beside as Promise<CommitOutcome[]>)).map(({ ok }) => ok),
        keys.map(() => true),
      );
      assert.deepEqual(await labels(subject, name), keys);
    },
  },
  {
    name: "[F19] a connection used after its transaction has ended is a fault",
    guarantee: "commit.atomic",
    async run(subject) {
      const name = await table(subject);
      const kept = await subject.store.transaction(async (connection) => ({ result: connection }));

      await assert.rejects(kept.execute(sql(`insert into ${name} (label) values ('late')`)), (thrown) => Fault.is(thrown, "transaction.ended"));
      assert.deepEqual(await labels(subject, name), []);
    },
  },
];

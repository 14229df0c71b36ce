import assert from "node:assert/strict";
import { test } from "node:test";
import { sql, type Generated, type Kysely } from "kysely";
import { app, Fault, records, start, type Node } from "trestle";
import { z } from "zod";
import { kysely } from "./index.ts";

interface Tables {
  readonly person: { readonly id: Generated<number>; readonly name: string; readonly age: number | null };
}

const notes = records("notes", { key: z.string(), value: z.string() });
const application = app("kysely-test", [notes]);

async function nodeWithPeople(): Promise<Node> {
  const node = await start(application, { store: "memory:", roles: [], log: () => undefined });
  await node.transaction({}, async (_, tx) => {
    await kysely<Tables>(tx)
      .schema.createTable("person")
      .addColumn("id", "integer", (column) => column.primaryKey())
      .addColumn("name", "text", (column) => column.notNull())
      .addColumn("age", "integer")
      .execute();
  });
  return node;
}
const people = (db: Kysely<Tables>) => db.selectFrom("person").select(["name", "age"]).orderBy("id").execute();

test("queries, inserts with ids, RETURNING, updates and deletes answer what Kysely promises", async () => {
  await using node = await nodeWithPeople();

  const answers = await node.transaction({}, async (_, tx) => {
    const db = kysely<Tables>(tx);
    const inserted = await db.insertInto("person").values({ name: "Ada", age: 36 }).executeTakeFirstOrThrow();
    const returned = await db
      .insertInto("person")
      .values([
        { name: "Bob", age: null },
        { name: "Cy", age: 7 },
      ])
      .returning(["id", "name"])
      .execute();
    const updated = await db.updateTable("person").set({ age: 37 }).where("name", "=", "Ada").executeTakeFirstOrThrow();
    const deleted = await db.deleteFrom("person").where("age", "<", 10).executeTakeFirstOrThrow();
    const counted = await sql<{ n: number }>`select count(*) as n from person where name <> ${"Bob"}`.execute(db);
    return {
      id: inserted.insertId,
      returned,
      updated: updated.numUpdatedRows,
      deleted: deleted.numDeletedRows,
      counted: counted.rows,
      people: await people(db),
    };
  });

  assert.deepEqual(answers.id, 1n);
  assert.deepEqual(
    answers.returned.map((row) => ({ ...row })),
    [
      { id: 2, name: "Bob" },
      { id: 3, name: "Cy" },
    ],
  );
  assert.deepEqual([answers.updated, answers.deleted], [1n, 1n]);
  assert.deepEqual(
    answers.counted.map((row) => row.n),
    [1],
  );
  assert.deepEqual(
    answers.people.map((row) => ({ ...row })),
    [
      { name: "Ada", age: 37 },
      { name: "Bob", age: null },
    ],
  );
});

test("statements and the handles' writes are one commit", async () => {
  await using node = await nodeWithPeople();

  await node.transaction({ notes }, async (handles, tx) => {
    await kysely<Tables>(tx).insertInto("person").values({ name: "Ada", age: 36 }).execute();
    handles.notes.put("ada", "was here");
  });

  assert.equal(await node.open(notes).get("ada"), "was here");
  assert.equal((await node.transaction({}, (_, tx) => people(kysely(tx)))).length, 1);
});

test("a throw takes back statements and writes alike", async () => {
  await using node = await nodeWithPeople();

  await assert.rejects(
    node.transaction({ notes }, async (handles, tx) => {
      await kysely<Tables>(tx).insertInto("person").values({ name: "Ada", age: 36 }).execute();
      handles.notes.put("ada", "was here");
      throw new Error("no");
    }),
    /no/,
  );

  assert.equal(await node.open(notes).get("ada"), undefined);
  assert.deepEqual(await node.transaction({}, (_, tx) => people(kysely(tx))), []);
});

test("a failed statement is a fault with the statement's text, and whoever catches it may go on", async () => {
  await using node = await nodeWithPeople();

  const caught = await node.transaction({}, async (_, tx) => {
    const db = kysely<Tables>(tx);
    const failure = await sql`insert into nowhere values (1)`.execute(db).catch((error: unknown) => error);
    await db.insertInto("person").values({ name: "Ada", age: 1 }).execute();
    return failure;
  });

  assert.ok(Fault.is(caught, "sql.failed"));
  assert.equal((await node.transaction({}, (_, tx) => people(kysely(tx)))).length, 1);
});

test("[F19] Kysely's own transaction, transaction control in text and Trestle's tables are refused", async () => {
  await using node = await nodeWithPeople();

  await node.transaction({}, async (_, tx) => {
    const db = kysely<Tables>(tx);
    await assert.rejects(
      db.transaction().execute(async () => undefined),
      (error) => Fault.is(error, "kysely.transaction-within"),
    );
    await assert.rejects(sql`commit`.execute(db), (error) => Fault.is(error, "sql.denied"));
    await assert.rejects(sql`select * from trestle_commits`.execute(db), (error) => Fault.is(error, "sql.denied"));
  });
});

test("a value that SQL has no type for is a fault that names it, not a wrong value", async () => {
  await using node = await nodeWithPeople();

  await node.transaction({}, async (_, tx) => {
    await assert.rejects(sql`select ${new Date(0)}`.execute(kysely(tx)), (error) => Fault.is(error, "kysely.parameter-not-sql"));
  });
});

test("a Kysely kept beyond its transaction faults instead of writing outside of it", async () => {
  await using node = await nodeWithPeople();

  const kept = await node.transaction({}, async (_, tx) => ({ db: kysely<Tables>(tx) }));

  await assert.rejects(kept.db.insertInto("person").values({ name: "late", age: 1 }).execute(), (error) => Fault.is(error, "transaction.ended"));
});

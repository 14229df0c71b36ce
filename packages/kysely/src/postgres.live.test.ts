/** Kysely in a transaction of a store on PostgreSQL. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { missing, postgres } from "@trestle/testing";
import { app, records, start, type StartOptions } from "trestle";
import { z } from "zod";
import { kysely } from "./index.ts";

interface Tables {
  readonly ledger: { readonly entry: string; readonly cents: number; readonly note: Uint8Array | null };
}
const notes = records("notes", { key: z.string(), value: z.string() });

test(
  "Kysely speaks PostgreSQL there: statements and the handles' writes are one commit, or nothing",
  { skip: await missing("postgres", { managed: true }) },
  async () => {
    await using server = await postgres();
    await using node = await start(app("books", [notes]), { store: server.url as NonNullable<StartOptions["store"]>, roles: [], log: () => undefined });
    await node.transaction(
      {},
      async (_, tx) =>
        void (await kysely<Tables>(tx)
          .schema.createTable("ledger")
          .addColumn("entry", "text")
          .addColumn("cents", "bigint")
          .addColumn("note", "bytea")
          .execute()),
    );

    const changed = await node.transaction({ notes }, async (handles, tx) => {
      handles.notes.put("a", "written");
      const db = kysely<Tables>(tx);
      await db
        .insertInto("ledger")
        .values([
          { entry: "one", cents: 1, note: Uint8Array.of(0, 255) },
          { entry: "two", cents: 2, note: null },
        ])
        .execute();
      const { numUpdatedRows } = await db.updateTable("ledger").set({ cents: 3 }).where("entry", "=", "two").executeTakeFirstOrThrow();
      return numUpdatedRows;
    });
    await assert.rejects(
      node.transaction({ notes }, async (handles, tx) => {
        handles.notes.put("b", "written");
        await kysely<Tables>(tx).insertInto("ledger").values({ entry: "three", cents: 3, note: null }).execute();
        throw new Error("changed my mind");
      }),
      /changed my mind/,
    );

    const rows = await node.transaction({}, (_, tx) => kysely<Tables>(tx).selectFrom("ledger").select(["entry", "cents"]).orderBy("entry").execute());
    assert.equal(changed, 1n);
    assert.deepEqual(rows, [
      { entry: "one", cents: 1 },
      { entry: "two", cents: 3 },
    ]);
    assert.deepEqual([await node.open(notes).get("a"), await node.open(notes).get("b")], ["written", undefined]);
  },
);

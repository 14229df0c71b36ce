import { test } from "node:test";
import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { z } from "zod";
import { app, start, type Node } from "../app/index.ts";
import { refuse } from "../component/index.ts";
import { Fault } from "../kernel/index.ts";
import { records } from "../records/index.ts";
import { get, post, service } from "../service/index.ts";
import { sql } from "./index.ts";

const Row = z.object({ account: z.string(), cents: z.number() });

function world(
  migrations: Record<string, string> = {
    "001-ledger.sql": "create table ledger (account text primary key, cents integer not null check (cents >= 0)) strict;",
    "002-first.sql": "insert into ledger values ('ada', 100);",
  },
) {
  const folder = mkdtempSync(join(tmpdir(), "trestle-sql-"));
  for (const [name, text] of Object.entries(migrations)) writeFileSync(join(folder, name), text);
  const notes = records("notes", { key: z.string(), value: z.object({ text: z.string() }) });
  let between: () => Promise<void> = async () => undefined;
  let runs = 0;
  const books = sql("books", { migrations: folder });
  const bank = service(
    "bank",
    { uses: { books, notes } },
    {
      pay: post("/pay", { body: Row, refuses: { "too-little": 409 } }, ({ body }, { books, notes }) => {
        books.run`insert into ledger values (${body.account}, ${body.cents}) on conflict (account) do update set cents = cents + excluded.cents`;
        notes.put(body.account, { text: "paid" });
        return body.cents < 1 ? refuse("too-little") : body;
      }),
      close: post("/close", { body: z.object({ account: z.string() }) }, async ({ body }, { books }) => {
        runs += 1;
        const [found] = await books.expect(Row)`select account, cents from ledger where account = ${body.account}`;
        const [same] = await books.rows(Row)`select account, cents from ledger where account = ${body.account}`;
        await between();
        books.run`delete from ledger where account = ${body.account}`;
        return { cents: found?.cents ?? null, same: same?.cents ?? null };
      }),
      list: get("/", {}, async (_request, { books }) => ({ rows: await books.rows(Row)`select * from ledger order by account` })),
      note: get("/notes/:id", {}, async ({ params }, { notes }) => ({ note: (await notes.get(params.id)) ?? null })),
      wrong: get("/wrong", {}, async (_request, { books }) => ({ rows: await books.rows(z.object({ cents: z.string() }))`select cents from ledger` })),
    },
  );
  return {
    folder,
    books,
    bank,
    runs: () => runs,
    meanwhile: (what: () => Promise<void>) => void (between = what),
    start: () => start(app("test", [bank]), { store: "memory:", log: () => undefined }),
    [Symbol.dispose]: () => rmSync(folder, { recursive: true, force: true }),
  };
}
const rows = async (node: Node): Promise<unknown> => ((await (await node.fetch(new Request("http://x/"))).json()) as { readonly rows: unknown }).rows;
const ask = (node: Node, path: string, body: unknown) =>
  node.fetch(new Request(`http://x${path}`, { method: "POST", body: JSON.stringify(body), headers: { "content-type": "application/json" } }));

test("migrations are applied in order of name before anything runs, and statements join the handler's one commit", async () => {
  using of = world();
  await using node = await of.start();
  assert.deepEqual(await rows(node), [{ account: "ada", cents: 100 }]);
  assert.equal((await ask(node, "/pay", { account: "bob", cents: 5 })).status, 200);
  assert.deepEqual(await rows(node), [
    { account: "ada", cents: 100 },
    { account: "bob", cents: 5 },
  ]);
});

test("a refusal takes its statements with it, and a failing statement takes the whole commit", async () => {
  using of = world();
  await using node = await of.start();
  assert.equal((await ask(node, "/pay", { account: "bob", cents: 0 })).status, 409);
  const failed = await ask(node, "/pay", { account: "eve", cents: 1.5 }); // the column is strict
  assert.equal(failed.status, 500);
  assert.deepEqual(await rows(node), [{ account: "ada", cents: 100 }]);
  assert.deepEqual(await (await node.fetch(new Request("http://x/notes/eve"))).json(), { note: null });
});

test("what is bound is never read as SQL", async () => {
  using of = world();
  await using node = await of.start();
  const account = "x'); drop table ledger; --";
  await ask(node, "/pay", { account, cents: 1 });
  assert.deepEqual(await rows(node), [
    { account: "ada", cents: 100 },
    { account, cents: 1 },
  ]);
});

test("[F9] rows that were expected are a precondition: when they change meanwhile, the handler decides again", async () => {
  using of = world();
  await using node = await of.start();
  let first = true;
  of.meanwhile(async () => {
    if (!first) return;
    first = false;
    await ask(node, "/pay", { account: "ada", cents: 11 });
  });
  assert.deepEqual(await (await ask(node, "/close", { account: "ada" })).json(), { cents: 111, same: 111 });
  assert.equal(of.runs(), 2);
  assert.deepEqual(await rows(node), []);
});

test("a row that does not fit its schema is a fault that names it", async () => {
  using of = world();
  await using node = await of.start();
  assert.equal((await node.fetch(new Request("http://x/wrong"))).status, 500);
});

test("a folder that is not there, or empty, or a broken migration stops the boot by name", async () => {
  const boot = (migrations: string) => start(app("test", [sql("books", { migrations })]), { store: "memory:", log: () => undefined });
  await assert.rejects(boot("./no-such-folder"), (fault) => Fault.is(fault, "sql.migrations-unreadable") && fault.message.includes("no-such-folder"));
  using empty = world({});
  await assert.rejects(boot(empty.folder), (fault) => Fault.is(fault, "sql.no-migrations"));
  using broken = world({ "001.sql": "create tabel x" });
  await assert.rejects(boot(broken.folder));
  using fine = world();
  await (await boot(pathToFileURL(fine.folder).href)).stop();
});

test("a store whose dialect the migrations do not speak stops the boot by name, and a folder for each dialect is chosen by the store", async () => {
  using of = world();
  const boot = (migrations: { readonly sqlite?: string; readonly postgres?: string }) =>
    start(app("test", [sql("books", { migrations })]), { store: "memory:", log: () => undefined });
  await assert.rejects(boot({ postgres: of.folder }), (fault) => Fault.is(fault, "sql.dialect-missing") && fault.message.includes("books"));
  await (await boot({ sqlite: of.folder, postgres: "./no-such-folder" })).stop();
});

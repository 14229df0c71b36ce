import { test } from "node:test";
import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { z } from "zod";
import { aggregate, command, projection } from "../events/index.ts";
import { external, query } from "../external/index.ts";
import { kind } from "../kind/index.ts";
import { queue, topic } from "../messaging/index.ts";
import { records } from "../records/index.ts";
import { get, service } from "../service/index.ts";
import { secret, setting } from "../setting/index.ts";
import { sql } from "../sql/index.ts";
import { open } from "./index.ts";

const memory = { store: "memory:" } as const;

test("every kind that has a handle also stands alone: no app, its own store", async () => {
  const opened: string[] = [];
  const done = (name: string) => void opened.push(name);
  {
    await using notes = await open(records("notes", { key: z.string(), value: z.int() }), memory);
    await notes.put("a", 1);
    assert.equal(await notes.get("a"), 1);
    done("records");
  }
  const counter = aggregate(
    "counter",
    { id: z.string(), events: { Counted: z.object({}) }, initial: () => 0, evolve: { Counted: (n) => n + 1 } },
    {
      count: command((_n, emit) => emit.Counted()),
    },
  );
  {
    await using counters = await open(counter, memory);
    await counters.count("a");
    assert.equal(await counters.get("a"), 1);
    done("aggregate");
  }
  {
    await using counts = await open(projection("counts", { from: counter, row: z.object({ n: z.int() }) }, { creates: { Counted: () => ({ n: 1 }) } }), memory);
    assert.deepEqual((await counts.list({ limit: 10 })).items, []);
    done("projection");
  }
  {
    await using told = await open(topic("told", { events: { Told: z.object({}) } }), memory);
    await told.publish.Told();
    assert.equal(await told.version(), 1);
    done("topic");
  }
  {
    await using mail = await open(
      queue("mail", { input: z.object({}) }, () => undefined),
      memory,
    );
    assert.match((await mail.send({})).id, /^[0-9a-f-]{36}$/);
    done("queue");
  }
  {
    await using hello = await open(service("hello", {}, { say: get("/say", {}, () => "hello") }), memory);
    assert.equal((await hello.say()).body, "hello");
    done("service");
  }
  {
    await using airline = await open(external("airline", {}, { seats: query({ input: z.object({}), returns: z.int() }, async () => 7) }), memory);
    assert.equal(await airline.seats({}), 7);
    done("external");
  }
  {
    process.env["TRESTLE_TEST_OPEN"] = "x";
    await using own = await open(setting("TRESTLE_TEST_OPEN"), memory);
    await using hidden = await open(secret("TRESTLE_TEST_OPEN"), memory);
    assert.deepEqual([own.value, await hidden.reveal()], ["x", "x"]);
    delete process.env["TRESTLE_TEST_OPEN"];
    done("setting");
    done("secret");
  }
  {
    const migrations = mkdtempSync(join(tmpdir(), "trestle-open-"));
    writeFileSync(join(migrations, "1.sql"), "create table books (title text)");
    await using books = await open(sql("books", { migrations }), memory);
    await books.run`insert into books values (${"Emma"})`;
    assert.deepEqual(await (await books.rows(z.object({ title: z.string() })))`select title from books`, [{ title: "Emma" }]);
    rmSync(migrations, { recursive: true });
    done("sql");
  }
  {
    const cell = kind("cell", {
      options: z.object({}),
      needs: [],
      gives: [],
      view: (_cell, { records }) => ({ get: () => records.get("x") }),
      handle: (_cell, { records }) => ({ get: () => records.get("x"), set: (value: number) => records.put("x", value) }),
    });
    await using one = await open(cell("one", {}), memory);
    await one.set(3);
    assert.equal(await one.get(), 3);
    done("kind");
  }

  assert.equal(opened.length, 11);
});

import assert from "node:assert/strict";
import { test } from "node:test";
import { Fault, systemClock } from "../kernel/index.ts";
import { deadline } from "../resilience/index.ts";
import { guardedPool } from "./index.ts";

test("whose time is over hears of its deadline, also when the server has ended the statement before this process looks at the clock", async () => {
  const ended = Object.assign(new Error("canceling statement due to statement timeout"), { code: "57014" });
  const told: string[] = [];
  const back = Promise.withResolvers<void>();
  const client = {
    query(text: string) {
      told.push(text.replace(/\d+/, "n"));
      if (!text.startsWith("select")) return Promise.resolve({ rows: [], rowCount: 0 });
      for (const untilMs = systemClock.monotonicMs() + 30; systemClock.monotonicMs() < untilMs;);
      return Promise.reject(ended);
    },
    release() {
      told.push("released");
      back.resolve();
    },
  };
  const db = guardedPool({ connect: () => Promise.resolve(client) }, deadline(20));

  const outcome = await db.query("select pg_sleep(30)").catch((thrown: unknown) => thrown);
  assert.ok(Fault.is(outcome, "deadline.exceeded"), String(outcome));
  await back.promise;
  assert.deepEqual(told, ["set statement_timeout = n", "select pg_sleep(n)", "rollback; reset statement_timeout", "released"]);
  const early = guardedPool({ connect: () => Promise.resolve(client) }, deadline("1m"));
  await assert.rejects(early.query("select 1"), ended, "of a limit of the user's own");
});

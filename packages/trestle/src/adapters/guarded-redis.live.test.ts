import assert from "node:assert/strict";
import { test } from "node:test";
import { missing, redis } from "@trestle/testing";
import { Redis } from "ioredis";
import { Fault } from "../kernel/index.ts";
import { breaker, failureOf, pipeline, retry, timeout } from "../resilience/index.ts";
import { guardedRedis } from "./index.ts";

test(
  "commands of Redis are calls: in time or not at all, and a breaker leaves a server alone that stands still",
  { skip: await missing("redis", { managed: true }) },
  async () => {
    await using server = await redis();
    const own = new Redis(server.url);
    own.on("error", () => undefined);
    try {
      const client = guardedRedis(own, pipeline(timeout(150), breaker({ minimumCalls: 6, cooldown: "1h" })));
      assert.equal(await client.set("a", "1"), "OK");
      assert.equal(await client.incr("a"), 2);
      assert.deepEqual(await client.getBuffer("a"), Buffer.from("2"));
      assert.deepEqual(await client.multi().incr("a").get("a").exec(), [
        [null, 3],
        [null, "3"],
      ]);
      assert.equal(client.status, "ready");

      await server.pause();
      for (let i = 0; i < 3; i++) await assert.rejects(client.get("a"), (thrown: unknown) => Fault.is(thrown, "deadline.exceeded"));
      await assert.rejects(client.get("a"), (thrown: unknown) => Fault.is(thrown, "breaker.open"));
      await server.resume();
    } finally {
      own.disconnect();
    }
  },
);

test("of Redis's commands only questions are repeated when they may have been done", async () => {
  const asked: string[] = [];
  const fake = {
    getBuiltinCommands: () => ["get", "incr"],
    get: (key: string) => fail(`get ${key}`),
    incr: (key: string) => fail(`incr ${key}`),
    on: (event: string) => event,
  };
  function fail(what: string): Promise<string> {
    asked.push(what);
    return Promise.reject(Object.assign(new Error("reset"), { code: "ECONNRESET" }));
  }
  assert.ok(failureOf(Object.assign(new Error("reset"), { code: "ECONNRESET" })).mayHaveActed);
  const client = guardedRedis(fake, pipeline(retry({ attempts: 2, from: 1 })));

  await assert.rejects(client.incr("a"));
  await assert.rejects(client.get("a"));
  assert.deepEqual(asked, ["incr a", "get a", "get a"]);
  assert.equal(client.on("x"), "x");
});

test("a client under an open breaker still ends its connection", async () => {
  const guard = breaker();
  const client = guardedRedis({ getBuiltinCommands: () => ["get", "quit"], get: () => Promise.resolve(""), quit: () => Promise.resolve("OK") }, guard);
  guard.hold("open");

  await assert.rejects(client.get(), (thrown: unknown) => Fault.is(thrown, "breaker.open"));
  assert.equal(await client.quit(), "OK");
});

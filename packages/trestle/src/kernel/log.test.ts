import assert from "node:assert/strict";
import { test } from "node:test";
import { boundLog, Fault, jsonLogger, virtualClock, withContext } from "./index.ts";

function written(level?: "debug" | "info" | "warn" | "error") {
  const lines: string[] = [];
  const logger = jsonLogger({ clock: virtualClock(0), write: (line) => lines.push(line), ...(level && { level }) });
  const last = () => JSON.parse(lines.at(-1) as string) as Record<string, unknown>;
  return { lines, logger, last };
}

test("[OBS-02] a record is one line of JSON with time, level, message and facts", () => {
  const { lines, logger } = written();
  logger.log("warn", "two\nlines", { queue: "mail", depth: 3, nested: { list: [1, null, true] } });
  assert.deepEqual(lines, [
    '{"time":"1970-01-01T00:00:00.000Z","level":"warn","message":"two\\nlines","queue":"mail","depth":3,"nested":{"list":[1,null,true]}}',
  ]);
});

test("records below the level are not written", () => {
  const { lines, logger } = written("warn");
  for (const level of ["debug", "info", "warn", "error"] as const) logger.log(level, level);
  assert.deepEqual(
    lines.map((line) => (JSON.parse(line) as { level: string }).level),
    ["warn", "error"],
  );
});

test("[OBS-02] a record carries the trace and tenant it was written in", () => {
  const { logger, last } = written();
  withContext({ traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", tenant: "acme" }, () => logger.log("error", "m"));
  assert.deepEqual(last(), {
    time: "1970-01-01T00:00:00.000Z",
    level: "error",
    message: "m",
    traceId: "0af7651916cd43dd8448eb211c80319c",
    spanId: "b7ad6b7169203331",
    tenant: "acme",
  });
});

test("a fact cannot take the place of the record's own fields", () => {
  const { logger, last } = written();
  logger.log("info", "m", { level: "fake", time: 5, ["__proto__"]: 1, constructor: 2 });
  const record = last();
  assert.deepEqual([record["level"], record["facts.level"], record["facts.time"], record["constructor"]], ["info", "fake", 5, 2]);
});

test("an error is written with its name, message, stack, cause and own facts", () => {
  const { logger, last } = written();
  const cause = new TypeError("below");
  logger.log("error", "m", { error: Fault.create("queue.full", "full", "wait", { cause, details: { depth: 5n } }) });
  const error = last()["error"] as Record<string, unknown>;
  assert.deepEqual(
    [error["name"], error["message"], error["code"], error["remedy"], error["details"]],
    ["Fault", "full", "queue.full", "wait", { depth: "5" }],
  );
  assert.equal((error["cause"] as Record<string, unknown>)["name"], "TypeError");
  assert.match(error["stack"] as string, /Fault/);
});

test("whatever the facts are, a line comes out that parses and has a bound", () => {
  const { lines, logger, last } = written();
  const cyclic: Record<string, unknown> = { name: "c" };
  cyclic["self"] = cyclic;
  cyclic["list"] = [cyclic];
  const error = new Error("e") as Error & { cause?: unknown };
  error.cause = error;
  let deep: unknown = 1;
  for (let i = 0; i < 10_000; i++) deep = { deep };
  const wide = Array.from({ length: 300 }, () => Array.from({ length: 300 }, () => ({ a: "x".repeat(100) })));
  const hostile: unknown[] = [
    cyclic,
    error,
    { deep },
    { wide },
    new Proxy(
      {},
      {
        ownKeys: () => {
          throw new Error("no keys");
        },
      },
    ),
    {
      get a() {
        throw new Error("no read");
      },
      b: 1,
    },
    {
      toJSON: () => {
        throw new Error("no json");
      },
    },
    { d: new Date(Number.NaN) },
    { d: new Date(0) },
    { n: Number.NaN, i: -Infinity, u: undefined, s: Symbol("s"), f: () => 1, b: 10n },
    new Map([["k", new Set([1])]]),
    Object.create(null),
    [1, 2],
    "text",
    5,
    { bytes: new Uint8Array(1e6) },
    { long: "x".repeat(1e6) },
    {
      get get() {
        throw null;
      },
    },
    new Proxy(new Error("p"), {
      get: () => {
        throw new Error("no");
      },
    }),
  ];
  for (const facts of hostile) logger.log("info", "m", facts as object);

  assert.equal(lines.length, hostile.length);
  for (const line of lines) {
    assert.ok(line.length < 300_000 && !line.includes("\n"), `${line.length} characters`);
    JSON.parse(line);
  }
  assert.equal(logger.lost, 0);
  logger.log("info", "m", cyclic);
  assert.deepEqual([last()["self"], last()["list"]], ["[cyclic]", ["[cyclic]"]]);
  logger.log("info", "m", {
    get a() {
      throw new Error("no read");
    },
    b: 1,
  });
  assert.deepEqual([last()["a"], last()["b"]], ["[unreadable: no read]", 1]);
  logger.log("info", "m", { a: { b: { c: { d: { e: { f: { g: 1 } } } } } } });
  assert.deepEqual(last()["a"], { b: { c: { d: { e: { f: "[deep]" } } } } });
  const shared = { a: 1 };
  logger.log("info", "m", { one: shared, two: shared });
  assert.deepEqual([last()["one"], last()["two"]], [{ a: 1 }, { a: 1 }]);
});

test("a sink that throws loses the record, counted, and not the caller", () => {
  const logger = jsonLogger({
    clock: virtualClock(),
    write: () => {
      throw new Error("EPIPE");
    },
  });
  logger.log("info", "m");
  logger.log("info", "m");
  assert.equal(logger.lost, 2);
});

test("a bound log adds its facts, and takes an error as the facts", () => {
  const { logger, last } = written("debug");
  const log = boundLog(logger, { component: "mail", id: 1 });
  log.debug("m");
  assert.deepEqual([last()["level"], last()["component"], last()["id"]], ["debug", "mail", 1]);
  log.error("m", { id: 2 });
  assert.deepEqual([last()["level"], last()["component"], last()["id"]], ["error", "mail", 2]);
  log.warn("m", new Error("e"));
  assert.equal((last()["error"] as { message: string }).message, "e");
  log.info("m");
  assert.equal(last()["level"], "info");
});

/** A node at its edges: a start that fails half way, transactions beside commits that wait for them, names that every object has. */
import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { z } from "zod";
import { declareComponent, type Component } from "../component/index.ts";
import { aggregate, command } from "../events/index.ts";
import { Fault } from "../kernel/index.ts";
import { records } from "../records/index.ts";
import { get, service } from "../service/index.ts";
import { app } from "./app.ts";
import { start } from "./start.ts";

const counters = records("counters", { key: z.string(), value: z.number() });
const steps = aggregate(
  "steps",
  { id: z.string(), events: { Stepped: z.object({}) }, initial: () => 0, evolve: { Stepped: (n) => n + 1 } },
  { step: command((_n, emit) => emit.Stepped()) },
);
const quiet = { log: () => undefined } as const;

async function withDirectory(work: (directory: string) => Promise<void>): Promise<void> {
  const directory = mkdtempSync(join(tmpdir(), "trestle-edges-"));
  try {
    await work(directory);
  } finally {
    rmSync(directory, { recursive: true });
  }
}

test("[F19] a transaction reads what is durable; it does not wait for commits that wait for it", () =>
  withDirectory(async (directory) => {
    await using node = await start(app("edges", [counters, steps]), { ...quiet, store: `sqlite:${directory}/a.db` });
    await node.open(counters).add("c", 1);
    await node.open(steps).step("s");
    let beside: Promise<unknown> | undefined;

    const seen = await node.transaction({ counters, steps }, async (uses) => {
      beside = Promise.all([node.open(counters).add("c", 1), node.open(steps).step("s")]);
      await new Promise((resolve) => setTimeout(resolve, 5));
      return [await uses.counters.get("c"), await uses.steps.get("s")];
    });
    await beside;

    assert.deepEqual(seen, [1, 1]);
    assert.deepEqual([await node.open(counters).get("c"), await node.open(steps).get("s")], [2, 2]);
  }));

test("a start that fails after its parts have started stops them, and lets go of the store", () =>
  withDirectory(async (directory) => {
    const told: string[] = [];
    const part = declareComponent<Component>("part", "part", {
      annotations: {},
      uses: {},
      edge: "call",
      role: "any",
      part: () => ({
        name: "part",
        start: async () => void told.push("start"),
        drain: async () => void told.push("drain"),
        stop: async () => void told.push("stop"),
      }),
    });
    const taken = createServer().listen(0, "127.0.0.1");
    await new Promise((resolve) => taken.once("listening", resolve));
    const { port } = taken.address() as { port: number };
    const declared = app("edges", [part, service("s", {}, { ping: get("/ping", {}, () => "pong") })]);
    const store = `sqlite:${directory}/a.db` as const;

    await assert.rejects(start(declared, { ...quiet, store, port, host: "127.0.0.1" }), (fault) => Fault.is(fault, "http.port-in-use"));
    taken.close();

    assert.deepEqual(told, ["start", "stop"]);
    await using again = await start(declared, { ...quiet, store, port: 0 });
    assert.notEqual(again.url, "");
  }));

test("a port that is none is refused before anything is opened", async () => {
  for (const port of [-1, 1.5, 70_000, Number.NaN])
    await assert.rejects(
      start(app("edges", [counters]), { ...quiet, store: "memory:", port }),
      (fault) => Fault.is(fault, "http.bad-port") && fault.message.includes(String(port)),
    );
});

test("a service and a setting may be called like what every object has", async () => {
  const odd = service("constructor", {}, { ping: get("/ping", {}, () => ({ pong: true })) });
  await using node = await start(app("edges", [odd]), { ...quiet, store: "memory:", port: 0, settings: {}, services: {} });

  const answer = await node.open(odd).ping();

  assert.ok(answer.ok && (answer.body as { pong: boolean }).pong);
});

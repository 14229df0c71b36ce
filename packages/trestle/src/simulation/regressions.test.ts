import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { pathToFileURL } from "node:url";
import { z } from "zod";
import { app } from "../app/index.ts";
import { Fault } from "../kernel/index.ts";
import { records } from "../records/index.ts";
import { keepRegression, search, type Regression, type SeedResult } from "./index.ts";
import { regressionsIn } from "./regressions.ts";

const folder = mkdtempSync(join(tmpdir(), "trestle-regressions-"));
after(() => rmSync(folder, { recursive: true }));
const fileAt = (name: string): URL => pathToFileURL(join(folder, name));

const found: Regression = { seed: "0x2a", promise: "it holds", plan: [{ atMs: 100, forMs: 50, kind: "pause", host: "node-1" }], clients: 1, times: 2 };

test("what is kept is found again, once for each seed, and where there is no file there is nothing", () => {
  const file = fileAt("kept.seeds.json");
  const before = regressionsIn(file);
  keepRegression(file, { ...found, times: 9 });
  keepRegression(file, { ...found, seed: "0x2b" });
  keepRegression(file, found);

  assert.deepEqual(before, []);
  assert.deepEqual(regressionsIn(file), [{ ...found, seed: "0x2b" }, found]);
});

test("a file that holds something else is refused by name", () => {
  for (const [text, what] of [
    ["{", /is no JSON/],
    ["{}", /holds no list/],
    [JSON.stringify([found, { seed: "0x1", plan: [{ kind: "flood", atMs: 0, forMs: 1 }], clients: 1, times: 1 }]), /at place 2/],
  ] as const) {
    writeFileSync(fileAt("bad.seeds.json"), text);
    assert.throws(
      () => regressionsIn(fileAt("bad.seeds.json")),
      (error) => Fault.is(error, "simulation.bad-regressions") && what.test(error.message),
    );
  }
});

test("seeds that failed once are run first, under the plan that broke them", async () => {
  const notes = records("notes", { key: z.string(), value: z.int() });
  const file = fileAt("first.seeds.json");
  keepRegression(file, found);
  const ran: SeedResult[] = [];
  const run = (regressions: boolean) =>
    search(
      app("notes", [notes]),
      {
        uses: { notes },
        seeds: 1,
        nodes: 1,
        for: "1s",
        regressions: file,
        clients: { count: 2, each: async ({ notes }, chance) => void (await notes.put(chance.id(), 1)) },
      },
      { regressions, onSeed: (result) => void ran.push(result) },
    );

  await run(true);
  await run(false);

  assert.deepEqual(
    ran.map(({ seed }) => seed),
    ["0x2a", "0x1", "0x1"],
  );
  assert.deepEqual(ran[0]?.plan, found.plan);
  assert.equal((ran[0]?.calls.answered ?? 0) + (ran[0]?.calls.failed ?? 0), 2);
});

import assert from "node:assert/strict";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import type { Regression } from "../simulation/index.ts";
import { place } from "./testing/run.ts";

const file = fileURLToPath(new URL("./testing/forgetful.simulation.ts", import.meta.url));

interface Answer {
  readonly scenarios: readonly {
    readonly seeds: number;
    readonly broken?: { readonly seed: string; readonly promise: string; readonly page: string; readonly trace: string; readonly kept?: string };
  }[];
}

test("a seed that breaks a promise is printed, drawn and kept, and from then on it is run first, as small as it got", async () => {
  using here = place();
  const run = async (...args: readonly string[]) => {
    const { code, out, err } = await here.run(["sim", file, "--only", "kept", "--workers", "2", "--json", ...args]);
    assert.equal(code, 1, err);
    return (JSON.parse(out) as Answer).scenarios[0];
  };
  const inFile = () => JSON.parse(readFileSync(join(here.folder, "kept.seeds.json"), "utf8")) as Regression[];

  const first = await run("--seed", "0x5", "--keep");
  const after = inFile();
  const again = await run("--seeds", "1");

  assert.equal(first?.broken?.promise, "nothing was written down");
  assert.equal(first?.broken?.kept, join(here.folder, "kept.seeds.json"));
  assert.ok(existsSync(join(here.folder, first.broken.page)) || existsSync(first.broken.page));
  assert.deepEqual(
    after.map(({ seed, promise, plan }) => [seed, promise, plan]),
    [["0x5", "nothing was written down", []]],
  );
  assert.equal(again?.broken?.seed, "0x5");
  assert.equal(again?.seeds, 1);
});

test("to keep seeds a scenario has to name a file", async () => {
  using here = place();

  const { code, err } = await here.run(["sim", file, "--only", "unkept", "--seeds", "1", "--keep"]);

  assert.notEqual(code, 0);
  assert.match(err, /--keep needs a file to keep seeds in, and unkept names none/);
  assert.match(err, /Give the scenario `regressions`/);
});

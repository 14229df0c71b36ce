import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { test } from "node:test";

test("the example of the kernel's README runs", () => {
  const readme = readFileSync(new URL("./README.md", import.meta.url), "utf8");
  const example = /```ts\n([\s\S]*?)```/.exec(readme)?.[1];
  assert.ok(example);
  const script = example.replace('"trestle/kernel"', JSON.stringify(new URL("./index.ts", import.meta.url).href));
  const run = spawnSync(process.execPath, ["--input-type=module-typescript", "--eval", script], { encoding: "utf8", timeout: 20_000 });
  assert.equal(run.status, 0, run.stderr);
  assert.match(run.stderr, /^\{"time":".*","level":"info","message":"stopped"\}$/m);
});

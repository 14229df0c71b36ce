import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { test } from "node:test";

test("the example of the README of resilience runs", () => {
  const readme = readFileSync(new URL("./README.md", import.meta.url), "utf8");
  const example = /```ts run\n([\s\S]*?)```/.exec(readme)?.[1];
  assert.ok(example);
  const script = `${example.replace(/"(\.[^"]*\.ts)"/g, (_, path: string) => JSON.stringify(new URL(path, import.meta.url).href))}\nprocess.stdout.write(answer);`;
  const run = spawnSync(process.execPath, ["--input-type=module-typescript", "--eval", script], { encoding: "utf8", timeout: 20_000 });
  assert.equal(run.status, 0, run.stderr);
  assert.equal(run.stdout, "answer 1 false true");
});

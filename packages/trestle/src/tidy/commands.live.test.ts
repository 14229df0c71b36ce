/**
 * The commands of the repository, tried on a small repository made for it: the same scripts, the same installed packages.
 *
 * Runs alone: it bounds what set-up costs when there is nothing to do.
 */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { cpSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { read, root } from "./repository.ts";

interface Results {
  readonly passed: number;
  readonly failed: number;
  readonly skipped: number;
  readonly files: Readonly<
    Record<string, { readonly tests: readonly { readonly name: string; readonly status: string; readonly reason?: string; readonly error?: string }[] }>
  >;
}

/** A repository with these test files, in packages/small/src. */
function smallRepository(files: Readonly<Record<string, string>>): Disposable & { readonly folder: string } {
  const folder = mkdtempSync(join(tmpdir(), "trestle-commands-"));
  cpSync(join(root, "scripts"), join(folder, "scripts"), { recursive: true });
  for (const file of ["package.json", "package-lock.json"]) cpSync(join(root, file), join(folder, file));
  symlinkSync(join(root, "node_modules"), join(folder, "node_modules"));
  mkdirSync(join(folder, "packages", "small", "src"), { recursive: true });
  for (const [name, text] of Object.entries(files)) writeFileSync(join(folder, "packages", "small", "src", name), text);
  return { folder, [Symbol.dispose]: () => rmSync(folder, { recursive: true, force: true }) };
}

function script(folder: string, name: string, ...args: readonly string[]): { status: number | null; stdout: string; stderr: string } {
  return spawnSync(process.execPath, [join(folder, "scripts", name), ...args], { cwd: folder, encoding: "utf8", env: { ...process.env, CI: "1" } });
}

const imports = 'import assert from "node:assert/strict";\nimport { describe, test } from "node:test";\n';

test("a test run tells passed, failed and skipped apart, with the reason of each skip and one summary line at the end", () => {
  using small = smallRepository({
    "good.test.ts": `${imports}describe("a group", () => { test("[MSG-12] holds what it says", () => {}); });\ntest("needs a tool", { skip: "no chromium" }, () => {});\n`,
    "bad.test.ts": `${imports}test("cannot hold", () => assert.equal(1, 2));\n`,
  });

  const { status, stdout, stderr } = script(small.folder, "test.mjs", "small/");

  assert.equal(status, 1);
  assert.equal(stdout.trimEnd().split("\n").at(-1), "1 passed, 1 failed, 1 skipped");
  assert.match(stdout, /skipped 1, no chromium:\n {2}packages\/small\/src\/good\.test\.ts › needs a tool/);
  assert.match(stderr, /✗ packages\/small\/src\/bad\.test\.ts:3 › cannot hold/);
  assert.match(stderr, /replay: npm test -- packages\/small\/src\/bad\.test\.ts/);
  assert.match(stderr, /1 !== 2/);
});

test("what only looks like a pass is a failure: no test, an early end, an endless wait left behind, a skip without a reason", () => {
  using small = smallRepository({
    "empty.test.ts": "export {};\n",
    "ends.test.ts": `${imports}test("ends the process with success", () => process.exit(0));\n`,
    "leaves.test.ts": `${imports}import { spawn } from "node:child_process";\ntest("leaves a process behind", () => spawn("sleep", ["60"], { stdio: "ignore" }).unref());\n`,
    "silent.test.ts": `${imports}test("is skipped in silence", { skip: true }, () => {});\ntest("is left for later", { todo: true }, () => {});\n`,
    "broken.test.ts": 'import "./nowhere.ts";\n',
    "late.test.ts": `${imports}test("throws after its end", () => void setTimeout(() => { throw new Error("late"); }, 20));\ntest("is still running then", () => new Promise((resolve) => setTimeout(resolve, 100)));\n`,
  });

  const { status, stdout } = script(small.folder, "test.mjs", "--json", "small/");
  const { files, failed } = JSON.parse(stdout) as Results;
  const errors = (name: string) => files[`packages/small/src/${name}.test.ts`]?.tests.filter((one) => one.status === "failed").map((one) => one.error ?? "");

  assert.equal(status, 1);
  assert.equal(failed, 7);
  assert.match(errors("empty")?.[0] ?? "", /ended before its tests did|holds no test/);
  assert.match(errors("ends")?.[0] ?? "", /ended before its tests did/);
  assert.match(errors("leaves")?.[0] ?? "", /left processes running: \d+ sleep 60/);
  assert.match(errors("silent")?.join() ?? "", /skipped without a reason.*marked todo/);
  assert.match(errors("broken")?.[0] ?? "", /ended before its tests did: exit code 1/);
  assert.match(errors("late")?.[0] ?? "", /late/);
});

test("live files run side by side, and one that says so in its header runs alone after them", () => {
  // Each says that it is there, looks for the others, and stays for a while.
  const beside = (name: string, sees: string) =>
    `${imports}import { existsSync, rmSync, writeFileSync } from "node:fs";
const at = (name: string) => new URL("./" + name + ".here", import.meta.url);
const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));
test("${name} meets whom it should", async () => {
  writeFileSync(at("${name}"), "");
  ${sees}
  await pause(500);
  rmSync(at("${name}"));
});
`;
  const meets = (name: string) => `for (let looks = 0; !existsSync(at("${name}")); looks++) await pause(looks < 500 ? 20 : assert.fail("nobody came"));`;
  using small = smallRepository({
    "one.live.test.ts": beside("one", meets("two")),
    "two.live.test.ts": beside("two", meets("one")),
    "alone.live.test.ts": `/**\n * A file.\n *\n * Runs alone: it measures.\n */\n${beside("alone", 'await pause(200); assert.ok(!existsSync(at("one")) && !existsSync(at("two")), "somebody is there");')}`,
    "quick.test.ts": `${imports}import { existsSync } from "node:fs";\ntest("comes before", () => assert.ok(!existsSync(new URL("./alone.here", import.meta.url))));\n`,
  });

  const { status, stdout, stderr } = script(small.folder, "test.mjs", "small/");

  assert.equal(status, 0, stderr);
  assert.equal(stdout.trimEnd().split("\n").at(-1), "4 passed, 0 failed, 0 skipped");
});

test("a run that finds no test fails", () => {
  using small = smallRepository({});

  const { status, stdout } = script(small.folder, "test.mjs", "no-such-file");

  assert.equal(status, 1);
  assert.equal(stdout.trim(), "0 passed, 1 failed, 0 skipped");
});

test("a run of some files keeps the results of the others, and rows are counted from them", () => {
  using small = smallRepository({
    "one.test.ts": `${imports}test("[MSG-12] [F6] holds the first promise", () => {});\ntest("[MSG-13] does not hold", () => assert.fail());\n`,
    "two.test.ts": `${imports}test("[MSG-12] holds the second promise", () => {});\ntest("[MSG-13] holds in part", () => {});\ntest("[MSG-14] cannot be tried", { skip: "no tool" }, () => {});\n`,
  });

  const before = script(small.folder, "rows.mjs");
  script(small.folder, "test.mjs", "one.test");
  const half = script(small.folder, "rows.mjs", "--json");
  script(small.folder, "test.mjs", "two.test");
  const whole = script(small.folder, "rows.mjs", "--json");
  writeFileSync(join(small.folder, "packages", "small", "src", "one.ts"), "export {};\n");
  const stale = script(small.folder, "rows.mjs");

  assert.equal(before.status, 1);
  assert.match(before.stderr, /There are no results yet/);
  assert.match(half.stderr, /1 test files have no result/);
  assert.deepEqual(JSON.parse(whole.stdout), {
    rows: {
      "MSG-12": [
        "packages/small/src/one.test.ts › [MSG-12] [F6] holds the first promise",
        "packages/small/src/two.test.ts › [MSG-12] holds the second promise",
      ],
    },
    stale: false,
  });
  assert.match(stale.stderr, /1 sources changed since the tests ran/);
});

test("set-up costs less than 30 ms when there is nothing to do", () => {
  // What else the machine does makes a try longer, and never shorter: one short try shows what it costs, and where it costs more no try is short.
  const times: number[] = [];
  do times.push(Number.parseFloat(script(root, "setup.mjs", "--time").stdout));
  while (!((times.at(-1) as number) < 30) && times.length < 100);

  assert.ok((times.at(-1) as number) < 30, `took ${times.join(", ")} ms`);
});

test("the lockfile names every platform package, so that npm ci works on each platform", () => {
  const { status, stdout } = script(root, "complete-lock.mjs", "--check");

  assert.equal(status, 0, `node scripts/complete-lock.mjs adds what npm left out:\n${stdout}`);
});

test("the lockfile names no registry, and each package that runs here has an integrity hash", () => {
  const { packages } = JSON.parse(read("package-lock.json")) as {
    packages: Record<string, { resolved?: string; integrity?: string; link?: boolean; optional?: boolean }>;
  };
  const installed = Object.entries(packages).filter(([path, { link }]) => path.includes("node_modules/") && !link);

  assert.ok(installed.length >= 50);
  assert.deepEqual(
    installed.filter(([, { resolved }]) => resolved !== undefined).map(([path]) => path),
    [],
  );
  assert.deepEqual(
    installed.filter(([, { integrity, optional }]) => integrity === undefined && !optional).map(([path]) => path),
    [],
  );
});

test("an unknown benchmark is answered with the list of those that exist", () => {
  const { status, stderr } = script(root, "bench.mjs", "no-such-subject");

  assert.equal(status, 64);
  assert.match(stderr, /the subject must be one of .+, got "no-such-subject"/);
});

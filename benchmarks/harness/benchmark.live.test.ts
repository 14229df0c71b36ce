// Runs alone: it bounds what a benchmark measures.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { test } from "node:test";

interface Result {
  readonly subject: string;
  readonly machine: Readonly<Record<string, unknown>>;
  readonly variants: readonly { readonly name: string; readonly opsPerSec: number; readonly p50Ms: number; readonly p99Ms: number }[];
  readonly ratios: Readonly<Record<string, number>>;
}
const folder = fileURLToPath(new URL("..", import.meta.url));

function bench(path: string, ...options: readonly string[]): Promise<{ readonly stdout: string; readonly stderr: string; readonly code: number | null }> {
  return new Promise((resolve) => {
    const child = spawn(process.execPath, ["--disable-warning=ExperimentalWarning", `${folder}${path}/bench.ts`, ...options], {
      stdio: ["ignore", "pipe", "pipe"],
    });
    let [stdout, stderr] = ["", ""];
    child.stdout.on("data", (text: Buffer) => (stdout += String(text)));
    child.stderr.on("data", (text: Buffer) => (stderr += String(text)));
    child.on("close", (code) => resolve({ stdout, stderr, code }));
  });
}

test("--json prints one object: subject, machine, variants with their load, ratios by name; progress and skips go to stderr", async () => {
  const { stdout, stderr, code } = await bench("harness/sample", "--json", "--rounds", "2", "--seconds", "0.2");

  const result = JSON.parse(stdout) as Result;
  assert.deepEqual(Object.keys(result), ["subject", "machine", "variants", "ratios"]);
  assert.deepEqual(
    result.variants.map((variant) => Object.keys(variant)),
    Array(3).fill(["name", "opsPerSec", "p50Ms", "p99Ms"]),
  );
  assert.deepEqual(
    result.variants.map(({ name }) => name),
    ["quick@1", "quick@4", "slow@4"],
  );
  assert.deepEqual(Object.keys(result.ratios), ["slow/quick@4", "slow/quick@4 p50Ms"]);
  assert.match(stderr, /round 2\/2 +quick@4/);
  assert.match(stderr, /skipped: a third timer/);
  assert.equal(code, 0);
});

test("the figures are what the variants did, and --check answers a missed bar with exit code 1", async () => {
  const { stdout, code } = await bench("harness/sample", "--check", "--rounds", "1", "--seconds", "0.3");

  const slow = Number(/slow@4 +(\d+)/.exec(stdout)?.[1]);
  assert.ok(slow > 100 && slow <= 400, `4 callers that wait 10 ms each: ${slow} a second`);
  assert.match(stdout, /MISSED slow\/quick@4 = 0\.\d+, bar >= 0\.9/);
  assert.match(stdout, /met +slow\/quick@4 p50Ms = \d+\.?\d*, bar >= 2/);
  assert.equal(code, 1);
});

// Those that compare variants; `soak` and `catch-up` are runs of another shape, with options of their own.
const sourceOf = (name: string) => readFileSync(`${folder}${name}/bench.ts`, "utf8");
const subjects = readdirSync(folder).filter((name) => existsSync(`${folder}${name}/bench.ts`) && sourceOf(name).includes("runBenchmark("));
for (const subject of subjects) {
  test(`npm run bench -- ${subject} measures each of its variants`, { timeout: 120_000 }, async () => {
    const { stdout, stderr } = await bench(
      subject,
      "--json",
      "--rounds",
      "1",
      "--seconds",
      "0.3",
      ...(sourceOf(subject).includes("loads: [1") ? ["--load", "1"] : []),
    );

    assert.notEqual(stdout, "", stderr);
    const result = JSON.parse(stdout) as Result;
    assert.equal(result.subject, subject);
    if (/^skipped/m.test(stderr)) return;
    assert.ok(result.variants.length >= 2 && Object.keys(result.ratios).length >= 1, stdout);
    for (const { name, opsPerSec, p50Ms, p99Ms } of result.variants) assert.ok(opsPerSec > 0 && p50Ms > 0 && p99Ms >= p50Ms, name);
  });
}

test("every subject was looked at", () => {
  for (const subject of ["commit", "http", "queue", "startup"]) assert.ok(subjects.includes(subject), subject);
});

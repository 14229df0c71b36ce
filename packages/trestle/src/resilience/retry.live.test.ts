import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { test } from "node:test";

const script = (work: string) => `import { deadline, pipeline, retry } from ${JSON.stringify(new URL("./index.ts", import.meta.url).href)};
  import { timingWheel, systemClock } from ${JSON.stringify(new URL("../kernel/index.ts", import.meta.url).href)};
  let attempts = 0;
  const fails = async () => { if (++attempts < 3) throw new Error("down"); return "answered after " + attempts; };
  const never = () => new Promise(() => {});
  ${work}`;
const run = (work: string) => spawnSync(process.execPath, ["--input-type=module", "--eval", script(work)], { encoding: "utf8", timeout: 60_000 });

for (const [name, options] of [
  ["the system clock", "{}"],
  ["a timing wheel", "{ clock: timingWheel(systemClock) }"],
] as const)
  test(`[RES-04] a process that waits for nothing but a retry lives on until it is answered (${name})`, () => {
    const { status, stdout, stderr } = run(
      `process.stdout.write(await pipeline(${options}, deadline("30s"), retry({ attempts: 3, from: 60, jitter: "none" }))(fails));`,
    );
    assert.deepEqual([status, stdout], [0, "answered after 3"], stderr);
  });

test("a limit of time, and a wait between attempts that was aborted, do not keep a process alive", () => {
  // 13: Node's exit code of a process that ends while a top-level await is open.
  assert.equal(run(`await pipeline(deadline("50s"))(never);`).status, 13);
  const { status, stderr } = run(`
    const caller = new AbortController();
    const call = retry({ from: "50s", jitter: "none" })(() => { throw new Error("down"); }, { signal: caller.signal });
    caller.abort(new Error("gone"));
    await call.catch(() => {});`);
  assert.equal(status, 0, stderr);
});

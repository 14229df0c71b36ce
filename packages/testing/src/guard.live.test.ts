/** Nothing of what a test process started outlives it, however it ends; and two of them do not disturb each other. */
import assert from "node:assert/strict";
import { spawn, spawnSync, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { isAlive, processTree } from "./process-tree.ts";
import { missing } from "./servers.ts";

const skip = await missing("postgres", { managed: true });

interface Started {
  readonly home: string;
  readonly pid: number;
  readonly url: string;
  /** Its segment of shared memory. */
  readonly segment: string;
}

/** A process that starts a PostgreSQL, says where, and does what `then` says. */
async function testProcess(
  then: "waits" | "ends" | "throws",
): Promise<{ readonly child: ChildProcess; readonly started: Started; readonly tree: readonly number[] }> {
  const child = spawn(process.execPath, [fileURLToPath(new URL("./testing/starts-a-server.ts", import.meta.url)), then], {
    stdio: ["pipe", "pipe", "inherit"],
  });
  const started = JSON.parse(String((await once(child.stdout as NodeJS.ReadableStream, "data"))[0])) as Started;
  return { child, started, tree: processTree(started.pid) };
}

const segments = () => spawnSync("ipcs", ["-m"], { encoding: "utf8" }).stdout.split(/\s+/);

async function isGone({ home }: Started, tree: readonly number[]): Promise<void> {
  for (const from = performance.now(); existsSync(home) || tree.some(isAlive); await sleep(10))
    assert.ok(performance.now() - from < 10_000, `left behind: ${existsSync(home) ? home : ""} ${tree.filter(isAlive).join(" ")}`);
}

for (const [how, then, end] of [
  ["is killed with -9", "waits", (child: ChildProcess) => child.kill("SIGKILL")],
  ["is killed while its server is paused", "waits", (child: ChildProcess) => child.stdin?.write("pause\n")],
  ["gets a SIGTERM", "waits", (child: ChildProcess) => child.kill("SIGTERM")],
  ["ends and forgot to close it", "ends", (child: ChildProcess) => child.stdin?.write("go\n")],
  ["throws", "throws", (child: ChildProcess) => child.stdin?.write("go\n")],
] as const) {
  test(`a test process that ${how} leaves no server, no file and no shared memory behind`, { skip }, async () => {
    const { child, started, tree } = await testProcess(then);

    const before = segments().includes(started.segment);

    const exit = once(child, "exit");
    end(child);
    await exit;

    await isGone(started, tree);
    assert.ok(tree.length > 3, "it had children");
    assert.deepEqual([before, segments().includes(started.segment)], [true, false], "its segment of shared memory");
  });
}

test("two test processes at once have servers of their own, and the end of one is nothing to the other", { skip }, async () => {
  const [one, two] = await Promise.all([testProcess("waits"), testProcess("waits")]);

  const exit = once(one.child, "exit");
  one.child.kill("SIGKILL");
  await exit;
  await isGone(one.started, one.tree);

  assert.notEqual(one.started.url, two.started.url);
  assert.ok(two.tree.every(isAlive) && existsSync(two.started.home));
  two.child.kill("SIGKILL");
  await isGone(two.started, two.tree);
});

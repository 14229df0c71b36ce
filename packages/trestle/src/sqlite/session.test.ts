import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { test } from "node:test";
import { systemRandom } from "../kernel/index.ts";
import { isGone, newSession } from "./session.ts";

test("a process id that nobody has any more is that of a process that is gone; one behind another pid namespace may live", () => {
  const { pid: ended } = spawnSync(process.execPath, ["--version"]);
  const own = newSession(systemRandom, process.pid, "1");

  assert.equal(isGone(own, own), false);
  assert.equal(isGone(newSession(systemRandom, process.ppid, "1"), own), false);
  assert.equal(isGone(newSession(systemRandom, ended, "1"), own), true);
  assert.equal(isGone(newSession(systemRandom, process.pid, "1"), own), true, "ours, of an earlier opening");
  assert.equal(isGone(newSession(systemRandom, ended, "2"), own), false);
  assert.equal(isGone(newSession(systemRandom, process.pid, "2"), own), false);
  assert.equal(isGone("", own), true, "a holder of a store that one process opened alone");
});

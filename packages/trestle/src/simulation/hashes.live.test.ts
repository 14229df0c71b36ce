import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { otherNode } from "./testing/other-node.ts";

const program = fileURLToPath(new URL("./testing/hashes.ts", import.meta.url));
const run = (node: string, ...args: readonly string[]) =>
  spawnSync(node, ["--disable-warning=ExperimentalWarning", program, ...args], {
    encoding: "utf8",
    env: { ...process.env, NODE_DISABLE_COMPILE_CACHE: "1" },
    maxBuffer: 1 << 28,
  });

const other = otherNode(26);

test("seeds come to the same hashes on Node 26", { skip: other.path === undefined ? other.reason : false, timeout: 300_000 }, () => {
  const { status, stdout, stderr } = run(other.path as string, "--check");

  // Exit code 1 without a line is a crash.
  assert.ok(status === 0 || stdout !== "", stderr);
  const different = stdout.split("\n").filter((line) => line !== "");
  assert.deepEqual(
    different,
    [],
    different[0] === undefined ? "" : `${process.version} and Node 26 go apart in ${firstDifference(different[0].split(":")[0] as string)}`,
  );
});

function firstDifference(path: string): string {
  const [here, there] = [process.execPath, other.path as string].map((node) => run(node, "--trace", path).stdout.split("\n")) as [string[], string[]];
  const at = here.findIndex((line, n) => line !== there[n]);
  return at < 0
    ? `${path}, between its events`
    : `${path}, at event ${at + 1}: ${here[at]}; then ${there[at] ?? "nothing"}; before it: ${here[at - 1] ?? "nothing"}`;
}

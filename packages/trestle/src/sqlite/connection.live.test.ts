/** How much a store's connection keeps in memory, by what its process may have. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { test } from "node:test";

function cacheMb(...flags: readonly string[]): number {
  const program = `
    import { openForWriting } from ${JSON.stringify(new URL("./connection.ts", import.meta.url).href)};
    const db = openForWriting(":memory:", "full");
    console.log(-db.prepare("pragma cache_size").get().cache_size / 1024);`;
  const args = ["--disable-warning=ExperimentalWarning", ...flags, "--input-type=module", "--eval", program];
  return Number(execFileSync(process.execPath, args, { encoding: "utf8", timeout: 20_000 }));
}

test("the cache of a process that was given little memory is small", () => {
  const [plain, small] = [cacheMb("--max-old-space-size=2048"), cacheMb("--max-old-space-size=256", "--max-semi-space-size=8")];

  assert.equal(plain, 64);
  assert.ok(small >= 30 && small <= 36, `${small} MB`);
});

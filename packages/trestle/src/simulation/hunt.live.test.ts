import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

test("a fault that is put into a copy of the code is found, and the seed that found it is told", { timeout: 120_000 }, () => {
  const hunt = fileURLToPath(new URL("./testing/hunt.ts", import.meta.url));

  const answer = execFileSync(process.execPath, ["--disable-warning=ExperimentalWarning", hunt, "--only", "acknowledged-before", "--seeds", "400", "--json"], {
    encoding: "utf8",
    stdio: ["ignore", "pipe", "ignore"],
  });

  const { hunted } = JSON.parse(answer) as { readonly hunted: readonly { readonly caughtBy?: string; readonly seed: number; readonly ran: number }[] };
  assert.equal(hunted.length, 1);
  assert.ok(hunted[0]?.caughtBy !== undefined && hunted[0].seed > 0 && hunted[0].ran >= hunted[0].seed);
});

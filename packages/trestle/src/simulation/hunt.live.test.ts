import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

test("every fault that is kept can be put into the code as it is", () => {
  const folder = fileURLToPath(new URL("./testing/mutants/", import.meta.url));
  const patches = readdirSync(folder).filter((name) => name.endsWith(".patch"));
  const root = fileURLToPath(new URL("../../../../", import.meta.url));

  const applied = patches.map((name) => ({ name, ...spawnSync("git", ["apply", "--check", join(folder, name)], { cwd: root, encoding: "utf8" }) }));

  assert.ok(patches.length > 70);
  assert.deepEqual(
    applied.filter(({ status }) => status !== 0).map(({ name, stderr }) => `${name}: ${stderr}`),
    [],
  );
});

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

test("a fault that names tests is found by one of these, or gets away", { timeout: 120_000 }, (t) => {
  const testing = new URL("./testing/", import.meta.url);
  const patch = readFileSync(new URL("mutants/postgres-life-not-compared.patch", testing), "utf8");
  const folder = mkdtempSync(join(tmpdir(), "trestle-hunt-"));
  t.after(() => rmSync(folder, { recursive: true }));
  for (const file of ["barrier", "statement-text"])
    writeFileSync(join(folder, `by-${file}.patch`), patch.replace(/^Tests:.*\nNamed:.*$/m, `Tests: packages/postgres/src/${file}.test.ts`));

  const { status, stdout } = spawnSync(process.execPath, [fileURLToPath(new URL("hunt.ts", testing)), "--mutants", folder, "--json"], { encoding: "utf8" });

  const { hunted } = JSON.parse(stdout) as { readonly hunted: readonly { readonly about: string; readonly caughtBy?: string; readonly ran: number }[] };
  assert.equal(status, 1, "one got away");
  assert.deepEqual(
    hunted.map(({ caughtBy }) => caughtBy),
    ["packages/postgres/src/barrier.test.ts", undefined],
  );
  assert.ok(hunted.every(({ about, ran }) => /^A flush is believed[^\n]*$/.test(about) && ran > 1));
});

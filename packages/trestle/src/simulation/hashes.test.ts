import assert from "node:assert/strict";
import { test } from "node:test";
import { differences, hashesListed, hashesNow } from "./testing/hashes.ts";

test("a seed comes to the hash that is listed for it, whatever process, machine and Node it runs on", async () => {
  const listed = hashesListed();

  const different = differences(listed, await hashesNow());

  const scenarios = Object.values(listed).flatMap((ofFile) => Object.values(ofFile));
  assert.ok(scenarios.length >= 20, `hashes.json lists ${scenarios.length} scenarios`);
  assert.equal(
    different.length,
    0,
    [
      "traces differ from hashes.json.",
      "If the simulator, a scenario or the code under them was changed, that is why: run `npm run hashes` and commit the list with the change.",
      "If nothing was, something is decided by what the seed does not decide:",
      ...different.map((line) => `  ${line}`),
      `  node packages/trestle/src/simulation/testing/hashes.ts --trace ${different[0]?.split(":")[0]} prints each event`,
    ].join("\n"),
  );
});

test("the list is compared in both directions: another hash, one that is gone, one that is not listed", () => {
  const before = { "a.ts": { one: { "0x1": "1 events, aa", "0x2": "2 events, bb" } } };
  const now = { "a.ts": { one: { "0x1": "1 events, ab", "0x3": "2 events, bb" } } };

  assert.deepEqual(differences(before, now), [
    "a.ts/one/0x1: 1 events, aa; now 1 events, ab",
    "a.ts/one/0x2: 2 events, bb; now gone",
    "a.ts/one/0x3: not listed; now 2 events, bb",
  ]);
  assert.deepEqual(differences(now, now), []);
});

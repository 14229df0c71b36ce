import assert from "node:assert/strict";
import { test } from "node:test";
import linearizable from "./linearizable.ts";
import listAppend from "./list-append.ts";

for (const [name, variant] of Object.entries({ linearizable, "list-append": listAppend }))
  test(`the measurement of ${name} makes a history that keeps its promises, and says what a check of it takes`, async () => {
    const { opsPerSec, p50Ms, p99Ms } = await variant({ load: 2_000, seconds: 0, scratch: "" });

    assert.ok(opsPerSec > 0 && p50Ms > 0 && p99Ms >= p50Ms);
  });

import assert from "node:assert/strict";
import { test } from "node:test";
import { heartbeat, main, reports } from "./heartbeat.ts";

test("a tick is made once, at its time, and leaves its report in the same commit", async () => {
  await using node = await main({ store: "memory:" });

  await new Promise((resolve) => setTimeout(resolve, 2_600));
  const { items } = await node.open(reports).list({ limit: 10 });

  assert.equal(heartbeat.kind, "schedule");
  assert.equal(items.length >= 2 && items.length <= 3, true, JSON.stringify(items));
  assert.equal(new Set(items.map(({ due }) => due)).size, items.length);
  assert.deepEqual(
    items.map(({ missed }) => missed),
    items.map(() => 0),
  );
});

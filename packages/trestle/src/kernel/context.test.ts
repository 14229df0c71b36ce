import assert from "node:assert/strict";
import { test } from "node:test";
import { currentContext, emptyContext, remainingMs, virtualClock, withContext } from "./index.ts";

test("what surrounds an invocation follows it through awaits and leaves with it", async () => {
  const seen = await withContext({ tenant: "acme", attempt: 2 }, async () => {
    await Promise.resolve();
    return withContext({ priority: "high" }, async () => {
      await Promise.resolve();
      return currentContext();
    });
  });

  assert.deepEqual(seen, { ...emptyContext, tenant: "acme", attempt: 2, priority: "high" });
  assert.equal(currentContext(), emptyContext);
});

test("invocations beside each other do not see each other's context", async () => {
  const tenants = await Promise.all(
    ["a", "b", "c"].map((tenant) =>
      withContext({ tenant }, async () => {
        await new Promise((resolve) => setImmediate(resolve));
        return currentContext().tenant;
      }),
    ),
  );
  assert.deepEqual(tenants, ["a", "b", "c"]);
});

test("the rest of a deadline shrinks with the clock, ends at 0, and is infinite without one", async () => {
  const clock = virtualClock();
  await withContext({ deadlineMs: 50 }, async () => {
    assert.equal(remainingMs(clock), 50);
    await clock.advance(30);
    assert.equal(remainingMs(clock), 20);
    await clock.advance(30);
    assert.equal(remainingMs(clock), 0);
  });
  assert.equal(remainingMs(clock), Infinity);
});

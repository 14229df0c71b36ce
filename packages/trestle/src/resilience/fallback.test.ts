import assert from "node:assert/strict";
import { test } from "node:test";
import { Fault, virtualClock } from "../kernel/index.ts";
import { fallback, lastGood } from "./index.ts";

const down = () => {
  throw new Error("down");
};

test("a fallback answers when what was wanted cannot be had, and says why it could not when it fails itself", async () => {
  assert.equal(
    await fallback(
      async () => 1,
      () => 2,
    ),
    1,
  );
  assert.equal(await fallback(down, (thrown) => (thrown as Error).message), "down");
  await assert.rejects(
    fallback(down, () => {
      throw new Error("neither");
    }),
    (thrown: Error) => thrown.message === "neither" && (thrown.cause as Error).message === "down",
  );
  const same = new Error("same");
  await assert.rejects(
    fallback(
      () => Promise.reject(same),
      (thrown) => Promise.reject(thrown as Error),
    ),
    (thrown: Error) => thrown === same && thrown.cause === undefined,
  );
});

test("the last good answer of a key stands in for a failure while it is young enough", async () => {
  const clock = virtualClock();
  const prices = lastGood<number>({ for: "5m", keys: 10, clock });
  assert.deepEqual(await prices("a", () => 1), { value: 1, stale: false, ageMs: 0 });
  await clock.advance(60_000);
  assert.deepEqual(await prices("a", down), { value: 1, stale: true, ageMs: 60_000 });
  await assert.rejects(prices("b", down), /down/);
  await clock.advance(240_001);
  await assert.rejects(prices("a", down), /down/);

  await prices("kept", () => 1);
  for (let i = 0; i < 100; i++) await prices(`key ${i}`, () => i);
  await assert.rejects(prices("kept", down), /down/, "at most so many keys");
  for (const options of [{ for: 0 }, { for: "5m" as const, keys: 0 }, { for: "5m" as const, keys: Number.NaN }])
    assert.throws(
      () => lastGood(options),
      (thrown: unknown) => Fault.is(thrown, "option.out-of-range"),
    );
});

test("an old answer does not stand in for a refusal: who is told no is told no", async () => {
  const clock = virtualClock();
  const refusing = (status: number) => () => Promise.reject(Object.assign(new Error(`answered ${status}`), { status }));
  const kept = lastGood<string>({ for: "5m", clock });
  await kept("ada", () => "hers");

  for (const status of [401, 403, 404, 410]) await assert.rejects(kept("ada", refusing(status)), new RegExp(`answered ${status}`));
  for (const status of [429, 500, 503]) assert.equal((await kept("ada", refusing(status))).stale, true);
  const whatever = lastGood<string>({ for: "5m", clock, when: () => true });
  await whatever("ada", () => "hers");
  assert.equal((await whatever("ada", refusing(404))).value, "hers");
});

/** The same cases every engine is held to, for the part of the port that is proved here. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { commitCases, queueCases } from "trestle/conformance";
import { Fault, systemClock, systemRandom, uuidv7Ids, virtualClock } from "trestle/kernel";
import { bytes, commitOf, fixture } from "./testing/fixture.ts";

const postgres = await fixture();
const ids = uuidv7Ids(systemClock, systemRandom);
let store: Awaited<ReturnType<typeof postgres.open>> | undefined;

for (const { name, guarantee, run } of commitCases) {
  test(`${name} (postgres, ${guarantee})`, { skip: postgres.skip }, async () => {
    store ??= await postgres.open();
    await run({ store, ids });
  });
}

for (const { name, guarantee, run } of queueCases) {
  test(`${name} (postgres, ${guarantee})`, { skip: postgres.skip }, async () => {
    const clock = virtualClock();
    const store = await postgres.open(undefined, { time: clock });
    await run({ store, clock, ids: uuidv7Ids(clock, systemRandom) });
  });
}

test("what this engine does not do yet is a fault that says so, and nothing of the commit is applied", { skip: postgres.skip }, async () => {
  const own = await postgres.open();
  const beyond = commitOf([
    { kind: "put", key: "k", value: bytes("1") },
    { kind: "sql", statement: { text: "select 1", parameters: [] } },
  ]);

  await assert.rejects(own.commit(beyond), (error) => Fault.is(error, "postgres.beyond-the-proof"));

  assert.deepEqual(await own.read.records(["k"]), [undefined]);
});

/** The same cases every engine is held to, for the part of the port that is proved here. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { commitCases } from "trestle/conformance";
import { Fault, systemClock, systemRandom, uuidv7Ids } from "trestle/kernel";
import { bytes, commitOf, fixture, newId } from "./testing/fixture.ts";

const postgres = await fixture();
const ids = uuidv7Ids(systemClock, systemRandom);
let store: Awaited<ReturnType<typeof postgres.open>> | undefined;

for (const { name, guarantee, run } of commitCases) {
  test(`${name} (postgres, ${guarantee})`, { skip: postgres.skip }, async () => {
    store ??= await postgres.open();
    await run({ store, ids });
  });
}

test("what the proof leaves out is a fault that says so, and nothing of the commit is applied", { skip: postgres.skip }, async () => {
  const own = await postgres.open();
  const fence = { epoch: 1, n: 1 };
  const beyond = [
    commitOf([
      { kind: "put", key: "k", value: bytes("1") },
      { kind: "finish", job: newId(), fence, end: { kind: "done" } },
    ]),
    commitOf([{ kind: "put", key: "k", value: bytes("1") }], [{ kind: "claim", job: newId(), fence }]),
    commitOf([
      { kind: "put", key: "k", value: bytes("1") },
      { kind: "sql", statement: { text: "select 1", parameters: [] } },
    ]),
  ];

  for (const commit of beyond) await assert.rejects(own.commit(commit), (error) => Fault.is(error, "postgres.beyond-the-proof"));

  assert.deepEqual(await own.read.records(["k"]), [undefined]);
});

/** The same cases every engine is held to, on a real server, by a clock that the cases move. */
import { test } from "node:test";
import { commitCases, logCases, queueCases, recordCases, sqlCases, tokenCases, transactionCases, type Case, type StoreSubject } from "trestle/conformance";
import { seededRandom, uuidv7Ids, virtualClock } from "trestle/kernel";
import { fixture } from "./testing/fixture.ts";

const postgres = await fixture();
const cases: readonly Case<StoreSubject>[] = [...commitCases, ...logCases, ...recordCases, ...tokenCases, ...sqlCases, ...transactionCases];

let subject: Promise<StoreSubject> | undefined;
async function open(): Promise<StoreSubject> {
  const clock = virtualClock();
  return { clock, ids: uuidv7Ids(clock, seededRandom("conformance")), store: await postgres.open(undefined, { time: clock }) };
}

for (const { name, guarantee, run } of cases) {
  test(`${name} (postgres, ${guarantee})`, { skip: postgres.skip }, async () => run(await (subject ??= open())));
}
// Some of them count what is in all queues: a store each.
for (const { name, guarantee, run } of queueCases) {
  test(`${name} (postgres, ${guarantee})`, { skip: postgres.skip }, async () => {
    const own = await open();
    await run(own).finally(() => own.store.close());
  });
}

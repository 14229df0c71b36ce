/** The same cases every engine is held to, on a real server, directly and through a transaction pooler, by a clock that the cases move. */
import { test } from "node:test";
import {
  commitCases,
  logCases,
  queueCases,
  queuePolicyCases,
  recordCases,
  sqlCases,
  tokenCases,
  transactionCases,
  type Case,
  type StoreSubject,
} from "trestle/conformance";
import { seededRandom, uuidv7Ids, virtualClock } from "trestle/kernel";
import { fixture, waysTo } from "./testing/fixture.ts";

const postgres = await fixture();
const cases: readonly Case<StoreSubject>[] = [...commitCases, ...logCases, ...recordCases, ...tokenCases, ...sqlCases, ...transactionCases];

const ways = await waysTo(postgres);

async function open(way: (typeof ways)[number]): Promise<StoreSubject> {
  const clock = virtualClock();
  // Ids of its own for each way: the user's tables are named by them, and both ways have theirs in one database.
  return {
    clock,
    ids: uuidv7Ids(clock, seededRandom(`conformance ${way.engine}`)),
    store: await postgres.open(undefined, { time: clock, url: await way.url() }),
  };
}

for (const way of ways) {
  let subject: Promise<StoreSubject> | undefined;
  for (const { name, guarantee, run } of cases) {
    test(`${name} (${way.engine}, ${guarantee})`, { skip: way.skip }, async () => run(await (subject ??= open(way))));
  }
  // Some of them count what is in all queues: a store each.
  for (const { name, guarantee, run } of [...queueCases, ...queuePolicyCases]) {
    test(`${name} (${way.engine}, ${guarantee})`, { skip: way.skip }, async () => {
      const own = await open(way);
      await run(own).finally(() => own.store.close());
    });
  }
}

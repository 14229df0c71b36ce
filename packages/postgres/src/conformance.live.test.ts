/** The same cases every engine is held to, on a real server, directly and through a transaction pooler, by a clock that the cases move. */
import { after, test } from "node:test";
import { missing, pgbouncer, type Server } from "@trestle/testing";
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
import { fixture } from "./testing/fixture.ts";

const postgres = await fixture();
const cases: readonly Case<StoreSubject>[] = [...commitCases, ...logCases, ...recordCases, ...tokenCases, ...sqlCases, ...transactionCases];

let pooler: Promise<Server> | undefined;
after(async () => (await pooler)?.close());

const ways = [
  { engine: "postgres", skip: postgres.skip, url: async () => postgres.server.url },
  {
    engine: "postgres behind pgbouncer",
    skip: postgres.skip || (await missing("pgbouncer", { managed: true })),
    url: async () => (await (pooler ??= pgbouncer({ to: postgres.server.url }))).url,
  },
] as const;

async function open(way: (typeof ways)[number]): Promise<StoreSubject> {
  const clock = virtualClock();
  return { clock, ids: uuidv7Ids(clock, seededRandom("conformance")), store: await postgres.open(undefined, { time: clock, url: await way.url() }) };
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

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
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
} from "../conformance/index.ts";
import { seededRandom, uuidv7Ids, virtualClock } from "../kernel/index.ts";
import { openSqlite } from "./index.ts";

const cases: readonly Case<StoreSubject>[] = [
  ...commitCases,
  ...logCases,
  ...queueCases,
  ...queuePolicyCases,
  ...recordCases,
  ...tokenCases,
  ...sqlCases,
  ...transactionCases,
];

/** Binds cases to node:test. Cases use keys of their own, so one store serves `casesPerStore` of them: opening a file costs a thread. */
function runCases(engine: string, casesPerStore: number, open: () => Promise<{ readonly subject: StoreSubject; readonly close: () => Promise<void> }>): void {
  let current: { readonly opened: ReturnType<typeof open>; used: number } | undefined;
  const close = async () => {
    await (await current?.opened)?.close();
    current = undefined;
  };
  after(close);
  for (const { name, guarantee, run } of cases) {
    test(`${name} (${engine}, ${guarantee})`, async () => {
      if (current && current.used >= casesPerStore) await close();
      current ??= { opened: open(), used: 0 };
      current.used++;
      await run((await current.opened).subject);
    });
  }
}

const tools = () => {
  const clock = virtualClock();
  return { clock, ids: uuidv7Ids(clock, seededRandom("conformance")) };
};

runCases("memory", 1, async () => {
  const { clock, ids } = tools();
  const store = await openSqlite({ path: ":memory:", clock });
  return { subject: { store, clock, ids }, close: () => store.close() };
});

runCases("file", 10, async () => {
  const { clock, ids } = tools();
  const directory = mkdtempSync(join(tmpdir(), "trestle-store-"));
  const store = await openSqlite({ path: join(directory, "store.db"), clock });
  return {
    subject: { store, clock, ids },
    close: async () => {
      await store.close();
      rmSync(directory, { recursive: true });
    },
  };
});

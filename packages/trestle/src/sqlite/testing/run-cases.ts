/** Binds the port's conformance cases to node:test. */
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
} from "../../conformance/index.ts";
import { seededRandom, uuidv7Ids, virtualClock } from "../../kernel/index.ts";

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

/** Cases use keys of their own, so one store serves `casesPerStore` of them: opening a file costs a thread. */
export function runCases(
  engine: string,
  casesPerStore: number,
  open: () => Promise<{ readonly subject: StoreSubject; readonly close: () => Promise<void> }>,
): void {
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

export const caseTools = () => {
  const clock = virtualClock();
  return { clock, ids: uuidv7Ids(clock, seededRandom("conformance")) };
};

import { test } from "node:test";
import { commitCases, type Case } from "../conformance/index.ts";
import { systemClock, systemRandom, uuidv7Ids } from "../kernel/index.ts";
import { openSqlite } from "./index.ts";

/** Binds cases to node:test, one store for all of them. */
function runCases<Subject>(engine: string, cases: readonly Case<Subject>[], makeSubject: () => Promise<{ readonly subject: Subject; readonly close: () => Promise<void> }>): void {
  for (const { name, guarantee, run } of cases) {
    test(`${name} (${engine}, ${guarantee})`, async () => {
      const { subject, close } = await makeSubject();
      try {
        await run(subject);
      } finally {
        await close();
      }
    });
  }
}

runCases("memory", commitCases, async () => {
  const store = await openSqlite({ path: ":memory:" });
  return { subject: { store, ids: uuidv7Ids(systemClock, systemRandom) }, close: () => store.close() };
});

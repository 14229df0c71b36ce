import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { commitCases, type Case } from "../conformance/index.ts";
import { systemClock, systemRandom, uuidv7Ids } from "../kernel/index.ts";
import { openSqlite } from "./index.ts";

interface Opened<Subject> {
  readonly subject: Subject;
  readonly close: () => Promise<void>;
}

/** Binds cases to node:test, a fresh store for each. */
function runCases<Subject>(engine: string, cases: readonly Case<Subject>[], makeSubject: () => Promise<Opened<Subject>>): void {
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

const ids = uuidv7Ids(systemClock, systemRandom);
runCases("memory", commitCases, async () => {
  const store = await openSqlite({ path: ":memory:" });
  return { subject: { store, ids }, close: () => store.close() };
});
runCases("file", commitCases, async () => {
  const directory = mkdtempSync(join(tmpdir(), "trestle-store-"));
  const store = await openSqlite({ path: join(directory, "store.db") });
  return {
    subject: { store, ids },
    close: async () => {
      await store.close();
      rmSync(directory, { recursive: true });
    },
  };
});

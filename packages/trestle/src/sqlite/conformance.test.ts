import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { openSqlite } from "./index.ts";
import { caseTools, runCases } from "./testing/run-cases.ts";

runCases("memory", 1, async () => {
  const { clock, ids } = caseTools();
  const store = await openSqlite({ path: ":memory:", clock });
  return { subject: { store, clock, ids }, close: () => store.close() };
});

runCases("file", 10, async () => {
  const { clock, ids } = caseTools();
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

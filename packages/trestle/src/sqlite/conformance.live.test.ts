/** The port's cases on a file that another process writes: what this one asks goes over the socket. */
import { openSqlite } from "./index.ts";
import { startedFleet } from "./testing/fleet.ts";
import { caseTools, runCases } from "./testing/run-cases.ts";

runCases("many processes", 40, async () => {
  const { clock, ids } = caseTools();
  const fleet = await startedFleet(2);
  const store = await openSqlite({ path: fleet.path, clock });
  return {
    subject: { store, clock, ids },
    close: async () => {
      await store.close();
      await fleet.end();
    },
  };
});

/**
 * `npm start`: the shop on PORT (3000), its payments on PAYMENTS_PORT (3001), its mail sink on MAIL_PORT (3002), all data under
 * TRESTLE_DATA (./.trestle). With PAYMENTS_URL or MAIL_URL set, that system runs elsewhere and is not started.
 * SHOP_SPARE_PARTS=1000 puts that many boxes of screws on sale, for load tests. `--store` names another store (`store-choice.ts`).
 * TRESTLE_PROCESSES=web:2,worker:2 runs it as several processes on one port and one store, which this one starts and watches.
 *
 * What to open and what to try goes to stdout, time to ready to stderr. SIGTERM and SIGINT drain: requests in flight are
 * answered, jobs are finished or handed back. Exit codes: 0 after a drain, 3 when this machine does not let it run.
 */
import { loadStoreAhead } from "trestle/ahead";

// The thread of the embedded store and the shop load side by side: 60 ms less until the first answer. A process that supervises others opens no store.
if (process.env["TRESTLE_PROCESSES"] === undefined || process.env["TRESTLE_PROCESS"] !== undefined) loadStoreAhead();

const { runShop, tellAndExit } = await import("./run.ts");
await runShop().catch(tellAndExit);

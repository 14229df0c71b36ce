/** Kysely inside a transaction of Trestle's. */
export { stagingClient } from "./staging.ts";
export { kysely, transactionDialect } from "./dialect.ts";
export type { KyselyOptions } from "./dialect.ts";

/** Kysely inside a transaction of Trestle's. */
export { kysely, transactionDialect } from "./dialect.ts";
export type { KyselyOptions } from "./dialect.ts";

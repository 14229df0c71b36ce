/** The store port on PostgreSQL. */
export { openPostgres } from "./open.ts";
export type { PostgresOptions } from "./open.ts";

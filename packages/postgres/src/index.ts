/** The store port on PostgreSQL. */
export { examinePostgres } from "./examine.ts";
export type { Finding } from "./examine.ts";
export { stage } from "./staged.ts";
export type { StagingClient } from "./staged.ts";
export { openPostgres } from "./open.ts";
export type { PostgresOptions } from "./open.ts";
export { postgresMoveTarget } from "./move-target.ts";
export { profile } from "./profile.ts";

/** The user's own tables in the same commit. */
export { sql } from "./sql.ts";
export { movingTables } from "./moving.ts";
export type { Dialect, Sql, SqlEntered, SqlHandle, SqlLeft, SqlQuery, SqlSpec, SqlView } from "./sql.ts";

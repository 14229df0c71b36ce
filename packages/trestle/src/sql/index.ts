/** The user's own tables in the same commit. */
export { sql } from "./sql.ts";
export type { Dialect, Sql, SqlHandle, SqlQuery, SqlSpec, SqlView } from "./sql.ts";

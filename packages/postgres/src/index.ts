/** The `commit` part of the store port on PostgreSQL. */
export { postgresCommits } from "./postgres-commits.ts";
export type { PostgresCommits, PostgresCommitsOptions } from "./postgres-commits.ts";
export type { CommitReader } from "./reads.ts";

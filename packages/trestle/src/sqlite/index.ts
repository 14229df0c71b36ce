/** The embedded engine of the store, on node:sqlite. */
export { openSqlite, openSqliteStore } from "./open.ts";
export type { SqliteOptions } from "./open.ts";
export type { Durability } from "./connection.ts";
export type { SqliteStore } from "./engine.ts";
export { moveSource } from "./move-source.ts";
export { sqliteProfile } from "./profile.ts";
export type { TransactionSeam } from "./lane.ts";
export { openStore, parseStoreUrl } from "./url.ts";
export { networkFileSystem } from "./ownership.ts";

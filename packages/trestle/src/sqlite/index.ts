/** The embedded engine of the store, on node:sqlite. */
export { loadStoreAhead } from "./ahead.ts";
export { memoryDisks, moveSource, openSqlite, openSqliteStore } from "./open.ts";
export type { DiskTiming, MemoryDisk } from "./memory-disk.ts";
export type { SqliteOptions } from "./open.ts";
export type { Durability } from "./connection.ts";
export type { SqliteStore } from "./engine.ts";
export { sqliteProfile } from "./profile.ts";
export type { TransactionSeam } from "./lane.ts";
export { openStore, parseStoreUrl } from "./url.ts";
export { networkFileSystem } from "./ownership.ts";

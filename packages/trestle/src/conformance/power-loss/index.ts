/** A disk that loses power, for the tests of whoever promises durability. */
export { buildShim, makeDisk } from "./disk.ts";
export type { Disk, DiskOptions, Shim } from "./disk.ts";

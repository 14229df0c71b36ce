/** Partitions are filters that a reader chooses (FINDINGS F10): the log knows nothing of them, and another number moves no data. */
import { crc32 } from "node:zlib";

/** `CRC-32(UTF-8 of the key) mod of`: the same in every process, release and language. From 0 to `of` - 1. */
export function partitionOf(key: string, of: number): number {
  return crc32(key) % of;
}

/** What the figures were measured on. */
import { closeSync, fdatasyncSync, openSync, writeSync } from "node:fs";
import { cpus, release, totalmem, type as osType } from "node:os";
import { join } from "node:path";

export interface Machine {
  readonly cpu: string;
  readonly cores: number;
  readonly memoryGb: number;
  readonly os: string;
  readonly node: string;
  readonly sqlite: string;
  /** Median time of an 8 KiB append with fdatasync where the data of the run lies. */
  readonly fsyncMs: number;
}

export function machine(directory: string): Machine {
  return {
    cpu: cpus()[0]?.model.trim() ?? "unknown",
    cores: cpus().length,
    memoryGb: Math.round(totalmem() / 2 ** 30),
    os: `${osType()} ${release()}`,
    node: process.versions.node,
    sqlite: process.versions["sqlite"] ?? "unknown",
    fsyncMs: fsyncMs(directory),
  };
}

function fsyncMs(directory: string): number {
  const file = openSync(join(directory, "fsync-probe"), "w");
  const block = Buffer.alloc(8_192, 1);
  const times = Array.from({ length: 101 }, () => {
    const from = performance.now();
    writeSync(file, block);
    fdatasyncSync(file);
    return performance.now() - from;
  });
  closeSync(file);
  return Math.round((times.toSorted((a, b) => a - b)[50] as number) * 1_000) / 1_000;
}

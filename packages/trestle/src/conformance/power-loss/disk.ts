/**
 * A disk that loses power, is slow, or fills up, for processes that a test starts (FINDINGS F11). `kill -9` tests no durability: the
 * page cache of the machine survives it. Here each file is also kept as of its last fsync; after a kill, `losePower` puts the
 * files into that state, and whatever was acknowledged must still be there.
 *
 * Linux, with a C compiler: `buildShim` says why where it cannot be had, and a test skips with that reason.
 */
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { copyFileSync, existsSync, mkdirSync, mkdtempSync, readdirSync, realpathSync, renameSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { shimSource } from "./shim-source.ts";

export type Shim = { readonly ok: true; readonly library: string } | { readonly ok: false; readonly reason: string };

/** Builds the library once per version of its source, into the directory for temporary files. */
export function buildShim(): Shim {
  if (process.platform !== "linux") return { ok: false, reason: `the power-loss disk needs Linux, this is ${process.platform}` };
  const library = join(tmpdir(), `trestle-disk-${process.getuid?.() ?? 0}-${createHash("sha256").update(shimSource).digest("hex").slice(0, 16)}.so`);
  if (existsSync(library)) return { ok: true, library };
  const work = mkdtempSync(join(tmpdir(), "trestle-disk-"));
  try {
    const source = join(work, "disk.c");
    writeFileSync(source, shimSource);
    const built = spawnSync("cc", ["-shared", "-fPIC", "-O2", "-o", join(work, "disk.so"), source, "-ldl", "-lpthread"], { encoding: "utf8" });
    if (built.error) return { ok: false, reason: "no C compiler (cc)" };
    if (built.status !== 0) return { ok: false, reason: `cc failed: ${built.stderr.trim().split("\n")[0] ?? ""}` };
    // Another process may build it at the same time: a rename is whole.
    renameSync(join(work, "disk.so"), library);
    return { ok: true, library };
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}

export interface Disk {
  /** Everything below is watched. Give it to the process as its data directory. */
  readonly root: string;
  /** For the environment of the process: `spawn(…, { env: { ...process.env, ...disk.env } })`. */
  readonly env: Readonly<Record<string, string>>;
  /** How many bytes the files may still grow; `undefined` is without limit. Takes effect at once, also in a running process. */
  allow(bytes: number | undefined): void;
  /** Puts the files into the state of their last fsync. Only after the process was killed. */
  losePower(): void;
  /** Takes the files as they are for synced: after a test itself has changed them, between two processes. */
  adopt(): void;
  remove(): void;
}

export interface DiskOptions {
  readonly library: string;
  /** Microseconds added to each fsync. Default 0. */
  readonly slowFsyncUs?: number;
}

/** A directory of its own on such a disk. */
export function makeDisk({ library, slowFsyncUs = 0 }: DiskOptions): Disk {
  const home = realpathSync(mkdtempSync(join(tmpdir(), "trestle-power-")));
  const root = join(home, "disk");
  const shadow = join(home, "synced");
  const budget = join(home, "budget");
  mkdirSync(root);
  mkdirSync(shadow);
  const disk: Disk = {
    root,
    env: { LD_PRELOAD: library, DISK_ROOT: root, DISK_SHADOW: shadow, DISK_SLOW_US: String(slowFsyncUs), DISK_BUDGET: budget },
    allow(bytes) {
      const value = Buffer.alloc(8);
      value.writeBigInt64LE(BigInt(bytes ?? -1));
      writeFileSync(budget, value, { flag: existsSync(budget) ? "r+" : "w" });
    },
    losePower() {
      rmSync(root, { recursive: true });
      mkdirSync(root);
      for (const name of readdirSync(shadow)) {
        const path = root + name.replaceAll("%", "/");
        mkdirSync(dirname(path), { recursive: true });
        copyFileSync(join(shadow, name), path);
      }
    },
    adopt() {
      rmSync(shadow, { recursive: true });
      mkdirSync(shadow);
      for (const name of readdirSync(root, { recursive: true, encoding: "utf8" }))
        if (statSync(join(root, name)).isFile()) copyFileSync(join(root, name), join(shadow, `%${name.replaceAll("/", "%")}`));
    },
    remove: () => rmSync(home, { recursive: true, force: true }),
  };
  disk.allow(undefined);
  return disk;
}

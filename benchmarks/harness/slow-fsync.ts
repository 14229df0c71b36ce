/** A library for LD_PRELOAD that makes every fsync of a process slower by `SLOW_FSYNC_US` microseconds. Linux with a C compiler only. */
import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { createHash } from "node:crypto";
import { join } from "node:path";

const source = `
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <unistd.h>
static long delay(void) { static long us = -1; if (us < 0) { const char *text = getenv("SLOW_FSYNC_US"); us = text ? atol(text) : 0; } return us; }
static int slowly(const char *name, int fd) { int (*real)(int) = dlsym(RTLD_NEXT, name); int answer = real(fd); if (delay() > 0) usleep(delay()); return answer; }
int fsync(int fd) { return slowly("fsync", fd); }
int fdatasync(int fd) { return slowly("fdatasync", fd); }
`;

/** The environment of a process with slow fsyncs, or why it cannot be had. */
export function slowFsync(microseconds: number): { readonly env: Readonly<Record<string, string>> } | { readonly missing: string } {
  if (process.platform !== "linux") return { missing: `a slow fsync needs Linux, this is ${process.platform}` };
  const library = join(tmpdir(), `trestle-slow-fsync-${process.getuid?.() ?? 0}-${createHash("sha256").update(source).digest("hex").slice(0, 16)}.so`);
  if (!existsSync(library)) {
    const work = mkdtempSync(join(tmpdir(), "trestle-slow-fsync-"));
    writeFileSync(join(work, "slow.c"), source);
    const built = spawnSync("cc", ["-shared", "-fPIC", "-O2", "-o", join(work, "slow.so"), join(work, "slow.c"), "-ldl"], { encoding: "utf8" });
    if (!built.error && built.status === 0) renameSync(join(work, "slow.so"), library); // whole, even when another process builds it too
    rmSync(work, { recursive: true, force: true });
    if (built.error) return { missing: "a slow fsync needs a C compiler (cc)" };
    if (built.status !== 0) return { missing: `cc failed: ${built.stderr.trim()}` };
  }
  return { env: { LD_PRELOAD: library, SLOW_FSYNC_US: String(microseconds) } };
}

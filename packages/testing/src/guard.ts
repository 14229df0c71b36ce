/**
 * What must not outlive this process: whatever is named here is cleared away when this process ends, also by `kill -9`. A second
 * process sees to it (`watchdog.ts`), started with the first charge; it costs one Node of about 40 MB. Killing both at once is the
 * one way to leave something behind.
 */
import { spawn, type ChildProcess } from "node:child_process";
import { mkdtempSync } from "node:fs";
import { rm } from "node:fs/promises";
import type { Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { startOf } from "./process-tree.ts";

/** Call it when the charge is settled. */
export type Settled = () => void;

const charges = new Set<string>();
let watchdog: ChildProcess | undefined;

export function guardProcess(pid: number): Settled {
  const startedAt = startOf(pid);
  return startedAt === undefined ? () => undefined : charge(`process ${pid} ${startedAt}`);
}

export function guardSharedMemory(id: string): Settled {
  return charge(`shared-memory ${id}`);
}

export function guardContainer(engine: string, name: string): Settled {
  return charge(`container ${engine} ${name}`);
}

export interface GuardedDirectory {
  readonly path: string;
  /** Safe to call twice. */
  remove(): Promise<void>;
}

/** A new directory under the system's temporary one. */
export function guardedDirectory(name: string): GuardedDirectory {
  const path = mkdtempSync(join(tmpdir(), `trestle-${name}-`));
  const settled = charge(`directory ${path}`);
  return {
    path,
    async remove() {
      await rm(path, { recursive: true, force: true, maxRetries: 20, retryDelay: 50 });
      settled();
    },
  };
}

function charge(line: string): Settled {
  charges.add(line);
  tell(line);
  return () => {
    if (charges.delete(line)) tell(`forget ${line}`);
  };
}

function tell(line: string): void {
  if (watchdog === undefined) {
    const child = spawn(process.execPath, [fileURLToPath(new URL(import.meta.url.endsWith(".ts") ? "./watchdog.ts" : "./watchdog.js", import.meta.url))], {
      stdio: ["pipe", "ignore", "ignore"],
      detached: true,
      env: { ...process.env, NODE_OPTIONS: "", NODE_TEST_CONTEXT: "" },
    });
    // It must not keep this process alive, and one that was killed is replaced with the next charge.
    child.unref();
    (child.stdin as unknown as Socket).unref();
    const gone = () => {
      if (watchdog === child) watchdog = undefined;
    };
    child.on("error", gone).on("exit", gone);
    child.stdin?.on("error", gone);
    watchdog = child;
    for (const earlier of charges) if (earlier !== line) child.stdin?.write(`${earlier}\n`);
  }
  watchdog.stdin?.write(`${line}\n`);
}

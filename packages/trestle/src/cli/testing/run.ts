/** Runs the real command in a process of its own, in a folder of its own. */
import { spawn, type ChildProcess } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const bin = fileURLToPath(new URL("../trestle.ts", import.meta.url));
export const bookshopFile = fileURLToPath(new URL("./bookshop.ts", import.meta.url));

export interface Ran {
  readonly code: number | null;
  readonly out: string;
  readonly err: string;
}
export interface Place extends Disposable {
  readonly folder: string;
  run(args: readonly string[], environment?: Readonly<Record<string, string>>): Promise<Ran>;
  /** Starts it and answers when it has printed a line; it is killed with the place. */
  start(
    args: readonly string[],
    environment?: Readonly<Record<string, string>>,
  ): Promise<{ readonly child: ChildProcess; readonly line: string; readonly ended: Promise<Ran> }>;
}

export function place(): Place {
  const folder = mkdtempSync(join(tmpdir(), "trestle-cli-"));
  const children: ChildProcess[] = [];
  const spawned = (args: readonly string[], environment: Readonly<Record<string, string>> = {}) => {
    const { TRESTLE_STORE: _s, TRESTLE_DATA: _d, TRESTLE_TOKEN: _t, PORT: _p, HOST: _h, ...env } = process.env;
    const child = spawn(process.execPath, ["--disable-warning=ExperimentalWarning", bin, ...args], {
      cwd: folder,
      env: { ...env, TRESTLE_LOG: "error", ...environment },
      stdio: ["ignore", "pipe", "pipe"],
    });
    children.push(child);
    const text = { out: "", err: "" };
    child.stdout.on("data", (chunk: Buffer) => (text.out += String(chunk)));
    child.stderr.on("data", (chunk: Buffer) => (text.err += String(chunk)));
    const ended = new Promise<Ran>((resolve) => child.once("close", (code) => resolve({ code, ...text })));
    return { child, ended, text };
  };
  return {
    folder,
    run: (args, environment) => spawned(args, environment).ended,
    async start(args, environment) {
      const { child, ended, text } = spawned(args, environment);
      const line = await new Promise<string>((resolve, reject) => {
        child.stdout.on("data", () => text.out.includes("\n") && resolve(text.out.split("\n")[0] as string));
        void ended.then(({ code, err }) => reject(new Error(`ended with ${code}: ${err}`)));
      });
      return { child, line, ended };
    },
    [Symbol.dispose]() {
      for (const child of children) if (child.exitCode === null) child.kill("SIGKILL");
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

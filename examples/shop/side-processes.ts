/**
 * Keeps a foreign process of the example running beside the shop: starts it, starts it again when it dies, ends it with the shop.
 * One that already listens and says it is the same system is used as it is: after `kill -9` of the shop the next shop finds
 * the payments where the last one left them.
 *
 * looking  → somebody of that name answers: adopted · nobody: started
 * adopted  → asked once a second; silent: looking
 * started  → ended by itself: looking, after a pause · cannot run here (exit code 3): given up, the shop is told
 * any      → stop(): a process we started gets SIGTERM, then SIGKILL; an adopted one is left alone
 */
import { spawn, type ChildProcess } from "node:child_process";
import { fileURLToPath } from "node:url";

export interface SideProcess {
  readonly url: string;
  stop(): Promise<void>;
}
export interface SideProcessOptions {
  /** What it calls itself at `/_identity`. */
  readonly system: string;
  readonly script: URL;
  readonly port: number;
  readonly portVariable: string;
  /** Not before this many milliseconds: the shop's own first answer comes first. */
  readonly notBeforeMs: number;
  readonly onGivenUp: (why: string) => void;
}

const stopGraceMs = 3_000;

export function keepSideProcess({ system, script, port, portVariable, notBeforeMs, onGivenUp }: SideProcessOptions): SideProcess {
  const url = `http://localhost:${port}`;
  const stopping = new AbortController();
  let child: ChildProcess | undefined;

  async function live(): Promise<void> {
    await pause(notBeforeMs, stopping.signal);
    for (let pauseMs = 100; !stopping.signal.aborted; pauseMs = Math.min(2_000, pauseMs * 2)) {
      while (!stopping.signal.aborted && (await identityAt(url)) === system) await pause(1_000, stopping.signal);
      if (stopping.signal.aborted) return;

      const startedAtMs = performance.now();
      const code = await run();
      if (stopping.signal.aborted) return;
      if (code === 3) return onGivenUp(`${system} cannot run on port ${port}`);
      if (performance.now() - startedAtMs > 10_000) pauseMs = 100;
      process.stderr.write(`${system} ended (${code}), starting it again\n`);
      await pause(pauseMs, stopping.signal);
    }
  }

  /** In a process group of its own: Ctrl-C is for the shop, which ends it after its own last call. */
  function run(): Promise<number | string> {
    return new Promise((resolve) => {
      const started = spawn(process.execPath, [fileURLToPath(script), "--with-starter"], {
        env: { ...process.env, [portVariable]: String(port) },
        stdio: ["pipe", "ignore", "inherit"],
        detached: true,
      });
      child = started;
      started.once("error", (error) => resolve(error.message));
      started.once("exit", (code, signal) => {
        child = undefined;
        resolve(code ?? signal ?? "gone");
      });
    });
  }

  const done = live();
  return {
    url,
    async stop() {
      stopping.abort();
      const ending = child;
      if (ending) {
        const exited = new Promise((resolve) => ending.once("exit", resolve));
        ending.kill("SIGTERM");
        const grace = setTimeout(() => ending.kill("SIGKILL"), stopGraceMs);
        await exited;
        clearTimeout(grace);
      }
      await done;
    },
  };
}

async function identityAt(url: string): Promise<string | undefined> {
  try {
    const answer = await fetch(`${url}/_identity`, { signal: AbortSignal.timeout(1_000) });
    return String(((await answer.json()) as { system?: unknown }).system);
  } catch {
    return undefined;
  }
}

function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) return resolve();
    const timer = setTimeout(done, ms);
    signal.addEventListener("abort", done, { once: true });
    function done() {
      clearTimeout(timer);
      signal.removeEventListener("abort", done);
      resolve();
    }
  });
}

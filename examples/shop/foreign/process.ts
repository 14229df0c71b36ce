/**
 * Runs a foreign system as a process: its URL on stdout when it listens, everything for people on stderr, a clean end on
 * SIGTERM, exit code 3 when this machine does not let it run.
 *
 * With `--with-starter` it outlives whoever started it (a shop under `kill -9` finds its payments still there when it comes
 * back) but not for long: fifteen seconds (LINGER_MS) after standard input has closed and nobody has asked anything, it ends.
 */
import { resolve } from "node:path";
import { serveForeignSystem, type ForeignSystem, type RunningForeignSystem } from "./foreign-server.ts";

const lingerMs = Number(process.env["LINGER_MS"] ?? 15_000);

export async function runForeignProcess<S extends object>(options: {
  readonly portVariable: string;
  readonly defaultPort: number;
  readonly open: (dataDirectory: string) => { readonly system: ForeignSystem<S>; close(): void };
}): Promise<void> {
  const port = portFrom(options.portVariable, options.defaultPort);
  const opened = attempt(() => options.open(resolve(process.env["TRESTLE_DATA"] ?? ".trestle")), "its data cannot be opened");
  const running = await serveForeignSystem(opened.system, port).catch((error: NodeJS.ErrnoException) =>
    giveUp(
      error.code === "EADDRINUSE"
        ? `port ${port} is taken: stop what listens there, or set ${options.portVariable} to another`
        : `it cannot listen on port ${port}: ${error.message}`,
    ),
  );

  process.stdout.write(`${running.url}\n`);
  for (const signal of ["SIGTERM", "SIGINT"] as const) process.once(signal, () => void end());
  if (process.argv.includes("--with-starter")) endAfterStarter(running, end);

  async function end(): Promise<void> {
    await running.close();
    opened.close();
    process.exit(0);
  }
}

function endAfterStarter(running: RunningForeignSystem, end: () => Promise<void>): void {
  let askedAtMs = performance.now();
  running.server.on("request", () => {
    askedAtMs = performance.now();
  });
  process.stdin.resume().once("close", () => {
    askedAtMs = performance.now();
    setInterval(() => {
      if (performance.now() - askedAtMs > lingerMs) void end();
    }, 1_000);
  });
  process.stdin.once("end", () => process.stdin.destroy());
}

function portFrom(variable: string, otherwise: number): number {
  const text = process.env[variable];
  const port = text === undefined || text === "" ? otherwise : Number(text);
  return Number.isInteger(port) && port >= 0 && port <= 65_535 ? port : giveUp(`${variable} must be a port from 0 to 65535, not ${JSON.stringify(text)}`);
}

function attempt<T>(work: () => T, failure: string): T {
  try {
    return work();
  } catch (error) {
    return giveUp(`${failure}: ${error instanceof Error ? error.message : String(error)}`);
  }
}

function giveUp(why: string): never {
  process.stderr.write(`${why}\n`);
  process.exit(3);
}

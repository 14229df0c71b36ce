/**
 * A server of any kind, as a test holds it: started from a recipe on a free port in a directory of its own, or one that the
 * environment names, which is used and left alone. What a crash or a stop of this process leaves behind is nothing.
 */
import { execFile, execFileSync } from "node:child_process";
import { chmodSync, chownSync } from "node:fs";
import { dirname } from "node:path";
import { promisify } from "node:util";
import { Fault } from "trestle/kernel";
import { findProgram, type Means, type Searched } from "./find-program.ts";
import { freePort } from "./free-port.ts";
import { guardedDirectory } from "./guard.ts";
import { closedFault, managedProcess, type Launch, type ManagedProcess } from "./managed-process.ts";

export interface Server extends AsyncDisposable {
  /** Valid while it runs; it stays the same over restarts. */
  readonly url: string;
  readonly host: string;
  readonly port: number;
  /** False when the environment named it: then every operation below but `close` is the fault `testing.not-managed`. */
  readonly managed: boolean;
  /** Its own directory, with its configuration and data. */
  readonly home: string;
  /** Of its first process; `undefined` when it does not run. */
  readonly pid: number | undefined;
  readonly state: "running" | "paused" | "stopped" | "closed";
  /** The end of its log, over all its starts. */
  log(): string;
  /** Does nothing when it runs. Faults: `testing.not-started` with its log, `testing.closed`. */
  start(): Promise<void>;
  /** The orderly way down, at most 10 s, then by force. Does nothing when it is stopped. */
  stop(): Promise<void>;
  /** `kill -9` of all its processes at one instant: what a crash leaves. */
  kill(): Promise<void>;
  restart(): Promise<void>;
  /** All its processes stand still: connections stay open and nobody answers. Fault: `testing.not-running`. */
  pause(): Promise<void>;
  resume(): Promise<void>;
  /** Kills it and removes its files. Safe to call twice. */
  close(): Promise<void>;
}

export interface Context {
  /** A directory of its own; the server may write to it. */
  readonly home: string;
  readonly port: number;
  readonly program: string;
  /** The folder of the program, for those that bring several. */
  readonly folder: string;
  /** Runs another program to its end as the server would run, in its home; a failure is the fault `testing.not-started`. */
  run(launch: Launch): Promise<void>;
}

/** How a kind of server is found, started, and known to be ready. */
export interface Recipe<Options extends object> extends Searched {
  /** It refuses to run as root: then it runs as the user `nobody`. */
  readonly refusesRoot: boolean;
  readonly url: (at: { readonly host: string; readonly port: number }, options: Options) => string;
  /** What to run; writes the files it needs. Called before each start. */
  readonly launch: (context: Context, options: Options) => Promise<Launch> | Launch;
  readonly ready: RegExp;
  /** In its log, when somebody else has its port. */
  readonly portTaken: RegExp;
  readonly stopSignal: NodeJS.Signals;
  readonly startWithinMs?: number;
  /** Something it needs beside its program: why it is missing, or nothing. */
  readonly lacks?: () => Promise<string | undefined>;
}

const found = new Map<string, Promise<Means>>();
const host = "127.0.0.1";

function means<Options extends object>(recipe: Recipe<Options>): Promise<Means> {
  let search = found.get(recipe.name);
  if (!search) {
    search = findProgram(recipe).then(async (answer): Promise<Means> => {
      if (answer.kind !== "program") return answer;
      const reason = recipe.refusesRoot && unprivileged() === "none" ? "it refuses to run as root, and there is no user nobody" : await recipe.lacks?.();
      return reason === undefined ? answer : { kind: "none", reason: `no ${recipe.name}: ${reason}` };
    });
    found.set(recipe.name, search);
  }
  return search;
}

/** Why there can be no such server here, or one that must not be stopped when `managed` is asked for; false when there can. */
export async function reasonWithout<Options extends object>(recipe: Recipe<Options>, { managed = false } = {}): Promise<string | false> {
  const answer = await means(recipe);
  if (answer.kind === "none") return answer.reason;
  return answer.kind === "url" && managed ? `${recipe.urlVariable} names a ${recipe.name} that tests do not stop or configure` : false;
}

export interface StartedServer extends Server {
  readonly process: ManagedProcess;
  /** Clears away what belongs to it, when it is closed; the last added first. */
  onClose(clear: () => Promise<void>): void;
}

/** Faults: `testing.unavailable`, `testing.not-started`. */
export async function startServer<Options extends object>(
  recipe: Recipe<Options>,
  options: Options,
  afterKill?: (home: string) => Promise<void>,
): Promise<StartedServer> {
  const answer = await means(recipe);
  if (answer.kind === "none")
    throw Fault.create(
      "testing.unavailable",
      `No server can be started: ${answer.reason}.`,
      `Install ${recipe.program}, or set ${recipe.urlVariable} to the URL of one that runs.`,
    );
  if (answer.kind === "url") return foreignServer(recipe, answer.url);

  const directory = guardedDirectory(recipe.program);
  const home = directory.path;
  const identity = recipe.refusesRoot ? unprivileged() : "same";
  if (typeof identity === "object") chownSync(home, identity.uid, identity.gid);
  chmodSync(home, 0o755);
  const program = answer.kind === "program" ? answer.path : answer.program;
  let port = 0;
  let launches = 0;
  const placed = (launch: Launch): Launch => {
    const here = { cwd: home, ...launch, ...(typeof identity === "object" && identity) };
    return answer.kind === "container" ? contained(here, { ...answer, home, name: `${home.split("/").at(-1)}-${++launches}` }) : here;
  };
  const process = managedProcess({
    name: recipe.name,
    ready: recipe.ready,
    stopSignal: recipe.stopSignal,
    ...(recipe.startWithinMs !== undefined && { startWithinMs: recipe.startWithinMs }),
    ...(afterKill && { afterKill: () => afterKill(home) }),
    launch: async () =>
      placed(await recipe.launch({ home, port, program, folder: dirname(program), run: (launch) => runToEnd(recipe.name, placed(launch)) }, options)),
  });
  const clearing: (() => Promise<void>)[] = [() => directory.remove(), () => process.close()];

  const server: StartedServer = {
    host,
    home,
    process,
    managed: true,
    get port() {
      return port;
    },
    get url() {
      return recipe.url({ host, port }, options);
    },
    get pid() {
      return process.pid;
    },
    get state() {
      return process.state;
    },
    log: () => process.log(),
    async start() {
      await process.start();
    },
    async stop() {
      await process.stop();
    },
    kill: () => process.kill(),
    restart: () => process.restart(),
    pause: () => process.pause(),
    resume: () => process.resume(),
    onClose: (clear) => void clearing.push(clear),
    async close() {
      for (let clear = clearing.pop(); clear; clear = clearing.pop()) await clear();
    },
    [Symbol.asyncDispose]: () => server.close(),
  };

  // Somebody may take a port between the look and the server's bind.
  for (let attempt = 1; ; attempt++) {
    port = await freePort();
    try {
      await server.start();
      return server;
    } catch (error) {
      if (attempt < 5 && recipe.portTaken.test(process.log())) continue;
      await server.close();
      throw error;
    }
  }
}

/** The one that the environment names. */
function foreignServer<Options extends object>(recipe: Recipe<Options>, url: string): StartedServer {
  let closed = false;
  const { hostname, port } = new URL(url);
  const refuse = (): never => {
    if (closed) throw closedFault(recipe.name);
    throw Fault.create(
      "testing.not-managed",
      `${recipe.urlVariable} names this ${recipe.name}: it is used and left alone.`,
      `Unset ${recipe.urlVariable}, or skip the test by missing(kind, { managed: true }).`,
    );
  };
  const refuseLater = async (): Promise<never> => refuse();
  const clearing: (() => Promise<void>)[] = [];
  const server: StartedServer = {
    url,
    host: hostname,
    port: Number(port),
    managed: false,
    get state() {
      return closed ? "closed" : "running";
    },
    get home() {
      return refuse();
    },
    pid: undefined,
    get process() {
      return refuse();
    },
    log: () => "",
    start: refuseLater,
    stop: refuseLater,
    kill: refuseLater,
    restart: refuseLater,
    pause: refuseLater,
    resume: refuseLater,
    onClose: (clear) => void clearing.push(clear),
    async close() {
      closed = true;
      for (let clear = clearing.pop(); clear; clear = clearing.pop()) await clear();
    },
    [Symbol.asyncDispose]: () => server.close(),
  };
  return server;
}

/** The same program with the same arguments, out of an image: it sees the host's network and its own home. */
function contained(
  launch: Launch,
  { engine, image, home, name }: { readonly engine: string; readonly image: string; readonly home: string; readonly name: string },
): Launch {
  const user = launch.uid === undefined ? [] : [`--user=${launch.uid}:${launch.gid}`];
  const environment = Object.entries(launch.env ?? {}).flatMap(([variable, value]) => (value === undefined ? [] : [`--env=${variable}=${value}`]));
  const mount = `--volume=${home}:${home}`;
  return {
    command: engine,
    args: [
      "run",
      "--rm",
      `--name=${name}`,
      "--network=host",
      mount,
      `--workdir=${home}`,
      ...user,
      ...environment,
      `--entrypoint=${launch.command}`,
      image,
      ...launch.args,
    ],
    container: { engine, name },
  };
}

/** The user `nobody` when this is root, `same` when it is not, `none` when there is nobody to become. */
export function unprivileged(): { readonly uid: number; readonly gid: number } | "same" | "none" {
  if (process.getuid?.() !== 0) return "same";
  try {
    const number = (flag: string) => Number(execFileSync("id", [flag, "nobody"], { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] }));
    return { uid: number("-u"), gid: number("-g") };
  } catch {
    return "none";
  }
}

async function runToEnd(name: string, { command, args, container: _, ...options }: Launch): Promise<void> {
  try {
    await promisify(execFile)(command, args, { ...options, env: { ...process.env, ...options.env }, timeout: 60_000 });
  } catch (cause) {
    const { stdout = "", stderr = "", message } = cause as Error & { stdout?: string; stderr?: string };
    throw Fault.create("testing.not-started", `${name} could not be prepared: ${message}\n${stdout}${stderr}`, "Read its output in this message.", { cause });
  }
}

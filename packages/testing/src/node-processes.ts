/**
 * An app as the processes it runs as: so many of each role, each on a port of its own, started from a script by this very Node, ready when
 * its output says so. Any of them can be killed, paused, stopped and started again; what they wrote is at hand when a test fails.
 */
import { fileURLToPath } from "node:url";
import { freePort } from "./free-port.ts";
import { managedProcess, type ManagedProcess } from "./managed-process.ts";

export interface NodeProcessOptions {
  readonly script: URL | string;
  /** In stdout or stderr when it is ready. */
  readonly ready: RegExp;
  /** Names it in faults and output; default: the script's file name. */
  readonly name?: string;
  readonly args?: readonly string[];
  /** Flags of Node, before the script. */
  readonly nodeArgs?: readonly string[];
  /** Above this process's own. `undefined` takes a variable away. PORT is the port. */
  readonly env?: Readonly<Record<string, string | undefined>>;
  readonly cwd?: string;
  /** Default: a free one; the same over restarts. */
  readonly port?: number;
  /** Default 30,000. */
  readonly startWithinMs?: number;
  /** Default 20,000, then it is killed. */
  readonly stopWithinMs?: number;
}

export interface NodeProcess extends Omit<ManagedProcess, "logPosition"> {
  readonly name: string;
  readonly port: number;
  /** `http://localhost:<port>`, for those that listen. */
  readonly url: string;
}

/** Not started yet. */
export async function nodeProcess(options: NodeProcessOptions): Promise<NodeProcess> {
  const {
    script,
    ready,
    args = [],
    nodeArgs = ["--disable-warning=ExperimentalWarning"],
    env = {},
    cwd,
    startWithinMs = 30_000,
    stopWithinMs = 20_000,
  } = options;
  const path = script instanceof URL ? fileURLToPath(script) : script;
  const name = options.name ?? (path.split("/").at(-1) as string);
  const port = options.port ?? (await freePort());
  const process_ = managedProcess({
    name,
    ready,
    startWithinMs,
    stopWithinMs,
    // A test file's own runner listens to its children through these; the app is none of its business.
    launch: () => ({
      command: process.execPath,
      args: [...nodeArgs, path, ...args],
      env: { NODE_TEST_CONTEXT: undefined, PORT: String(port), ...env },
      ...(cwd !== undefined && { cwd }),
    }),
  });
  return Object.defineProperties({} as NodeProcess, {
    ...Object.getOwnPropertyDescriptors(process_),
    name: { value: name, enumerable: true },
    port: { value: port, enumerable: true },
    url: { value: `http://localhost:${port}`, enumerable: true },
  });
}

export interface NodeProcessesOptions<Role extends string> extends Omit<NodeProcessOptions, "name" | "port" | "env"> {
  /** How many of each: `{ web: 3, worker: 2 }`. */
  readonly roles: Readonly<Record<Role, number>>;
  /** Above this process's own, for each; TRESTLE_ROLES is not set by itself. */
  readonly env?: (process: { readonly role: Role; readonly index: number; readonly port: number }) => Readonly<Record<string, string | undefined>>;
}

export interface NodeProcesses<Role extends string> extends AsyncDisposable {
  /** In the order of `roles`. */
  readonly all: readonly (NodeProcess & { readonly role: Role })[];
  of(role: Role): readonly NodeProcess[];
  /** What all of them wrote, each line with the name of its process: `web-1: …`. */
  log(): string;
  /** Starts those that do not run, at once. The first that does not start is the fault `testing.not-started`. */
  start(): Promise<void>;
  /** Asks all of them to end. */
  stop(): Promise<void>;
  /** `kill -9` of all. */
  kill(): Promise<void>;
}

/** Not started yet. Ends with everything it started when it is disposed of, and when this process ends. */
export async function nodeProcesses<const Role extends string>(options: NodeProcessesOptions<Role>): Promise<NodeProcesses<Role>> {
  const { roles, env = () => ({}), ...each } = options;
  const wanted = (Object.entries(roles) as [Role, number][]).flatMap(([role, count]) => Array.from({ length: count }, (_, index) => ({ role, index })));
  const all = await Promise.all(
    wanted.map(async ({ role, index }) => {
      const port = await freePort();
      const one = await nodeProcess({ ...each, name: `${role}-${index + 1}`, port, env: env({ role, index, port }) });
      return Object.defineProperty(one, "role", { value: role, enumerable: true }) as NodeProcess & { readonly role: Role };
    }),
  );
  const together = async (work: (one: NodeProcess) => Promise<unknown>) => void (await Promise.all(all.map(work)));
  const handle: NodeProcesses<Role> = {
    all,
    of: (role) => all.filter((one) => one.role === role),
    log: () => all.map((one) => one.log().replaceAll(/^(?=.)/gm, `${one.name}: `)).join(""),
    start: () => together((one) => one.start()),
    stop: () => together((one) => one.stop()),
    kill: () => together((one) => one.kill()),
    [Symbol.asyncDispose]: () => together((one) => one.close()),
  };
  return handle;
}

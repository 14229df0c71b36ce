/** `trestle doctor`: looks at what an app needs of this machine. Each check says what it saw, and how to mend it. */
import {
  accessSync,
  closeSync,
  constants,
  existsSync,
  fsyncSync,
  mkdtempSync,
  openSync,
  readFileSync,
  readSync,
  rmSync,
  statfsSync,
  statSync,
  writeSync,
} from "node:fs";
import { createServer } from "node:net";
import { dirname, join, resolve } from "node:path";
import { enginePackage, isPostgres, withoutPassword } from "../app/index.ts";
import { Fault, systemClock } from "../kernel/index.ts";
import { networkFileSystem, parseStoreUrl } from "../sqlite/index.ts";
import { numberOption, textOption, type CommandSpec, type Given } from "./command-line.ts";
import { exitCodes, type ExitCode } from "./exit-codes.ts";

export const doctorCommand: CommandSpec = {
  name: "doctor",
  summary: "Checks this machine: Node, port, the store's directory and disk or its server, the clock.",
  arguments: [],
  options: {
    store: { type: "string", value: "url", help: "the store to check for; default TRESTLE_STORE, else one in TRESTLE_DATA or .trestle" },
    port: { type: "string", value: "number", help: "the port to check; default PORT, else 3000" },
    json: { type: "boolean", help: "{version, ok, checks: [{name, status, reason, fix?}]}" },
  },
  examples: ["trestle doctor", "trestle doctor --store sqlite:/var/lib/shop/shop.db --port 80"],
};

export interface Check {
  readonly name: string;
  /** `warn`: it works, with something given up. `fail`: an app would not start, or would lose what it promises to keep. */
  readonly status: "ok" | "warn" | "fail";
  readonly reason: string;
  readonly fix?: string;
}

const gigabyte = 1_000_000_000;

export async function runDoctor(given: Given): Promise<ExitCode> {
  const port = numberOption(given, "port", { least: 0, most: 65_535 }) ?? portFromEnvironment(process.env["PORT"]);
  const url = textOption(given, "store") ?? process.env["TRESTLE_STORE"] ?? `sqlite:${join(process.env["TRESTLE_DATA"] ?? ".trestle", "app.db")}`;
  if (isPostgres(url)) {
    const { examinePostgres } = await enginePackage<{ examinePostgres(url: string): Promise<readonly Check[]> }>("@trestle/postgres", url);
    return report([nodeVersion(process.versions.node), await portFree(port, undefined), clockSane(undefined), ...(await examinePostgres(url))]);
  }
  const { path, durability } = parseStoreUrl(url);
  const file = path === ":memory:" ? undefined : resolve(path);
  const checks: Check[] = [nodeVersion(process.versions.node), await portFree(port, file), synchronous(durability, file)];
  if (file !== undefined) {
    const directory = existing(dirname(file));
    const writable = directoryWritable(directory, dirname(file));
    checks.push(writable, fileSystem(directory), diskSpace(directory), storeFile(file));
    if (writable.status === "ok") checks.push(fsyncSpeed(directory));
  }
  checks.push(clockSane(file));
  return report(checks);

  function report(checks: readonly Check[]): ExitCode {
    const failed = checks.some(({ status }) => status === "fail");
    process.stdout.write(given.values["json"] ? `${JSON.stringify({ version: 1, ok: !failed, store: withoutPassword(url), checks })}\n` : told(checks, failed));
    return failed ? exitCodes.environment : exitCodes.ok;
  }
}

function told(checks: readonly Check[], failed: boolean): string {
  const width = Math.max(...checks.map(({ name }) => name.length));
  const lines = checks.flatMap(({ name, status, reason, fix }) => [
    `${status.padEnd(4)}  ${name.padEnd(width)}  ${reason}`,
    ...(fix === undefined ? [] : [`${" ".repeat(width + 8)}${fix}`]),
  ]);
  const warnings = checks.filter(({ status }) => status === "warn").length;
  return `${lines.join("\n")}\n\n${failed ? "An app would not run well here." : warnings > 0 ? `Fine, with ${warnings} ${warnings === 1 ? "warning" : "warnings"}.` : "All fine."}\n`;
}

export function nodeVersion(version: string): Check {
  const [major = 0, minor = 0] = version.split(".").map(Number);
  return major > 24 || (major === 24 && minor >= 10)
    ? { name: "node", status: "ok", reason: `${version}; 24.10 or newer is needed` }
    : { name: "node", status: "fail", reason: `${version}; 24.10 or newer is needed`, fix: "Install Node 24." };
}

/** A port that this store's own node holds is as it should be. */
async function portFree(port: number, store: string | undefined): Promise<Check> {
  const name = "port";
  const code = await new Promise<string | undefined>((done) => {
    const server = createServer();
    server.once("error", (error: NodeJS.ErrnoException) => done(error.code ?? error.message));
    server.listen(port, "localhost", () => server.close(() => done(undefined)));
  });
  if (code === undefined) return { name, status: "ok", reason: `${port} is free` };
  if (code === "EADDRINUSE" && store !== undefined && nodeUrl(store)?.endsWith(`:${port}`))
    return { name, status: "ok", reason: `${port} is held by the node of this store` };
  if (code === "EACCES")
    return { name, status: "fail", reason: `${port} may not be opened by this user`, fix: "Use a port above 1023, or let a proxy listen there." };
  return { name, status: "fail", reason: `${port} is not free (${code})`, fix: "Choose another with PORT or --port, or stop the program that has it." };
}

function nodeUrl(store: string): string | undefined {
  try {
    return (JSON.parse(readFileSync(`${store}.node.json`, "utf8")) as { readonly url?: string }).url;
  } catch {
    return undefined;
  }
}

function synchronous(durability: "full" | "normal", file: string | undefined): Check {
  const name = "durability";
  if (file === undefined)
    return { name, status: "warn", reason: "the store is in memory: everything ends with the process", fix: "Give a file: sqlite:<path>." };
  return durability === "full"
    ? { name, status: "ok", reason: "synchronous is full: what was acknowledged survives a power loss" }
    : {
        name,
        status: "warn",
        reason: "synchronous is normal: a power loss may take back the last acknowledged commits",
        fix: "Leave ?synchronous=normal out of the store's URL.",
      };
}

/** The nearest directory that exists; a store makes its own. */
function existing(directory: string): string {
  return existsSync(directory) || dirname(directory) === directory ? directory : existing(dirname(directory));
}

function directoryWritable(directory: string, wanted: string): Check {
  const name = "directory";
  try {
    if (!statSync(directory).isDirectory()) return { name, status: "fail", reason: `${directory} is not a directory`, fix: "Name another path for the store." };
    accessSync(directory, constants.W_OK | constants.X_OK);
    rmSync(mkdtempSync(join(directory, ".trestle-doctor-")), { recursive: true }); // a read-only mount passes access()
  } catch (error) {
    return {
      name,
      status: "fail",
      reason: `${directory} cannot be written: ${(error as NodeJS.ErrnoException).code ?? (error as Error).message}`,
      fix: "Give this user the right to write there, or name another path with TRESTLE_DATA or --store.",
    };
  }
  return { name, status: "ok", reason: directory === wanted ? `${wanted} can be written` : `${wanted} will be made` };
}

function fileSystem(directory: string): Check {
  const name = "file system";
  if (process.platform !== "linux") return { name, status: "ok", reason: "not looked at on this system: keep the store on a local disk" };
  const remote = networkFileSystem(statfsSync(directory).type);
  return remote === undefined
    ? { name, status: "ok", reason: "local" }
    : { name, status: "fail", reason: `${directory} is on ${remote}, where SQLite's locks do not hold`, fix: "Put the store on a local disk." };
}

function diskSpace(directory: string): Check {
  const name = "disk space";
  const { bavail, bsize, blocks } = statfsSync(directory);
  const freeBytes = bavail * bsize;
  const reason = `${(freeBytes / gigabyte).toFixed(1)} GB free of ${((blocks * bsize) / gigabyte).toFixed(1)} GB`;
  if (freeBytes < 0.1 * gigabyte) return { name, status: "fail", reason, fix: "Make room: a store that cannot grow refuses commits." };
  return freeBytes < gigabyte ? { name, status: "warn", reason, fix: "Make room soon." } : { name, status: "ok", reason };
}

function storeFile(file: string): Check {
  const name = "store";
  if (!existsSync(file)) return { name, status: "ok", reason: `${file} does not exist yet` };
  const holder = nodeUrl(file);
  try {
    const head = Buffer.alloc(72);
    const handle = openSync(file, "r+");
    try {
      readSync(handle, head);
    } finally {
      closeSync(handle);
    }
    if (statSync(file).size > 0 && head.toString("latin1", 0, 15) !== "SQLite format 3")
      return { name, status: "fail", reason: `${file} is damaged, or no SQLite file`, fix: "Keep a copy of it, and restore the last backup." };
    // Bytes 68 to 71 are SQLite's application id; a store says "Trst" there.
    if (statSync(file).size > 0 && head.toString("latin1", 68, 72) !== "Trst" && head.readUInt32BE(68) !== 0)
      return { name, status: "fail", reason: `${file} is a database of another program`, fix: "Name another file." };
  } catch (error) {
    return {
      name,
      status: "fail",
      reason: `${file} cannot be opened for writing: ${(error as NodeJS.ErrnoException).code ?? (error as Error).message}`,
      fix: "Give this user the right to read and write it.",
    };
  }
  return {
    name,
    status: "ok",
    reason: `${(statSync(file).size / 1_000_000).toFixed(1)} MB${holder === undefined ? "" : `, last held by the node at ${holder}`}`,
  };
}

/** What a durable commit waits for at the least. */
function fsyncSpeed(directory: string): Check {
  const name = "fsync";
  const folder = mkdtempSync(join(directory, ".trestle-doctor-"));
  const took: number[] = [];
  try {
    const handle = openSync(join(folder, "probe"), "w");
    const page = Buffer.alloc(4_096, 1);
    const untilMs = systemClock.monotonicMs() + 2_000;
    for (let i = 0; i < 50 && systemClock.monotonicMs() < untilMs; i++) {
      writeSync(handle, page);
      const fromMs = systemClock.monotonicMs();
      fsyncSync(handle);
      took.push(systemClock.monotonicMs() - fromMs);
    }
    closeSync(handle);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
  took.sort((a, b) => a - b);
  const median = took[Math.floor(took.length / 2)] ?? 0;
  const worst = took.at(-1) ?? 0;
  const reason = `half within ${median.toFixed(2)} ms, the slowest of ${took.length} ${worst.toFixed(1)} ms`;
  if (median > 20)
    return { name, status: "warn", reason: `${reason}: every durable commit waits that long`, fix: "Use a faster disk; many callers at once share one fsync." };
  // A flash disk takes 50 us at the least; what is faster has not reached one.
  return median < 0.02
    ? { name, status: "warn", reason: `${reason}: too fast for a disk, it may not reach one`, fix: "Check that the directory is not in memory (tmpfs)." }
    : { name, status: "ok", reason };
}

/** 2025-01-01: a clock before it was never set. */
const leastWallMs = 1_735_689_600_000;

function clockSane(file: string | undefined): Check {
  const name = "clock";
  const nowMs = systemClock.wallMs();
  if (nowMs < leastWallMs) return { name, status: "fail", reason: "the clock stands before 2025", fix: "Set it, and let NTP keep it." };
  const writtenMs = file !== undefined && existsSync(file) ? statSync(file).mtimeMs : undefined;
  if (writtenMs !== undefined && writtenMs > nowMs + 2_000)
    return {
      name,
      status: "fail",
      reason: `the store was written ${Math.round((writtenMs - nowMs) / 1_000)} s in the future: the clock has gone back`,
      fix: "Set it, and let NTP keep it. Due times and leases are judged by it.",
    };
  return { name, status: "ok", reason: "after 2025, and not behind the store" };
}

function portFromEnvironment(text: string | undefined): number {
  const port = Number(text ?? 3_000);
  if (Number.isInteger(port) && port >= 0 && port <= 65_535) return port;
  throw Fault.create("http.bad-port", `PORT must be an integer from 0 to 65535, got ${JSON.stringify(text)}`, "Set PORT to a free port.");
}

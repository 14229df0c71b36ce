/**
 * The shop and its two foreign systems as real processes, on free ports, with their data in a directory of their own that goes
 * with them. The shop can be killed, stopped and started again; payments and mail stay.
 */
import { spawn, type ChildProcess } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer, type AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

export interface ShopProcesses {
  readonly url: string;
  readonly paymentsUrl: string;
  readonly mailUrl: string;
  readonly directory: string;
  /** Everything the shop's processes wrote to stderr so far. */
  stderr(): string;
  /** Resolves when the shop listens; rejects with its stderr when it ends instead. Milliseconds it took, from spawn to ready. */
  start(): Promise<number>;
  /** `kill -9`, and the process is gone. */
  kill(): Promise<void>;
  /** SIGTERM; answers the exit code, or the signal that ended it. */
  terminate(): Promise<number | string>;
  stub(system: "payments" | "mail", options: Readonly<Record<string, unknown>>): Promise<void>;
  [Symbol.asyncDispose](): Promise<void>;
}
export interface ShopProcessesOptions {
  /** Default: `start.ts`. */
  readonly script?: URL;
  /** For the shop only. */
  readonly env?: Readonly<Record<string, string>>;
}

const startWithinMs = 30_000;

export async function shopProcesses({ script = new URL("../start.ts", import.meta.url), env = {} }: ShopProcessesOptions = {}): Promise<ShopProcesses> {
  const directory = mkdtempSync(join(tmpdir(), "trestle-shop-"));
  const running = new Set<ChildProcess>();
  const shared = { ...process.env, TRESTLE_DATA: directory, NODE_COMPILE_CACHE: process.env["NODE_COMPILE_CACHE"] ?? join(tmpdir(), "trestle-compile-cache") };
  let stderr = "";
  let shop: ChildProcess | undefined;

  function run(file: URL, more: Readonly<Record<string, string>>): ChildProcess {
    const child = spawn(process.execPath, ["--disable-warning=ExperimentalWarning", fileURLToPath(file)], {
      env: { ...shared, ...more },
      stdio: ["ignore", "pipe", "pipe"],
    });
    running.add(child);
    child.once("exit", () => running.delete(child));
    child.stderr?.on("data", (chunk: Buffer) => {
      stderr = (stderr + chunk.toString("utf8")).slice(-100_000);
    });
    return child;
  }

  async function firstOutput(child: ChildProcess, from: "stdout" | "stderr", expected: RegExp): Promise<string> {
    let text = "";
    return new Promise((resolve, reject) => {
      const tooLate = setTimeout(() => reject(new Error(`not ready in ${startWithinMs} ms:\n${stderr}`)), startWithinMs);
      child[from]?.on("data", (chunk: Buffer) => {
        text += chunk.toString("utf8");
        const found = expected.exec(text);
        if (!found) return;
        clearTimeout(tooLate);
        resolve(found[0]);
      });
      child.once("exit", (code, signal) => {
        clearTimeout(tooLate);
        reject(new Error(`it ended (${code ?? signal}) before it was ready:\n${stderr}`));
      });
    });
  }

  async function ended(child: ChildProcess, signal: NodeJS.Signals): Promise<number | string> {
    if (child.exitCode !== null || child.signalCode !== null) return child.exitCode ?? child.signalCode ?? "gone";
    const exit = new Promise<number | string>((resolve) => child.once("exit", (code, by) => resolve(code ?? by ?? "gone")));
    child.kill(signal);
    return exit;
  }

  const [paymentsUrl, mailUrl] = await Promise.all([
    firstOutput(run(new URL("../payments/main.ts", import.meta.url), { PAYMENTS_PORT: "0" }), "stdout", /http:\S+/),
    firstOutput(run(new URL("../mail/main.ts", import.meta.url), { MAIL_PORT: "0" }), "stdout", /http:\S+/),
  ]);
  const port = await freePort();

  return {
    url: `http://localhost:${port}`,
    paymentsUrl,
    mailUrl,
    directory,
    stderr: () => stderr,
    async start() {
      const beganAtMs = performance.now();
      shop = run(script, { PORT: String(port), PAYMENTS_URL: paymentsUrl, MAIL_URL: mailUrl, ...env });
      await firstOutput(shop, "stderr", /ready in \d+ ms/);
      return performance.now() - beganAtMs;
    },
    async kill() {
      if (shop) await ended(shop, "SIGKILL");
    },
    terminate: async () => (shop ? ended(shop, "SIGTERM") : "not started"),
    async stub(system, options) {
      const answer = await fetch(`${system === "mail" ? mailUrl : paymentsUrl}/_stub`, { method: "PUT", body: JSON.stringify(options) });
      if (!answer.ok) throw new Error(`the stub of ${system} answered ${answer.status}: ${await answer.text()}`);
    },
    async [Symbol.asyncDispose]() {
      await Promise.all([...running].map((child) => ended(child, "SIGKILL")));
      rmSync(directory, { recursive: true, force: true });
    },
  };
}

/** Free now, and in all likelihood still free in a second: a shop that starts again must find its port again. */
export async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}

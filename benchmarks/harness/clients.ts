/** Clients run in a process of their own, so that what they cost is not the server's. */
import { spawn } from "node:child_process";
import { fileURLToPath } from "node:url";
import type { Measured } from "./benchmark.ts";

/** Runs `closed-loop-client.ts` or `open-loop-client.ts` and answers what it measured. */
export function runClient(client: "closed-loop-client" | "open-loop-client", ...args: readonly (string | number)[]): Promise<Measured> {
  // A client is not on the server's slow disk.
  const { LD_PRELOAD: _, ...env } = process.env;
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [fileURLToPath(new URL(`./${client}.ts`, import.meta.url)), ...args.map(String)], {
      stdio: ["ignore", "ignore", "inherit", "ipc"],
      env,
    });
    let measured: Measured | undefined;
    child.on("message", (message) => (measured = message as Measured));
    child.on("error", reject);
    child.on("exit", (code) => (measured && code === 0 ? resolve(measured) : reject(new Error(`${client} ended with ${code}`))));
  });
}

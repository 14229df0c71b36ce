/**
 * The program beside every process that starts servers. Standard input tells it what to clear away, one line each; when standard input
 * ends, whoever started it is gone, however it went, and everything that is still named is killed and removed. Signals of a
 * terminal do not reach it: it leads a session of its own.
 *
 *     process <pid> <start>     kill it and all below it, if it is still the one that started then
 *     container <engine> <name> kill it
 *     shared-memory <id>        remove this System V segment
 *     directory <path>          remove it, after the processes
 *     forget <line>             one of the above is settled
 */
import { spawnSync } from "node:child_process";
import { rmSync } from "node:fs";
import { createInterface } from "node:readline";
import { killTree, startOf } from "./process-tree.ts";

const charges = new Set<string>();

for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.on(signal, () => undefined);
const lines = createInterface({ input: process.stdin });
lines.on("line", (line) => {
  if (line.startsWith("forget ")) charges.delete(line.slice("forget ".length));
  else charges.add(line);
});
lines.on("close", () => {
  const named = (what: string) => [...charges].filter((line) => line.startsWith(`${what} `)).map((line) => line.slice(what.length + 1));
  for (const charge of named("process")) {
    const [pid, startedAt] = split(charge);
    if (startOf(Number(pid)) === startedAt) killTree(Number(pid));
  }
  for (const charge of named("container")) {
    const [engine, name] = split(charge);
    spawnSync(engine, ["kill", name], { stdio: "ignore", timeout: 10_000 });
  }
  for (const id of named("shared-memory")) spawnSync("ipcrm", ["-m", id], { stdio: "ignore" });
  for (const path of named("directory")) rmSync(path, { recursive: true, force: true, maxRetries: 20, retryDelay: 50 });
});

function split(charge: string): [string, string] {
  const at = charge.indexOf(" ");
  return [charge.slice(0, at), charge.slice(at + 1)];
}

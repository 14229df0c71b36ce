/**
 * The name of a process among those that share a file, for as long as it has the file open: `<pid>.<pid namespace>.<random>`. Process ids
 * mean something within one namespace only: of a process in another one (a container's) nobody here can tell by its id whether it lives.
 */
import { readlinkSync } from "node:fs";
import { systemRandom, type Random } from "../kernel/index.ts";

/** The number of this process's pid namespace; empty where the system has none. On Linux without a readable /proc, a name that nobody else has. */
const namespace = (() => {
  try {
    return /\d+/.exec(readlinkSync("/proc/self/ns/pid"))?.[0] ?? "";
  } catch {
    return process.platform === "linux" ? `unread-${process.pid}-${systemRandom.uint32()}` : "";
  }
})();

export function newSession(random: Random, pid = process.pid, of = namespace): string {
  return `${pid}.${of}.${random.uint32().toString(36)}${random.uint32().toString(36)}`;
}

/** `true`: its process is known to have ended. Nobody here has its process id, or we do, with another session. */
export function isGone(session: string, own: string): boolean {
  if (session === "") return true; // it had the file alone
  const [pidText, of] = session.split(".");
  if (session === own || of !== own.split(".")[1]) return false;
  const pid = Number(pidText);
  if (!Number.isInteger(pid) || pid <= 0 || pid === process.pid) return true;
  try {
    process.kill(pid, 0);
    return false;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "ESRCH";
  }
}

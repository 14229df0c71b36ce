/**
 * A process with all it started, and signals to the whole of it. Servers fork, and some of what they fork leads a session of its own
 * (PostgreSQL's backends), so a process group does not reach it: parents are followed instead. Linux reads /proc, elsewhere `ps` is asked.
 */
import { spawnSync } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";

interface Row {
  readonly pid: number;
  readonly parent: number;
  readonly dead: boolean;
  readonly startedAt: string;
}

/** The process and all below it, parents before children. Empty when it is gone. */
export function processTree(root: number): readonly number[] {
  const rows = processes();
  if (!rows.some(({ pid, dead }) => pid === root && !dead)) return [];
  const found = [root];
  for (const pid of found) for (const row of rows) if (row.parent === pid && !row.dead && !found.includes(row.pid)) found.push(row.pid);
  return found;
}

/** Stops the process and all below it, so that nothing is forked any more. Answers whom it reached. */
export function freezeTree(root: number): readonly number[] {
  const reached = new Set<number>();
  for (let found = processTree(root); found.some((pid) => !reached.has(pid)); found = processTree(root)) {
    for (const pid of found) {
      if (reached.has(pid)) continue;
      reached.add(pid);
      signalTo(pid, "SIGSTOP");
    }
  }
  return [...reached];
}

export function thawTree(root: number): void {
  // Children first: a parent that wakes up before them may take them for hung.
  for (const pid of processTree(root).toReversed()) signalTo(pid, "SIGCONT");
}

/** All of it at one instant, as far as that can be: nobody sees the others die. Answers whom it reached. */
export function killTree(root: number): readonly number[] {
  const reached = freezeTree(root);
  for (const pid of reached) signalTo(pid, "SIGKILL");
  return reached;
}

/** False when there is no such process any more. */
export function signalTo(pid: number, signal: NodeJS.Signals): boolean {
  try {
    return process.kill(pid, signal);
  } catch {
    return false;
  }
}

/** A dead process that nobody has collected yet is not alive. */
export function isAlive(pid: number): boolean {
  return processes([pid]).some((row) => row.pid === pid && !row.dead);
}

/** Tells a process from a later one with the same number; `undefined` when it is gone. */
export function startOf(pid: number): string | undefined {
  return processes([pid]).find((row) => row.pid === pid && !row.dead)?.startedAt;
}

function processes(only?: readonly number[]): readonly Row[] {
  return process.platform === "linux" ? (only ?? numbersInProc()).flatMap(fromProc) : fromPs();
}

function numbersInProc(): readonly number[] {
  return readdirSync("/proc").flatMap((name) => (/^\d+$/.test(name) ? [Number(name)] : []));
}

function fromProc(pid: number): readonly Row[] {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" "); // from field 3 on: the name before it may hold anything
    return [{ pid, parent: Number(fields[1]), dead: fields[0] === "Z" || fields[0] === "X", startedAt: fields[19] as string }];
  } catch {
    return []; // it ended while we looked
  }
}

function fromPs(): readonly Row[] {
  const { stdout } = spawnSync("ps", ["-axo", "pid=,ppid=,state=,lstart="], { encoding: "utf8" });
  return stdout.split("\n").flatMap((line) => {
    const [, pid, parent, state, startedAt] = /^\s*(\d+)\s+(\d+)\s+(\S+)\s+(.+?)\s*$/.exec(line) ?? [];
    return pid === undefined ? [] : [{ pid: Number(pid), parent: Number(parent), dead: (state as string).startsWith("Z"), startedAt: startedAt as string }];
  });
}

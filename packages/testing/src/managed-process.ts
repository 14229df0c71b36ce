/**
 * A process that a test starts, stops, kills, pauses and starts again under one port. What it writes is kept (the last 64 KB) and is part
 * of every fault about it. Operations take turns in the order they were called; each is idempotent and bounded.
 *
 * stopped  → start(): launched; ready: running · ended first, or not ready in time: a fault with its output, stopped
 * running  → stop(): asked by signal, killed when it takes longer than its bound: stopped · kill(): stopped
 *            pause(): every process of it stands still: paused · it ends by itself: stopped
 * paused   → resume(): running · stop(): resumed first · kill(): stopped
 * any      → close(): killed, then never started again: closed
 */
import { spawn, spawnSync, type ChildProcess } from "node:child_process";
import { Fault, systemClock } from "trestle/kernel";
import { guardContainer, guardProcess } from "./guard.ts";
import { freezeTree, isAlive, killTree, thawTree } from "./process-tree.ts";

export interface Launch {
  readonly command: string;
  readonly args: readonly string[];
  readonly env?: Readonly<Record<string, string | undefined>>;
  readonly cwd?: string;
  readonly uid?: number;
  readonly gid?: number;
  /** It runs inside a container: signals go through the engine, to this container. */
  readonly container?: { readonly engine: string; readonly name: string };
}

export interface ManagedProcessOptions {
  /** Names it in faults. */
  readonly name: string;
  /** What to run; asked at each start. */
  readonly launch: () => Promise<Launch> | Launch;
  /** In its output, on stdout or stderr, when it is ready. */
  readonly ready: RegExp;
  /** Default SIGTERM. */
  readonly stopSignal?: NodeJS.Signals;
  /** Default 30,000. */
  readonly startWithinMs?: number;
  /** Default 10,000; afterwards it is killed. */
  readonly stopWithinMs?: number;
  /** After it was killed: what its crash leaves in the way of the next start. */
  readonly afterKill?: () => Promise<void> | void;
}

export type ProcessState = "stopped" | "running" | "paused" | "closed";

export interface ManagedProcess extends AsyncDisposable {
  readonly state: ProcessState;
  /** `undefined` when it does not run. */
  readonly pid: number | undefined;
  /** How it ended last: its exit code, or the signal that ended it. */
  readonly ended: number | NodeJS.Signals | undefined;
  /** The end of what it wrote to stdout and stderr, over all its starts. */
  log(): string;
  /** Milliseconds from launch to ready; 0 when it runs already. Faults: `testing.not-started`, `testing.closed`. */
  start(): Promise<number>;
  /** Answers how it ended. */
  stop(): Promise<number | NodeJS.Signals | undefined>;
  /** `kill -9` of it and all its children at one instant. Resolves when they are gone. */
  kill(): Promise<void>;
  /** Stops and starts it. */
  restart(): Promise<void>;
  /** SIGSTOP to it and all its children. Fault: `testing.not-running`. */
  pause(): Promise<void>;
  resume(): Promise<void>;
  /** Signals the process itself, not its children. Fault: `testing.not-running`. */
  signal(signal: NodeJS.Signals): Promise<void>;
  /** Resolves with what was found in its output from `from` (of `log`'s position, default 0) on. Fault: `testing.not-in-log`. */
  logged(pattern: RegExp, options?: { readonly from?: number; readonly withinMs?: number }): Promise<string>;
  /** How much it has written so far, for `logged`. */
  readonly logPosition: number;
  /** Kills it for good. */
  close(): Promise<void>;
}

const keptLogChars = 65_536;

export function managedProcess(options: ManagedProcessOptions): ManagedProcess {
  const { name, stopSignal = "SIGTERM", startWithinMs = 30_000, stopWithinMs = 10_000 } = options;
  const output = keptOutput(name);
  let state: ProcessState = "stopped";
  let child: ChildProcess | undefined;
  let container: Launch["container"];
  let ended: number | NodeJS.Signals | undefined;
  let turn: Promise<unknown> = Promise.resolve();

  const inTurn = <T>(work: () => Promise<T>): Promise<T> => {
    const mine = turn.then(work);
    turn = mine.catch(() => undefined);
    return mine;
  };
  const gone = (of: ChildProcess) => of.exitCode !== null || of.signalCode !== null;
  const exit = (of: ChildProcess) => (gone(of) ? Promise.resolve() : new Promise<void>((resolve) => of.once("exit", () => resolve())));
  const engine = (...args: readonly string[]) => {
    const { engine: command, name: of } = container as NonNullable<Launch["container"]>;
    spawnSync(command, [...args, of], { stdio: "ignore", timeout: 10_000 });
  };

  async function start(): Promise<number> {
    if (state === "closed") throw closedFault(name);
    if (state === "paused") resume();
    if (state === "running") return 0;
    const launch = await options.launch();
    const fromMs = systemClock.monotonicMs();
    const from = output.position;
    const launched = spawn(launch.command, launch.args, {
      env: { ...process.env, ...launch.env },
      stdio: ["ignore", "pipe", "pipe"],
      ...(launch.cwd !== undefined && { cwd: launch.cwd }),
      ...(launch.uid !== undefined && { uid: launch.uid }),
      ...(launch.gid !== undefined && { gid: launch.gid }),
    });
    let failed: Error | undefined;
    launched.on("error", (error) => {
      failed = error;
      if (child === launched) child = undefined;
    });
    for (const stream of [launched.stdout, launched.stderr]) stream?.setEncoding("utf8").on("data", output.add);
    ({ container } = launch);
    const charges = [
      ...(launched.pid === undefined ? [] : [guardProcess(launched.pid)]),
      ...(container ? [guardContainer(container.engine, container.name)] : []),
    ];
    child = launched;
    launched.once("exit", (code, signal) => {
      ended = code ?? signal ?? undefined;
      for (const settled of charges) settled();
      if (child !== launched) return;
      child = undefined;
      if (state !== "closed") state = "stopped";
    });
    await Promise.race([
      output.find(options.ready, from, startWithinMs),
      exit(launched),
      new Promise<void>((resolve) => launched.once("error", () => resolve())),
    ]);
    if (output.has(options.ready, from) && !gone(launched)) {
      state = "running";
      return systemClock.monotonicMs() - fromMs;
    }
    const why = failed?.message ?? (gone(launched) ? `it ended (${launched.exitCode ?? launched.signalCode})` : `it was not ready within ${startWithinMs} ms`);
    await kill();
    throw Fault.create(
      "testing.not-started",
      `${name} did not start: ${why}.\n${output.since(from).trim()}`,
      "Read its output in this message.",
      failed && { cause: failed },
    );
  }

  async function kill(): Promise<void> {
    const victim = child;
    if (victim?.pid === undefined) return;
    if (container) engine("kill");
    const reached = container ? [] : killTree(victim.pid);
    if (container) killTree(victim.pid);
    await exit(victim);
    // Children belong to somebody else now, who collects them in his own time. Each look is a read of /proc.
    while (reached.some(isAlive)) await new Promise<void>((resolve) => systemClock.soon(resolve));
    if (state !== "closed") state = "stopped";
    await options.afterKill?.();
  }

  async function stop(): Promise<number | NodeJS.Signals | undefined> {
    const asked = child;
    if (!asked) return ended;
    if (state === "paused") resume();
    sendSignal(stopSignal);
    const bound = systemClock.after(stopWithinMs, () => void kill());
    await exit(asked);
    bound.cancel();
    if (state !== "closed") state = "stopped";
    return ended;
  }

  function resume(): void {
    if (state !== "paused" || child?.pid === undefined) return;
    if (container) engine("unpause");
    else thawTree(child.pid);
    state = "running";
  }

  function sendSignal(signal: NodeJS.Signals): void {
    if (container) engine("kill", `--signal=${signal}`);
    else child?.kill(signal);
  }

  function mustRun(what: string): ChildProcess {
    if (child && (state === "running" || state === "paused")) return child;
    throw Fault.create("testing.not-running", `${name} cannot be ${what}: it is ${state}.`, "Start it first.");
  }

  const handle: ManagedProcess = {
    get state() {
      return state;
    },
    get pid() {
      return child?.pid;
    },
    get ended() {
      return ended;
    },
    get logPosition() {
      return output.position;
    },
    log: () => output.since(0),
    start: () => inTurn(start),
    stop: () => inTurn(stop),
    kill: () => inTurn(kill),
    restart: () =>
      inTurn(async () => {
        await stop();
        await start();
      }),
    pause: () =>
      inTurn(async () => {
        const { pid } = mustRun("paused");
        if (state === "paused") return;
        if (container) engine("pause");
        else freezeTree(pid as number);
        state = "paused";
      }),
    resume: () => inTurn(async () => resume()),
    signal: (signal) =>
      inTurn(async () => {
        mustRun("signalled");
        sendSignal(signal);
      }),
    async logged(pattern, { from = 0, withinMs = 30_000 } = {}) {
      await output.find(pattern, from, withinMs);
      const found = pattern.exec(output.since(from));
      if (found) return found[0];
      throw Fault.create(
        "testing.not-in-log",
        `${name} did not write ${pattern} within ${withinMs} ms.\n${output.since(from).trim()}`,
        "Read its output in this message.",
      );
    },
    close: () =>
      inTurn(async () => {
        if (state === "closed") return;
        await kill();
        state = "closed";
      }),
    [Symbol.asyncDispose]: () => handle.close(),
  };
  return handle;
}

export function closedFault(name: string): Fault {
  return Fault.create("testing.closed", `${name} was closed.`, "Make a new one.");
}

/** What a process wrote: the last 64 KB of it, by positions in the whole. With TRESTLE_TEST_LOGS set it is told to stderr as well. */
function keptOutput(name: string) {
  let kept = "";
  let dropped = 0;
  const waiting = new Set<() => void>();
  const since = (from: number) => kept.slice(Math.max(0, from - dropped));
  const has = (pattern: RegExp, from: number) => pattern.test(since(from));
  return {
    get position() {
      return dropped + kept.length;
    },
    since,
    has,
    add(text: string) {
      kept += text;
      if (kept.length > 2 * keptLogChars) {
        dropped += kept.length - keptLogChars;
        kept = kept.slice(-keptLogChars);
      }
      if (process.env["TRESTLE_TEST_LOGS"]) process.stderr.write(text.replaceAll(/^(?=.)/gm, `${name}: `));
      for (const look of waiting) look();
    },
    /** Resolves when it is there, or after the bound. */
    find(pattern: RegExp, from: number, withinMs: number): Promise<void> {
      if (has(pattern, from)) return Promise.resolve();
      return new Promise((resolve) => {
        const done = () => {
          waiting.delete(look);
          bound.cancel();
          resolve();
        };
        const look = () => {
          if (has(pattern, from)) done();
        };
        const bound = systemClock.after(withinMs, done);
        waiting.add(look);
      });
    },
  };
}

/**
 * An app as several processes of one machine: `TRESTLE_PROCESSES=4`, or by role `web:2,worker:2`. The first process supervises: it starts the
 * others with the same script, arguments and environment, and serves nothing itself. `node:cluster` gives them one port (record 0013).
 *
 * States of a process: `starting` (until its `start` has ended), `ready`, `down` (it ended unasked, and is started again after a pause that doubles
 * from 100 ms to 10 s, and is short again once it has been up for a minute), `over`. The first one starts alone, so that
 * migrations and seeds run once; the others start when it is ready. One that ends before all were ready once ends everything with its exit code, for
 * what keeps it from starting will not mend itself.
 *
 * Liveness, from when all were ready once (before, what is slow may be a migration): once a second the supervisor asks each process that is `ready`, over the channel between them, whether its event loop turns. One that leaves
 * `silentLooks` looks in a row without an answer (it was stopped, its loop is stuck) is killed, and so `down`; one that is started again and still `starting` after `startLooks` looks likewise. Silence is counted in looks, not in time: of a machine that slept, or a supervisor that got no turn, nobody dies. Whether a process can serve is another question (`/_trestle/health/ready`).
 *
 * Stopping: SIGTERM and SIGINT tell every process to drain; who has not ended 20 s later, or at a second signal, is killed. A supervisor that is
 * killed takes its processes with it (node:cluster). Output: lines of JSON get a field `process`, others a prefix.
 */
import type { Cluster, Worker } from "node:cluster";
import { createServer, type AddressInfo } from "node:net";
import type { Readable } from "node:stream";
import { MessageChannel } from "node:worker_threads";
import { Fault, integerWithin, systemClock, type Clock, type Timer } from "../kernel/index.ts";
import type { Down, Part, Up } from "./supervised.ts";

export interface ProcessPlan {
  /** `web.1`; without roles `node.1`. */
  readonly name: string;
  /** `undefined`: all. */
  readonly role: string | undefined;
}

const processesMax = 64;

/** `4`, or `web:2,worker:2`. Fault: `processes.bad-plan`. */
export function processPlan(text: string, roles: readonly string[]): readonly ProcessPlan[] {
  const bad = (why: string) =>
    Fault.create(
      "processes.bad-plan",
      `TRESTLE_PROCESSES must be a number, or roles with numbers: ${why}, got ${JSON.stringify(text)}`,
      "Write 4, or web:2,worker:2.",
    );
  const counted = (count: string | undefined): number => {
    const number = /^[1-9][0-9]?$/.test(count ?? "") ? Number(count) : 0;
    if (number < 1 || number > processesMax) throw bad(`each number is from 1 to ${processesMax}`);
    return number;
  };
  const named = (name: string, role: string | undefined, count: number) => Array.from({ length: count }, (_, i) => ({ name: `${name}.${i + 1}`, role }));
  if (!text.includes(":")) return named("node", undefined, counted(text.trim()));
  const seen = new Set<string>();
  const plan = text.split(",").flatMap((part) => {
    const [role, count, ...rest] = part.trim().split(":");
    if (role === undefined || rest.length > 0) throw bad("each part is role:number");
    if (!roles.includes(role)) throw bad(`the app has the roles ${roles.join(", ") || "(none)"}`);
    if (seen.has(role)) throw bad(`each role comes once`);
    seen.add(role);
    return named(role, role, counted(count));
  });
  if (plan.length > processesMax) throw bad(`there are at most ${processesMax} processes`);
  return plan;
}

export interface SuperviseOptions {
  readonly plan: readonly ProcessPlan[];
  /** Where those that serve listen; 0, the default, is any free port. */
  readonly port?: number | undefined;
  /** Beside the environment of this process. */
  readonly env?: Readonly<Record<string, string>>;
  /** All are ready: where they listen, `""` when they serve nothing. */
  readonly onReady?: (url: string, processes: readonly { readonly name: string; readonly pid: number }[]) => void;
  /** So many looks in a row, one a second, without an answer, and a process is killed and started again. 3 to 3,600, 0: never. Default 30, or TRESTLE_SILENT_LOOKS. */
  readonly silentLooks?: number | undefined;
  /** After so many looks a process that was started again and is not ready is killed and started once more. 3 to 3,600, 0: never. Default 300, or TRESTLE_START_LOOKS. */
  readonly startLooks?: number | undefined;
  readonly out?: (line: string) => void;
  readonly error?: (line: string) => void;
}

/**
 * What Node is told of a process beside what it was told of this one. Each process keeps two halves of a young generation per thread, filled before
 * it looks what of it is garbage: half their size is a third less memory before 150,000 jobs (340 to 230 MB), at the same rate (`npm run bench -- memory`). A bound on
 * the heap itself would save more, and end a process that needs more: that is for whoever knows the app. Who has said how large the young generation is, is heard.
 */
export function processFlags(given: readonly string[], nodeOptions = ""): readonly string[] {
  const said = [...given, ...nodeOptions.split(/\s+/)].some((flag) => /^--(max|min)[-_]semi[-_]space[-_]size/.test(flag));
  return said ? given : [...given, "--max-semi-space-size=8"];
}

const killAfterMs = 20_000;
const tellWithinMs = 1_000;
const pauseMsLeast = 100;
const pauseMsMost = 10_000;
const steadyAfterMs = 60_000;
const lookEveryMs = 1_000;
const looks = {
  silentLooks: { variable: "TRESTLE_SILENT_LOOKS", byDefault: 30 },
  startLooks: { variable: "TRESTLE_START_LOOKS", byDefault: 300 },
} as const;

/** Runs until every process has ended; answers the exit code. Fault: `option.out-of-range`. */
export async function supervise(options: SuperviseOptions): Promise<number> {
  return new Supervisor(options).run();
}

/** Fault: `option.out-of-range`. */
export function looksOf(option: keyof typeof looks, given: number | undefined, environment: Readonly<Record<string, string | undefined>>): number {
  const { variable, byDefault } = looks[option];
  const said = environment[variable];
  const [most, name] = given === undefined && said !== undefined ? [Number(said), variable] : [given ?? byDefault, option];
  return most === 0 ? Infinity : integerWithin(most, name, { least: 3, most: 3_600 });
}

interface Child {
  readonly plan: ProcessPlan;
  state: "starting" | "ready" | "down" | "over";
  worker: Worker | undefined;
  restarts: number;
  pauseMs: number;
  startedMs: number;
  again: Timer | undefined;
  /** Looks since it was asked or seen starting; undefined before that, and once it has answered. */
  silent: number | undefined;
}

class Supervisor {
  readonly #options: SuperviseOptions;
  readonly #clock: Clock = systemClock;
  readonly #children: readonly Child[];
  readonly #looksMost: Readonly<Record<Child["state"], number>>;
  readonly #out: (line: string) => void;
  readonly #error: (line: string) => void;
  readonly #asked = new Map<number, (from: Child, value: unknown) => void>();
  #questions = 0;
  #url = "";
  #port = 0;
  #allReady = false;
  #stopping: "SIGTERM" | "SIGINT" | "failed" | undefined;
  #code = 0;
  #end!: (code: number) => void;
  #cluster!: Cluster;

  constructor(options: SuperviseOptions) {
    this.#options = options;
    this.#out = options.out ?? ((line) => void process.stdout.write(`${line}\n`));
    this.#error = options.error ?? ((line) => void process.stderr.write(`${line}\n`));
    this.#children = options.plan.map((plan) => ({
      plan,
      state: "starting",
      worker: undefined,
      restarts: 0,
      pauseMs: pauseMsLeast,
      startedMs: 0,
      again: undefined,
      silent: undefined,
    }));
    this.#looksMost = {
      starting: looksOf("startLooks", options.startLooks, process.env),
      ready: looksOf("silentLooks", options.silentLooks, process.env),
      down: Infinity,
      over: Infinity,
    };
  }

  async run(): Promise<number> {
    this.#cluster = (await import("node:cluster")).default;
    this.#cluster.setupPrimary({ silent: true, execArgv: [...processFlags(process.execArgv, process.env["NODE_OPTIONS"])] });
    const signals = (["SIGTERM", "SIGINT"] as const).map((signal) => [signal, () => this.#signalled(signal)] as const);
    for (const [signal, listener] of signals) process.on(signal, listener);
    const ended = new Promise<number>((resolve) => (this.#end = resolve));
    // Any free port is chosen once, so that whoever starts again comes back to it.
    this.#port = this.#options.port || (await freePort());
    this.#start(this.#children[0] as Child);
    let looking: Timer | undefined;
    const look = () => {
      for (const child of this.#children) this.#look(child);
      looking = this.#clock.after(lookEveryMs, look);
    };
    look();
    // Between the end of the last process and its next start nothing else keeps this one alive: the kernel's timers do not.
    const alive = new MessageChannel();
    alive.port1.on("message", () => undefined);
    const code = await ended;
    alive.port1.close();
    looking?.cancel();
    for (const [signal, listener] of signals) process.off(signal, listener);
    return code;
  }

  #start(child: Child): void {
    const { name, role } = child.plan;
    child.state = "starting";
    child.startedMs = this.#clock.monotonicMs();
    const worker = this.#cluster.fork({
      ...process.env,
      ...this.#options.env,
      TRESTLE_PROCESS_PORT: String(this.#port),
      TRESTLE_PROCESS: name,
      ...(role !== undefined && { TRESTLE_ROLES: role }),
    });
    child.worker = worker;
    lines(worker.process.stdout, (line) => this.#out(labelled(name, line)));
    lines(worker.process.stderr, (line) => this.#error(labelled(name, line)));
    worker.on("message", (message: Up) => this.#heard(child, message));
    worker.on("error", () => undefined); // its exit says all
    worker.process.once("exit", (code, signal) => this.#ended(child, code, signal));
  }

  #look(child: Child): void {
    const { state } = child;
    const most = this.#looksMost[state];
    if (!this.#allReady || this.#stopping || most === Infinity) return;
    if (child.silent === undefined) {
      child.silent = 0; // one question at a time: what does not read is sent no more
      return state === "ready" ? tell(child, { trestle: "alive?" }) : undefined;
    }
    if (++child.silent < most) return;
    child.state = "down";
    this.#error(`${child.plan.name} has not ${state === "ready" ? "answered for" : "become ready in"} ${child.silent} looks, one a second: it is killed`);
    child.worker?.process.kill("SIGKILL");
  }

  #heard(child: Child, message: Up): void {
    switch (message.trestle) {
      case "ready":
        child.state = "ready";
        child.silent = undefined;
        if (message.url !== "") this.#url = message.url;
        for (const other of this.#children) if (!other.worker && other.state === "starting" && !this.#stopping) this.#start(other);
        if (this.#allReady || this.#children.some(({ state }) => state !== "ready")) return;
        this.#allReady = true;
        return this.#options.onReady?.(
          this.#url,
          this.#children.map(({ plan, worker }) => ({ name: plan.name, pid: worker?.process.pid as number })),
        );
      case "ask":
        return this.#ask(child, message.id);
      case "alive":
        child.silent = undefined;
        return;
      case "told":
        return this.#asked.get(message.id)?.(child, message.value);
    }
  }

  /** Asks all processes, and tells the one that wants to know what they said; one that does not answer in time has said nothing. */
  #ask(asker: Child, id: number): void {
    const question = ++this.#questions;
    const values = new Map<Child, unknown>();
    const asked = this.#children.filter(({ state }) => state === "ready");
    const done = () => {
      timer.cancel();
      this.#asked.delete(question);
      const parts = this.#children.map((child): Part => ({
        name: child.plan.name,
        pid: child.worker?.process.pid ?? 0,
        role: child.plan.role,
        restarts: child.restarts,
        value: values.get(child),
      }));
      tell(asker, { trestle: "whole", id, parts });
    };
    const timer = this.#clock.after(tellWithinMs, done);
    this.#asked.set(question, (from, value) => {
      values.set(from, value);
      if (values.size === asked.length) done();
    });
    for (const child of asked) tell(child, { trestle: "tell", id: question });
  }

  #ended(child: Child, code: number | null, signal: string | null): void {
    const { name } = child.plan;
    child.worker = child.silent = undefined;
    if (this.#stopping) {
      child.state = "over";
      // 130: it was a terminal's Ctrl-C that all of its processes got.
      if (code !== 0 && code !== 130 && this.#code === 0) this.#code = code ?? 1;
      return this.#settle();
    }
    if (!this.#allReady) {
      this.#error(`${name} ended before it was ready (${signal ?? `exit code ${code}`}); the others are stopped`);
      child.state = "over";
      this.#code = code === null || code === 0 ? 1 : code;
      return this.#stop("failed");
    }
    if (this.#clock.monotonicMs() - child.startedMs > steadyAfterMs) child.pauseMs = pauseMsLeast;
    child.state = "down";
    child.restarts++;
    this.#error(`${name} ended (${signal ?? `exit code ${code}`}); it is started again in ${child.pauseMs} ms`);
    child.again = this.#clock.after(child.pauseMs, () => this.#start(child));
    child.pauseMs = Math.min(child.pauseMs * 2, pauseMsMost);
  }

  #signalled(signal: "SIGTERM" | "SIGINT"): void {
    if (!this.#stopping) return this.#stop(signal);
    for (const { worker } of this.#children) worker?.process.kill("SIGKILL");
  }

  #stop(why: "SIGTERM" | "SIGINT" | "failed"): void {
    this.#stopping = why;
    for (const child of this.#children) {
      child.again?.cancel();
      if (child.worker) child.worker.process.kill("SIGTERM");
      else child.state = "over";
    }
    const timer = this.#clock.after(killAfterMs, () => {
      for (const { worker, plan } of this.#children) {
        if (!worker) continue;
        this.#error(`${plan.name} has not ended after ${killAfterMs / 1_000} s and is killed`);
        worker.process.kill("SIGKILL");
      }
    });
    void timer;
    this.#settle();
  }

  #settle(): void {
    if (this.#children.every(({ state }) => state === "over")) this.#end(this.#stopping === "SIGINT" && this.#code === 0 ? 130 : this.#code);
  }
}

function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once("error", reject);
    server.listen(0, () => {
      const { port } = server.address() as AddressInfo;
      server.close(() => resolve(port));
    });
  });
}

function tell({ worker }: Child, message: Down): void {
  if (worker?.isConnected()) worker.send(message, () => undefined);
}

/** Whole lines; the last one also without its end. */
function lines(stream: Readable | null, each: (line: string) => void): void {
  let rest = "";
  stream?.setEncoding("utf8").on("data", (text: string) => {
    const all = (rest + text).split("\n");
    rest = all.pop() as string;
    for (const line of all) each(line);
  });
  stream?.on("end", () => rest !== "" && each(rest));
}

/** A log line stays JSON. */
export function labelled(name: string, line: string): string {
  return line.startsWith('{"') ? `{"process":${JSON.stringify(name)},${line.slice(1)}` : `${name} | ${line}`;
}

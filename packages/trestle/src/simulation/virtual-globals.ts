/**
 * The language's own clock, timers and chance, made somebody else's: for a simulator whose users' code says `Date.now()`, `setTimeout` or
 * `crypto.randomUUID()`. Where `current()` answers nothing, everything is as it was.
 *
 * What would reach outside of the process (sockets, names, other programs, threads, files that are written or read in the background) cannot be
 * simulated, and throws `simulation.outside-world`, naming what to do instead. Reading a file at once is left: a program's own files do not change
 * while it runs.
 *
 * A reference that was taken before (`const { now } = Date` in a module) is not caught; running a seed twice finds what comes of it.
 */
import childProcess from "node:child_process";
import nodeCrypto from "node:crypto";
import dgram from "node:dgram";
import dns from "node:dns";
import dnsPromises from "node:dns/promises";
import fs from "node:fs";
import fsPromises from "node:fs/promises";
import http from "node:http";
import http2 from "node:http2";
import https from "node:https";
import { syncBuiltinESMExports } from "node:module";
import net from "node:net";
import timers from "node:timers";
import timersPromises from "node:timers/promises";
import tls from "node:tls";
import workerThreads from "node:worker_threads";
import { Fault, formatUuidv4, type Clock, type Random } from "../kernel/index.ts";

/** Whose code is running. */
export interface Surroundings {
  readonly clock: Clock;
  readonly random: Random;
  readonly fetch: typeof fetch;
}

type Target = Record<PropertyKey, unknown>;

/** Replaces them, and answers how to put everything back. */
export function virtualGlobals(current: () => Surroundings | undefined): () => void {
  const undo: (() => void)[] = [];
  const replace = (target: object, name: PropertyKey, make: (real: never) => unknown): void => {
    const descriptor = Object.getOwnPropertyDescriptor(target, name);
    if (!descriptor) return;
    const real = (target as Target)[name];
    Object.defineProperty(target, name, {
      value: make(real as never),
      configurable: true,
      writable: true,
      enumerable: descriptor.enumerable ?? true,
    });
    undo.push(() => void Object.defineProperty(target, name, descriptor));
  };

  replaceTime(replace, current);
  replaceTimers(replace, current);
  replaceChance(replace, current);
  replace(
    globalThis,
    "fetch",
    (real: typeof fetch) =>
      (...given: Parameters<typeof fetch>) =>
        (current()?.fetch ?? real)(...given),
  );
  forbidOutside(replace, current);
  syncBuiltinESMExports();
  return () => {
    for (const put of undo.splice(0).reverse()) put();
    syncBuiltinESMExports();
  };
}

type Replace = (target: object, name: PropertyKey, make: (real: never) => unknown) => void;
type Current = () => Surroundings | undefined;

function replaceTime(replace: Replace, current: Current): void {
  replace(globalThis, "Date", (Real: DateConstructor) => {
    const now = () => {
      const here = current();
      return here ? Math.floor(here.clock.wallMs()) : Real.now();
    };
    return new Proxy(Real, {
      construct: (target, given, newTarget) => Reflect.construct(target, given.length === 0 ? [now()] : given, newTarget) as object,
      apply: () => new Real(now()).toString(),
      get: (target, name, receiver) => (name === "now" ? now : (Reflect.get(target, name, receiver) as unknown)),
    });
  });
  const perform = Object.getPrototypeOf(performance) as typeof performance;
  replace(
    perform,
    "now",
    (real: () => number) =>
      function (this: unknown) {
        return current()?.clock.monotonicMs() ?? real.call(performance);
      },
  );
  replace(process, "uptime", (real: () => number) => () => {
    const here = current();
    return here ? here.clock.monotonicMs() / 1_000 : real.call(process);
  });
  replace(process, "hrtime", (real: NodeJS.HRTime) => {
    const bigint = () => {
      const here = current();
      return here ? BigInt(Math.round(here.clock.monotonicMs() * 1e6)) : real.bigint();
    };
    const hrtime = (before?: [number, number]): [number, number] => {
      if (!current()) return real.call(process, before);
      const ns = bigint() - (before ? BigInt(before[0]) * 1_000_000_000n + BigInt(before[1]) : 0n);
      return [Number(ns / 1_000_000_000n), Number(ns % 1_000_000_000n)];
    };
    return Object.assign(hrtime, { bigint });
  });
}

/** What `setTimeout` answers, as far as people use it. */
class VirtualTimer {
  readonly #start: () => { cancel(): void };
  #timer: { cancel(): void };
  constructor(start: () => { cancel(): void }) {
    this.#start = start;
    this.#timer = start();
  }
  refresh(): this {
    this.#timer.cancel();
    this.#timer = this.#start();
    return this;
  }
  close(): this {
    this.#timer.cancel();
    return this;
  }
  ref(): this {
    return this;
  }
  unref(): this {
    return this;
  }
  hasRef(): boolean {
    return true;
  }
  [Symbol.dispose](): void {
    this.#timer.cancel();
  }
}

function replaceTimers(replace: Replace, current: Current): void {
  type Callback = (...given: readonly unknown[]) => void;
  const least = (ms: unknown): number => (Number(ms) >= 1 && Number(ms) <= 2_147_483_647 ? Number(ms) : 1);
  const timeout =
    (real: Callback) =>
    (task: Callback, ms?: unknown, ...given: readonly unknown[]) => {
      const here = current();
      return here ? new VirtualTimer(() => here.clock.after(least(ms), () => task(...given))) : real(task, ms, ...given);
    };
  const interval =
    (real: Callback) =>
    (task: Callback, ms?: unknown, ...given: readonly unknown[]) => {
      const here = current();
      if (!here) return real(task, ms, ...given);
      return new VirtualTimer(() => {
        const again = () => {
          timer = here.clock.after(least(ms), again);
          task(...given);
        };
        let timer = here.clock.after(least(ms), again);
        return { cancel: () => timer.cancel() };
      });
    };
  const immediate =
    (real: Callback) =>
    (task: Callback, ...given: readonly unknown[]) => {
      const here = current();
      return here ? new VirtualTimer(() => here.clock.after(0, () => task(...given))) : real(task, ...given);
    };
  const clear = (real: (timer: unknown) => void) => (timer: unknown) => (timer instanceof VirtualTimer ? void timer.close() : real(timer));
  for (const target of [globalThis, timers] as const) {
    replace(target, "setTimeout", timeout);
    replace(target, "setInterval", interval);
    replace(target, "setImmediate", immediate);
    for (const name of ["clearTimeout", "clearInterval", "clearImmediate"]) replace(target, name, clear);
  }
  const waiting = (here: Surroundings, ms: number, value: unknown, options?: { readonly signal?: AbortSignal }) =>
    new Promise<unknown>((resolve, reject) => {
      const signal = options?.signal;
      const refuse = () =>
        reject(Object.assign(new Error("The operation was aborted"), { name: "AbortError", code: "ABORT_ERR", cause: signal?.reason as unknown }));
      if (signal?.aborted) return refuse();
      const timer = here.clock.after(ms, () => resolve(value));
      signal?.addEventListener("abort", () => (timer.cancel(), refuse()), { once: true });
    });
  replace(timersPromises, "setTimeout", (real: typeof timersPromises.setTimeout) => (ms?: number, value?: unknown, options?: object) => {
    const here = current();
    return here ? waiting(here, least(ms), value, options) : real(ms, value, options);
  });
  replace(timersPromises, "setImmediate", (real: typeof timersPromises.setImmediate) => (value?: unknown, options?: object) => {
    const here = current();
    return here ? waiting(here, 0, value, options) : real(value, options);
  });
  replace(AbortSignal, "timeout", (real: typeof AbortSignal.timeout) => (ms: number) => {
    const here = current();
    if (!here) return real.call(AbortSignal, ms);
    const over = new AbortController();
    here.clock.after(ms, () => over.abort(new DOMException("The operation was aborted due to timeout", "TimeoutError")));
    return over.signal;
  });
}

function replaceChance(replace: Replace, current: Current): void {
  const fill = (random: Random, bytes: Uint8Array): void => {
    for (let at = 0; at < bytes.length; at += 4) {
      const word = random.uint32();
      for (let byte = 0; byte < 4 && at + byte < bytes.length; byte++) bytes[at + byte] = (word >>> (8 * byte)) & 0xff;
    }
  };
  const bytesOf = (view: ArrayBufferView | ArrayBuffer): Uint8Array =>
    ArrayBuffer.isView(view) ? new Uint8Array(view.buffer, view.byteOffset, view.byteLength) : new Uint8Array(view);
  replace(Math, "random", (real: () => number) => () => (current()?.random ?? { next: real }).next());
  const uuid = (real: () => string) =>
    function (this: unknown) {
      const here = current();
      if (!here) return real.call(this);
      const bytes = new Uint8Array(16);
      fill(here.random, bytes);
      return formatUuidv4(bytes);
    };
  const web = Object.getPrototypeOf(globalThis.crypto) as object;
  replace(web, "randomUUID", uuid);
  replace(
    web,
    "getRandomValues",
    (real: (view: ArrayBufferView) => ArrayBufferView) =>
      function (this: unknown, view: ArrayBufferView) {
        const here = current();
        if (!here) return real.call(this, view);
        fill(here.random, bytesOf(view));
        return view;
      },
  );
  replace(nodeCrypto, "randomUUID", uuid);
  replace(nodeCrypto, "randomBytes", (real: (size: number, told?: unknown) => unknown) => (size: number, told?: (error: null, bytes: Buffer) => void) => {
    const here = current();
    if (!here) return real(size, told);
    const bytes = Buffer.alloc(size);
    fill(here.random, bytes);
    if (!told) return bytes;
    return void here.clock.soon(() => told(null, bytes));
  });
  replace(
    nodeCrypto,
    "randomFillSync",
    (real: (...given: readonly unknown[]) => unknown) =>
      (view: ArrayBufferView | ArrayBuffer, ...rest: readonly number[]) => {
        const here = current();
        if (!here) return real(view, ...rest);
        const [offset = 0, size] = rest;
        const bytes = bytesOf(view);
        fill(here.random, bytes.subarray(offset, size === undefined ? undefined : offset + size));
        return view;
      },
  );
  replace(nodeCrypto, "randomInt", (real: (...given: readonly unknown[]) => unknown) => (...given: readonly unknown[]) => {
    const here = current();
    if (!here) return real(...given);
    const told = given.find((one) => typeof one === "function") as ((error: null, n: number) => void) | undefined;
    const [first, second] = given.filter((one) => typeof one === "number") as [number, number?];
    const [from, to] = second === undefined ? [0, first] : [first, second];
    const drawn = from + Math.floor(here.random.next() * (to - from));
    if (!told) return drawn;
    return void here.clock.soon(() => told(null, drawn));
  });
}

const remedies: Readonly<Record<string, string>> = {
  net: "Talk to another system through `external`, and give the simulation a `model` of it.",
  fs: "Keep what must last in the store; read the program's own files when the module loads.",
  process: "Keep it behind an `external`, and give the simulation a `model` of it.",
  thread: "Do the work on the thread itself: in a simulation every host has one.",
};

function forbidOutside(replace: Replace, current: Current): void {
  const forbid = (target: object, module: string, names: readonly string[], kind: string): void => {
    for (const name of names) {
      replace(target, name, (real: unknown) => {
        if (typeof real !== "function") return real;
        const check = (): void => {
          if (!current()) return;
          throw Fault.create(
            "simulation.outside-world",
            `${module}.${name} was called inside a simulation, which has no such thing`,
            remedies[kind] as string,
            {
              details: { module, name },
            },
          );
        };
        return new Proxy(real as (...given: readonly unknown[]) => unknown, {
          apply: (called, self, given) => (check(), Reflect.apply(called, self, given) as unknown),
          construct: (called, given, newTarget) => (check(), Reflect.construct(called, given, newTarget) as object),
        });
      });
    }
  };
  forbid(net, "net", ["connect", "createConnection", "createServer"], "net");
  forbid(net.Socket.prototype, "net.Socket", ["connect"], "net");
  forbid(net.Server.prototype, "net.Server", ["listen"], "net");
  forbid(tls, "tls", ["connect", "createServer"], "net");
  forbid(dgram, "dgram", ["createSocket"], "net");
  for (const [module, name] of [
    [http, "http"],
    [https, "https"],
  ] as const)
    forbid(module, name, ["request", "get", "createServer"], "net");
  forbid(http2, "http2", ["connect", "createServer", "createSecureServer"], "net");
  forbid(dns, "dns", functionsOf(dns, ["Resolver"]), "net");
  forbid(dnsPromises, "dns/promises", functionsOf(dnsPromises, ["Resolver"]), "net");
  forbid(childProcess, "child_process", ["spawn", "spawnSync", "exec", "execSync", "execFile", "execFileSync", "fork"], "process");
  forbid(workerThreads, "worker_threads", ["Worker"], "thread");
  forbid(Atomics, "Atomics", ["wait", "waitAsync"], "thread");
  const readsAtOnce = [
    "readFileSync",
    "readdirSync",
    "existsSync",
    "statSync",
    "lstatSync",
    "realpathSync",
    "accessSync",
    "openSync",
    "readSync",
    "closeSync",
    "fstatSync",
  ];
  forbid(fs, "fs", functionsOf(fs, readsAtOnce), "fs");
  forbid(fsPromises, "fs/promises", functionsOf(fsPromises, []), "fs");
}

/** Its functions in lower case, but for those that are spared: what is called, and not a class. */
function functionsOf(module: object, spared: readonly string[]): string[] {
  return Object.keys(module).filter((name) => typeof (module as Target)[name] === "function" && /^[a-z]/.test(name) && !spared.includes(name));
}

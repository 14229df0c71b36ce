/**
 * Lifecycle: parts start in order and stop in reverse order, each within a bound, whatever the others do.
 *
 * States. `idle`: nothing was started. `starting`: entered by `start()`; parts are started one after the other. `ready`: every
 * part has started. `draining`: entered by `drain()` from `ready`; parts take no new work and finish what they have, the last
 * started first; afterwards it stays `draining` until it is stopped. `stopping`: entered by `stop()` from any state, and by a part
 * that did not start. `stopped`: final; a stopped lifecycle is not started again.
 *
 * A part that hangs is left behind when its bound is over and is named in the fault; so is a part that throws. Neither keeps
 * the parts after it from being drained or stopped. The state machine is one function of more than 60 lines.
 */
import type { Clock } from "./clock.ts";
import { Fault } from "./fault.ts";

export interface Part {
  /** Names it in faults. */
  readonly name: string;
  /** Resolves when it works. Gives up when the signal aborts (stopped during start, or out of time); its `stop` is called then too. */
  start?(signal: AbortSignal): Promise<void> | void;
  /** Takes no new work, and resolves when what it has is finished or handed back; after `withinMs` nobody waits for it. */
  drain?(withinMs: number): Promise<void> | void;
  /** Lets go of everything. Called once, also after a `start` that failed or was cut short; never when `start` was not called. */
  stop?(): Promise<void> | void;
}

export type LifecycleState = "idle" | "starting" | "ready" | "draining" | "stopping" | "stopped";

export interface LifecycleOptions {
  /** For each part's `start`; milliseconds, default 30,000. */
  readonly startWithinMs?: number;
  /** For each part's `stop`; milliseconds, default 5,000. */
  readonly stopWithinMs?: number;
}

export interface Lifecycle {
  readonly state: LifecycleState;
  /**
   * Resolves when every part is ready. A second call is the same start. When a part fails, those before it are stopped first.
   * Faults: `lifecycle.part-did-not-start`, `lifecycle.stopped-while-starting`, `lifecycle.already-stopped`.
   */
  start(): Promise<void>;
  /**
   * Drains every part, all of them together within `withinMs`; a part whose turn comes after that is still told, with 0.
   * A second call is the same drain. Does nothing unless ready. Fault: `lifecycle.part-did-not-drain`, after all were told.
   */
  drain(withinMs: number): Promise<void>;
  /** Stops every part that was started. A second call is the same stop. Cuts a start or a drain short. Fault: `lifecycle.part-did-not-stop`, after all were stopped. */
  stop(): Promise<void>;
}

interface Failure {
  readonly part: string;
  readonly reason: string;
  readonly error: unknown;
}

export function lifecycle(parts: readonly Part[], clock: Clock, options: LifecycleOptions = {}): Lifecycle {
  const { startWithinMs = 30_000, stopWithinMs = 5_000 } = options;
  let state: LifecycleState = "idle";
  const begun: Part[] = [];
  /** The newest part's `start`, as long as it runs: never rejects. */
  let startRunning: Promise<void> | undefined;
  const stopAsked = new AbortController();
  let starting: Promise<void> | undefined;
  let draining: Promise<void> | undefined;
  let stopping: Promise<void> | undefined;

  async function startAll(): Promise<void> {
    for (const part of parts) {
      if (stopAsked.signal.aborted) break;
      begun.push(part);
      const giveUp = new AbortController();
      const tell = () => giveUp.abort(stoppedWhileStarting(part.name));
      stopAsked.signal.addEventListener("abort", tell, { once: true });
      const start = (async () => part.start?.(giveUp.signal))();
      startRunning = start
        .then(
          () => undefined,
          () => undefined,
        )
        .then(() => void (startRunning = undefined));
      const failure = await within(clock, part.name, startWithinMs, () => start, stopAsked.signal);
      stopAsked.signal.removeEventListener("abort", tell);
      if (stopAsked.signal.aborted) break;
      if (failure) {
        giveUp.abort(didNot("start", [failure]));
        const stopFault = await stopOnce().then(
          () => undefined,
          (thrown: unknown) => thrown,
        );
        throw didNot("start", [failure], stopFault);
      }
    }
    if (stopAsked.signal.aborted) {
      await stopping?.catch(() => undefined); // its fault belongs to whoever called stop()
      throw stoppedWhileStarting(begun.at(-1)?.name ?? "the first part");
    }
    state = "ready";
  }

  async function drainAll(withinMs: number): Promise<void> {
    const untilMs = clock.monotonicMs() + withinMs;
    const failures: Failure[] = [];
    for (const part of begun.toReversed()) {
      const leftMs = Math.max(0, untilMs - clock.monotonicMs());
      const failure = await within(clock, part.name, leftMs, () => part.drain?.(leftMs), stopAsked.signal);
      if (failure) failures.push(failure);
      if (stopAsked.signal.aborted) break;
    }
    if (failures.length > 0) throw didNot("drain", failures);
  }

  async function stopAll(): Promise<void> {
    // A start that was cut short or ran out of time has been told to give up. It gets the time of a stop to do so, because its
    // part may yet take hold of something (a port, a file) that its stop must find.
    const cutStart = startRunning;
    if (cutStart) await within(clock, "", stopWithinMs, () => cutStart);
    const failures: Failure[] = [];
    for (const part of begun.toReversed()) {
      const failure = await within(clock, part.name, stopWithinMs, () => part.stop?.());
      if (failure) failures.push(failure);
    }
    state = "stopped";
    if (failures.length > 0) throw didNot("stop", failures);
  }

  function stopOnce(): Promise<void> {
    if (stopping) return stopping;
    state = "stopping";
    stopAsked.abort();
    return (stopping = soon(stopAll));
  }

  return {
    get state() {
      return state;
    },
    start() {
      if (starting) return starting;
      if (stopping)
        return Promise.reject(
          Fault.create("lifecycle.already-stopped", "start() was called after stop()", "Make a new one: what was stopped is not started again."),
        );
      state = "starting";
      return (starting = soon(startAll));
    },
    drain(withinMs) {
      if (draining) return draining;
      if (state !== "ready") return Promise.resolve();
      state = "draining";
      return (draining = soon(() => drainAll(withinMs)));
    },
    stop: stopOnce,
  };
}

/** Not before the promise is stored: a part may call back into the lifecycle. */
function soon(work: () => Promise<void>): Promise<void> {
  return Promise.resolve().then(work);
}

/** Runs one step of one part; `undefined` when it went well. `cut` ends the waiting early. */
function within(clock: Clock, name: string, boundMs: number, step: () => Promise<void> | void, cut?: AbortSignal): Promise<Failure | undefined> {
  return new Promise((resolve) => {
    const settle = (failure?: Failure) => {
      timer?.cancel();
      cut?.removeEventListener("abort", cutShort);
      resolve(failure);
    };
    const cutShort = () => settle({ part: name, reason: "was cut short by stop()", error: undefined });
    const timer =
      boundMs === Infinity
        ? undefined
        : clock.after(boundMs, () => settle({ part: name, reason: `was not done after ${Math.round(boundMs)} ms`, error: undefined }));
    cut?.addEventListener("abort", cutShort, { once: true });
    // The async wrapper turns a synchronous throw into a rejection; a rejection after the bound is heard here and dropped.
    (async () => step())().then(
      () => settle(),
      (error: unknown) => settle({ part: name, reason: error instanceof Error ? error.message : String(error), error }),
    );
  });
}

function didNot(what: "start" | "drain" | "stop", failures: readonly Failure[], stopFault?: unknown): Fault {
  const list = failures.map((failure) => `"${failure.part}" ${failure.error === undefined ? failure.reason : `threw: ${failure.reason}`}`).join("; ");
  const errors = [...failures.map((failure) => failure.error), stopFault].filter((error) => error !== undefined);
  const cause = errors.length > 1 ? new AggregateError(errors, list) : errors[0];
  const remedy = {
    start: "Mend the named part; the parts before it were stopped again.",
    drain: "Give drain more time, or see what the named part is still doing.",
    stop: "See what the named part is waiting for; everything else was stopped.",
  }[what];
  const code = { start: "lifecycle.part-did-not-start", drain: "lifecycle.part-did-not-drain", stop: "lifecycle.part-did-not-stop" } as const;
  return Fault.create(code[what], `did not ${what}: ${list}`, remedy, { cause, details: { parts: failures.map((failure) => failure.part) } });
}

function stoppedWhileStarting(part: string): Fault {
  return Fault.create(
    "lifecycle.stopped-while-starting",
    `stop() was called while "${part}" was starting`,
    "Nothing to mend if the stop was meant; else see who called stop().",
  );
}

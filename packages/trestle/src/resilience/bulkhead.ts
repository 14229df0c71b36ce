/**
 * A bulkhead: how many calls may run at once. A place is held until the call has truly ended, not until its caller stopped waiting: otherwise a
 * dependency that hangs gets `running` more calls with every timeout. There is no queue: a call too many is declined at once.
 */
import { Fault, integerWithin } from "../kernel/index.ts";

export interface Bulkhead {
  readonly name: string;
  /** Calls that have started and not ended, including those that nobody waits for any more. */
  readonly inFlight: number;
  /** A place; call what is returned when the call has ended (twice is once). `undefined`: full. */
  tryEnter(): (() => void) | undefined;
  /** As `tryEnter`; declining throws `bulkhead.full`. */
  enter(): () => void;
}

/** `running`: at most this many; `Infinity` only counts. */
export function bulkhead(options: { readonly running: number; readonly name?: string }): Bulkhead {
  const { name = "bulkhead" } = options;
  const running = options.running === Infinity ? Infinity : integerWithin(options.running, "bulkhead.running", { least: 1, most: 1_000_000 });
  let inFlight = 0;
  const tryEnter = () => {
    if (inFlight >= running) return undefined;
    inFlight++;
    let left = false;
    return () => {
      if (!left) inFlight--;
      left = true;
    };
  };
  return {
    name,
    get inFlight() {
      return inFlight;
    },
    tryEnter,
    enter() {
      const leave = tryEnter();
      if (leave) return leave;
      throw Fault.create(
        "bulkhead.full",
        `${name}: ${inFlight} calls are running, at most ${running} may`,
        "Come back later, or allow more if what is behind it can take more.",
        { details: { name, inFlight, running } },
      );
    },
  };
}

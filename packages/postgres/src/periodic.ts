/** Work that is done again and again beside everything else, one round at a time. A round that fails is the next round's to make good. */
import type { Clock, Random, Timer } from "trestle/kernel";

export interface Periodic {
  /** A round now, or right after the one that is running. */
  soon(): void;
  /** Waits for the round that is running. Safe to call twice. */
  stop(): Promise<void>;
}

/** `round` answers how long to wait after it. The first begins after that of `firstMs`, a little earlier or later, so that processes do not march in step. */
export function periodic(options: {
  readonly clock: Clock;
  readonly random: Random;
  readonly firstMs: number;
  readonly round: () => Promise<number>;
}): Periodic {
  const { clock, random, round } = options;
  let timer: Timer | undefined;
  let running: Promise<void> | undefined;
  let again = false;
  let stopped = false;
  let waitMs = options.firstMs;

  function arm(): void {
    timer = clock.after(waitMs * (0.8 + 0.4 * random.next()), start);
  }
  function start(): void {
    timer?.cancel();
    if (stopped) return;
    if (running) return void (again = true);
    running = round()
      .then(
        (ms) => void (waitMs = ms),
        () => undefined,
      )
      .then(() => {
        running = undefined;
        if (stopped) return;
        if (!again) return arm();
        again = false;
        start();
      });
  }
  arm();
  return {
    soon: start,
    async stop() {
      stopped = true;
      timer?.cancel();
      await running;
    },
  };
}

/** The connections of one kind that a node may have open. Who finds none free waits for one; where none became free, `store.overloaded`. */
import { Fault, type Clock } from "../kernel/index.ts";

export interface ConnectionSlotsOptions {
  readonly clock: Clock;
  readonly size: number;
  readonly waitMsMax: number;
  /** For people. */
  readonly name: string;
}

/** Runs work on one of them. */
export type ConnectionSlots = <T>(work: () => Promise<T>) => Promise<T>;

export function connectionSlots({ clock, size, waitMsMax, name }: ConnectionSlotsOptions): ConnectionSlots {
  let free = size;
  const waiting: (() => void)[] = [];

  function acquire(): Promise<void> | undefined {
    if (free > 0) return void free--;
    return new Promise((resolve, reject) => {
      const timer = clock.after(waitMsMax, () => {
        waiting.splice(waiting.indexOf(take), 1);
        reject(
          Fault.create(
            "store.overloaded",
            `no connection of ${size} (${name}) became free within ${waitMsMax} ms: all are in use`,
            "Send fewer at once, or look for what holds them.",
            { details: { boundMs: waitMsMax, size } },
          ),
        );
      });
      const take = () => {
        timer.cancel();
        resolve();
      };
      waiting.push(take);
    });
  }

  return async (work) => {
    await acquire();
    try {
      return await work();
    } finally {
      const next = waiting.shift();
      if (next) next();
      else free++;
    }
  };
}

/**
 * Handlers that go on though nobody waits for them any more: their time is over, or their caller has gone. They hold their places until they have ended, if ever, or else a dependency that hangs gets as many more
 * handlers with every time-out. How many they are is a number to look at, and is said in the log once from the first such place until there is none.
 */
import { sharedWheel } from "../kernel/index.ts";
import type { NodeServices } from "./node.ts";

/** Who heeds its signal has ended by then. */
const warnAfterMs = 1_000;

export class Overdue {
  /** Handlers that go on now. */
  handlers = 0;
  readonly #node: Pick<NodeServices, "clock" | "log">;
  readonly #component: string;
  readonly #places: () => number;
  #isWarned = false;

  /** `places`: how many there are, for the log. */
  constructor(node: Pick<NodeServices, "clock" | "log">, component: string, places: () => number) {
    this.#node = node;
    this.#component = component;
    this.#places = places;
  }

  /** This one does, until `running` settles. `what` it is, for the log. */
  add(what: string, by: { readonly tenant: string | undefined; readonly invocation?: string }, running: Promise<unknown>, ended?: () => void): void {
    const { clock } = this.#node;
    const sinceMs = clock.wallMs();
    this.handlers++;
    const warning = sharedWheel(clock).after(warnAfterMs, () => {
      if (this.#isWarned) return;
      this.#isWarned = true;
      this.#node.log(this.#component, { traceparent: undefined, ...by }).warn(`${what} goes on though nobody waits for it any more, and holds its place`, {
        since: new Date(sinceMs).toISOString(),
        overdue: this.handlers,
        places: this.#places(),
      });
    });
    const over = () => {
      warning.cancel();
      if (--this.handlers === 0) this.#isWarned = false;
      ended?.();
    };
    running.then(over, over);
  }
}

/**
 * What code says of itself for a simulation to watch: in production each is one comparison, and nothing comes of it. The words are those of Antithesis'
 * SDK: `always` must hold whenever it is reached, `sometimes` should be seen to hold in some run, `reachable` should be reached.
 */
export interface AssertionListener {
  always(promise: string, holds: boolean, details: unknown): void;
  sometimes(what: string, holds: boolean): void;
}

let listener: AssertionListener | undefined;

/** Must hold whenever it is reached. A run in which it does not has failed, and goes on. `details` are for whoever reads the report. */
export function always(promise: string, holds: boolean, details?: unknown): void {
  listener?.always(promise, holds, details);
}

/** Should hold in some run: one that never does means that the runs are too tame to show anything about it. */
export function sometimes(what: string, holds = true): void {
  listener?.sometimes(what, holds);
}

/** Should be reached in some run. */
export function reachable(what: string): void {
  listener?.sometimes(what, true);
}

/** For a simulator. Answers how to stop listening. */
export function onAssertion(next: AssertionListener): () => void {
  const before = listener;
  listener = next;
  return () => void (listener = before);
}

/**
 * The history of one seed: what its clients asked and were told, written down by themselves, for the checkers. Each seed begins with an empty one, and each
 * client is a process of it. Moments are milliseconds of the world, and no two are equal: what one client does next, and what one look finds, has an order.
 */
import { recordHistory, type Answering, type History } from "./checkers/index.ts";

export interface SeedHistory {
  /** Asked now, by this client. Left without an answer its outcome is `unknown`, which is right for every call that throws but one that surely did nothing. */
  invoke<Result = unknown>(call: unknown, key?: string | number): Answering<Result>;
  /** What all have recorded until now. Name the calls and results of the checker it is for. */
  history<Call = unknown, Result = unknown>(): History<Call, Result>;
}

/** Less than a microsecond, which is how finely the world tells moments apart. */
const stepMs = 0.000_01;

/** Answers the history as each process has it. */
export function seedHistory(nowMs: () => number): (process: string) => SeedHistory {
  let lastMs = -stepMs;
  const recorder = recordHistory({ now: () => (lastMs = Math.max(nowMs(), lastMs + stepMs)) });
  return (process) => ({
    invoke: (call, key) => recorder.invoke(process, call, key),
    history: <Call, Result>() => recorder.history() as History<Call, Result>,
  });
}

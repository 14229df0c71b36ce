/**
 * The shop as it is, on a clock that runs fifty times as fast: minutes of patience (timeouts, back-off, twenty attempts) pass in
 * seconds. Its foreign systems keep the time of the machine.
 */
import { systemClock, type Clock } from "trestle/kernel";
import { runShop, tellAndExit } from "../run.ts";

const speed = 50;
const startWallMs = systemClock.wallMs();
const startMonotonicMs = systemClock.monotonicMs();
const passedMs = () => (systemClock.monotonicMs() - startMonotonicMs) * speed;

const hastyClock: Clock = {
  wallMs: () => Math.floor(startWallMs + passedMs()),
  monotonicMs: () => startMonotonicMs + passedMs(),
  after: (delayMs, task) => systemClock.after(delayMs / speed, task),
  soon: (task) => systemClock.soon(task),
};

if (import.meta.main) await runShop(undefined, { clock: hastyClock }).catch(tellAndExit);

/** A gate by itself, without a pipeline: what its tests play the pipeline's part with. */
import { virtualClock, type Clock } from "../../kernel/index.ts";
import { waits, type Answer, type Caller, type Gate } from "../gate.ts";
import { layersIn, type Policy } from "../policy.ts";

/** One call that passed. It ends once; what is said after that is not heard. */
export interface Pass {
  succeeded(): void;
  failed(): void;
  /** Ended without telling anything about the other side: the caller went away. */
  abandoned(): void;
}

export function gateOf(policy: Policy<string>): Gate {
  const [layer] = layersIn(policy) ?? [];
  if (layer?.kind !== "gate") throw new Error("not a gate");
  return layer.gate;
}

export function callerAt(nowMs: number, options: Partial<Caller> = {}): Caller {
  return {
    key: "",
    priority: "normal",
    untilMs: Infinity,
    cost: 1,
    startedMs: nowMs,
    place: undefined,
    admitted: () => undefined,
    declined: () => undefined,
    ...options,
  };
}

/** `undefined`: declined. */
export function tryEnter(policy: Policy<string>, clock: Clock = virtualClock(), options: Partial<Caller> = {}): Pass | undefined {
  const gate = gateOf(policy);
  const nowMs = clock.monotonicMs();
  const caller = callerAt(nowMs, options);
  const token = gate.enter(caller, nowMs);
  if (token === waits) throw new Error("it waits");
  if (token < 0) return undefined;
  let ended = false;
  const end = (answer: Answer) => {
    if (ended) return;
    ended = true;
    gate.answered?.(caller, token, answer);
    gate.ended?.(caller, token);
  };
  return { succeeded: () => end("well"), failed: () => end("unwell"), abandoned: () => end("unknown") };
}

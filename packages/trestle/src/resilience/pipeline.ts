/**
 * Pipelines: policies around one operation, outermost first, fused into one plan. What comes after a `retry` is done for each attempt, what comes before it
 * once for the call; so is everything after a `hedge` for each of its tries.
 */
import { DueList, Fault, systemClock } from "../kernel/index.ts";
import { nested, runnerOf, type Plan } from "./plan.ts";
import type { Gate } from "./gate.ts";
import { layersIn, policyFrom, type Layer, type PipelineOptions, type Policy, type Runner } from "./policy.ts";

type DeclinesOf<P> = P extends Policy<infer D> ? D : never;

/** Composes policies, outermost first: `pipeline(deadline("3s"), retry(), breaker(), bulkhead({ running: 32 }))`. What an order may mean that is not as written is in `warnings`, and told once. */
export function pipeline<const P extends readonly Policy<string>[]>(...policies: P): Policy<DeclinesOf<P[number]>>;
export function pipeline<const P extends readonly Policy<string>[]>(options: PipelineOptions, ...policies: P): Policy<DeclinesOf<P[number]>>;
export function pipeline(...given: readonly (PipelineOptions | Policy<string>)[]): Policy<never> {
  const [first, ...rest] = given;
  const hasOptions = typeof first === "object" && first !== null && !Array.isArray(first);
  const options = hasOptions ? first : {};
  const policies = (hasOptions ? rest : given) as readonly Policy<string>[];
  const layers = policies.flatMap((policy, i) => {
    const its = layersIn(policy);
    if (its) return its;
    throw Fault.create(
      "pipeline.not-a-policy",
      `pipeline: part ${i + 1} is no policy, got ${typeof policy}`,
      "Give it what deadline, retry, breaker, bulkhead and their like return.",
    );
  });
  const warnings = warningsOf(layers);
  for (const warning of warnings) process.emitWarning(`${options.name ? `${options.name}: ` : ""}${warning}`, { code: "TRESTLE_PIPELINE_ORDER" });
  return policyFrom(layers, () => planned(layers, options), warnings);
}

/** One plan as far as one goes, and another around the operation for the rest. */
function planned(layers: readonly Layer[], options: PipelineOptions): Runner {
  const { clock = systemClock, onAttempt } = options;
  let [deadlineMs, timeoutMs] = [Infinity, Infinity];
  const gates: Gate[] = [];
  let passage: Plan["passage"];
  let retry: Plan["retry"];
  let inner: Runner | undefined;
  for (const [i, layer] of layers.entries()) {
    if (layer.kind === "gate") {
      gates.push(layer.gate);
      passage = layer.passage(gates);
    } else if (layer.kind === "hedge") {
      inner = layer.around(planned(layers.slice(i + 1), options), clock);
      break;
    } else if (layer.kind === "retry") {
      if (gates.length > 0 || retry) {
        inner = planned(layers.slice(i), options);
        break;
      }
      retry = layer.rule;
    } else if (retry || (layer.kind === "timeout" && !layers.slice(i).some(({ kind }) => kind === "retry"))) timeoutMs = Math.min(timeoutMs, layer.ms);
    else deadlineMs = Math.min(deadlineMs, layer.ms);
  }
  const outer = runnerOf({
    ...options,
    deadline: deadlineMs < Infinity ? new DueList(deadlineMs, clock) : undefined,
    timeout: timeoutMs < Infinity ? new DueList(timeoutMs, clock) : undefined,
    retry,
    passage,
    onAttempt: inner ? undefined : onAttempt,
  });
  return inner ? nested(outer, inner) : outer;
}

function warningsOf(layers: readonly Layer[]): string[] {
  const retryAt = layers.findIndex(({ kind }) => kind === "retry");
  const hedgeAt = layers.findIndex(({ kind }) => kind === "hedge");
  const found: string[] = [];
  let line: string | undefined;
  for (const [i, layer] of layers.entries()) {
    if (layer.kind === "retry" && i > retryAt) found.push("there are two retries, so attempts multiply: keep one");
    if (layer.kind === "hedge" && i < retryAt) found.push("hedge is outside of retry, so each try retries: put retry first");
    if (i < retryAt && layer.kind === "timeout")
      found.push("timeout is outside of retry, so it bounds all attempts together: say deadline, or put it behind retry");
    if (line && layer.kind === "timeout") found.push(`timeout is inside of ${line}, so it bounds the wait too: put it first`);
    if (layer.kind === "gate" && layer.gate.leave) line = layer.name;
    if (layer.kind === "retry" || layer.kind === "hedge") line = undefined;
    if (i > retryAt && retryAt >= 0 && layer.kind === "deadline")
      found.push("deadline is inside of retry, so it bounds each attempt: say timeout, or put it before retry");
    if (i < retryAt && layer.kind === "gate")
      found.push(`${layer.name} is outside of retry, so it sees one call, and holds its place during back-off: put it behind retry`);
    if (i > hedgeAt && hedgeAt >= 0 && layer.kind === "deadline") found.push("deadline is inside of hedge: put it first");
  }
  return found;
}

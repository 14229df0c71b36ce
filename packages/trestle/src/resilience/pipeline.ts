/**
 * Pipelines: policies around one operation, outermost first, fused into one plan. What comes after a `retry` is done for each attempt, what comes before it
 * once for the call; so is everything after a `hedge` for each of its tries.
 */
import { Fault, systemClock, systemRandom } from "../kernel/index.ts";
import { BoundLine } from "./bound-line.ts";
import { run, type Plan } from "./call.ts";
import { failureOf } from "./failure.ts";
import type { Caller, Gate } from "./gate.ts";
import {
  layersOf,
  type Attempt,
  type Attempted,
  type CallOptions,
  type Layer,
  type Operation,
  type PipelineOptions,
  type Policy,
  type Runner,
} from "./policy.ts";

type DeclinesOf<P> = P extends Policy<infer D> ? D : never;

/** Composes policies, outermost first: `pipeline(deadline("3s"), retry(), breaker(), bulkhead({ running: 32 }))`. What an order may mean that is not as written is in `warnings`, and told once. */
export function pipeline<const P extends readonly Policy<string>[]>(...policies: P): Policy<DeclinesOf<P[number]>>;
export function pipeline<const P extends readonly Policy<string>[]>(options: PipelineOptions, ...policies: P): Policy<DeclinesOf<P[number]>>;
export function pipeline(...given: readonly (PipelineOptions | Policy<string>)[]): Policy<never> {
  const [first, ...rest] = given;
  const options = typeof first === "object" ? first : {};
  const policies = (typeof first === "object" ? rest : given) as readonly Policy<string>[];
  const layers = policies.flatMap((policy, i) => {
    if (typeof policy === "function" && layersOf in policy) return (policy as unknown as { readonly [layersOf]: readonly Layer[] })[layersOf];
    throw Fault.create(
      "pipeline.not-a-policy",
      `pipeline: part ${i + 1} is no policy, got ${typeof policy}`,
      "Give it what deadline, retry, breaker, bulkhead and their like return.",
    );
  });
  const warnings = warningsOf(layers);
  for (const warning of warnings) process.emitWarning(`${options.name ? `${options.name}: ` : ""}${warning}`, { code: "TRESTLE_PIPELINE_ORDER" });
  return callable(layers, options, warnings);
}

/** A policy alone: a pipeline of one. */
export function policyOf<Declines extends string>(layer: Layer): Policy<Declines> {
  return callable([layer], {}, []) as Policy<string> as Policy<Declines>;
}

function callable(layers: readonly Layer[], options: PipelineOptions, warnings: readonly string[]): Policy<never> {
  let ready: Runner | undefined; // a policy that only stands in pipelines has no timers of its own
  const runner = () => (ready ??= runnerOf(layers, options));
  const codes = new Set(declinesOf(layers));
  const call = <T>(operation: Operation<T>, how?: CallOptions): Promise<T> => runner()(operation, how);
  const attempt = async <T>(operation: Operation<T>, how?: CallOptions): Promise<Attempted<T, never>> => {
    // Of the call itself: a fault of the same code that the operation threw is the operation's.
    let thrown: unknown;
    try {
      return { ok: true, value: await runner()(operation, how) };
    } catch (error) {
      thrown = error;
    }
    if (Fault.is(thrown) && codes.has(thrown.code)) return { ok: false, refused: thrown.code as never, fault: thrown as Fault<never> };
    throw thrown;
  };
  return Object.assign(call, { attempt, warnings, [layersOf]: layers });
}

/** One plan as far as one goes, and another around the operation for the rest. */
function runnerOf(layers: readonly Layer[], options: PipelineOptions): Runner {
  const { clock = systemClock, random = systemRandom, unwell = (thrown: unknown) => failureOf(thrown).kind !== "refusal", onAttempt } = options;
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
      inner = layer.around(runnerOf(layers.slice(i + 1), options), clock);
      break;
    } else if (layer.kind === "retry") {
      if (gates.length > 0 || retry) {
        inner = runnerOf(layers.slice(i), options);
        break;
      }
      retry = layer.rule;
    } else if (retry || (layer.kind === "timeout" && !layers.slice(i).some(({ kind }) => kind === "retry"))) timeoutMs = Math.min(timeoutMs, layer.ms);
    else deadlineMs = Math.min(deadlineMs, layer.ms);
  }
  const plan: Plan = {
    clock,
    random,
    deadline: deadlineMs < Infinity ? new BoundLine(deadlineMs, clock) : undefined,
    timeout: timeoutMs < Infinity ? new BoundLine(timeoutMs, clock) : undefined,
    retry,
    passage,
    unwell,
    onAttempt: inner ? undefined : onAttempt,
  };
  if (!inner) return (operation, how) => run(plan, operation, how);
  const within = inner;
  return (operation, how) =>
    run(plan, (attempt) => within(operation, { ...how, signal: attempt.signal, deadlineMs: (attempt as Attempt & Caller).untilMs }), how);
}

function declinesOf(layers: readonly Layer[]): string[] {
  return layers.flatMap((layer) => {
    if (layer.kind === "gate") return [layer.gate.refused];
    if (layer.kind === "retry") return ["retry.budget-spent"];
    return layer.kind === "hedge" ? [] : ["deadline.exceeded"];
  });
}

function warningsOf(layers: readonly Layer[]): string[] {
  const retryAt = layers.findIndex(({ kind }) => kind === "retry");
  const hedgeAt = layers.findIndex(({ kind }) => kind === "hedge");
  const found: string[] = [];
  for (const [i, layer] of layers.entries()) {
    if (layer.kind === "retry" && i > retryAt) found.push("there are two retries: attempts multiply; keep one");
    if (layer.kind === "hedge" && i < retryAt) found.push("hedge is outside of retry: each try of a hedge then retries by itself; put retry first");
    if (i < retryAt && layer.kind === "timeout")
      found.push("timeout is outside of retry, so it bounds all attempts together: say deadline, or put it behind retry");
    if (i > retryAt && retryAt >= 0 && layer.kind === "deadline")
      found.push("deadline is inside of retry, so it bounds each attempt: say timeout, or put it before retry");
    if (i < retryAt && layer.kind === "gate")
      found.push(`${layer.name} is outside of retry: it sees one long call instead of the attempts, and holds its place during back-off; put it behind retry`);
    if (i > hedgeAt && hedgeAt >= 0 && layer.kind === "deadline") found.push("deadline is inside of hedge: put it first");
  }
  return found;
}

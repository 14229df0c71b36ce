/**
 * A component outside handlers: every operation is a commit of its own, made when its promise resolves; a watch or history is
 * read as it goes.
 */
import { Fault } from "../kernel/index.ts";
import { definitionOf, execute, Invocation, isRefused, type Component, type Handle, type NodeServices, type Usable } from "../component/index.ts";

/** Outside a handler every operation takes effect when its promise resolves. */
export type Live<C extends Usable> = { readonly [K in keyof Handle<C>]: Settled<Handle<C>[K]> };
type Settled<F> = F extends (...args: infer A) => infer R
  ? R extends AsyncIterable<any>
    ? F
    : (...args: A) => Promise<Awaited<R>>
  : F extends object
    ? { readonly [K in keyof F]: Settled<F[K]> }
    : F;

const timeoutMs = 30_000;
// These read as they go: there is no commit at their end.
const streaming = new Set(["watch", "history", "follow"]);

export function live(node: NodeServices, component: Component, signal: AbortSignal): object {
  const definition = definitionOf(component);
  if (definition.live) return definition.live(node);
  const probe = invocationOf(node, component, "write", signal).handle(component);
  const members = new Map<string, unknown>();
  return new Proxy(
    {},
    {
      get(_target, name) {
        if (typeof name !== "string" || name === "then") return undefined;
        if (!members.has(name)) members.set(name, member(node, component, signal, [name], (probe as Record<string, unknown>)[name]));
        return members.get(name);
      },
      has: (_target, name) => name in probe,
    },
  );
}

function member(node: NodeServices, component: Component, signal: AbortSignal, path: readonly string[], sample: unknown): unknown {
  if (typeof sample === "function") {
    if (streaming.has(path[0] as string))
      return (...given: readonly unknown[]) => call(invocationOf(node, component, "read", signal).handle(component), path, given);
    return (...given: readonly unknown[]) => commitOne(node, component, signal, path, given);
  }
  if (typeof sample === "object" && sample !== null)
    return Object.fromEntries(Object.entries(sample).map(([name, inner]) => [name, member(node, component, signal, [...path, name], inner)]));
  return sample;
}

async function commitOne(node: NodeServices, component: Component, signal: AbortSignal, path: readonly string[], given: readonly unknown[]): Promise<unknown> {
  const ended = await execute({
    node,
    component,
    operation: path.join("."),
    mode: "write",
    uses: undefined,
    id: node.ids.next(),
    timeoutMs,
    signal,
    run: (_uses, _context, invocation) => call(invocation.handle(component), path, given) as Promise<unknown>,
    // A refusal is the answer here, and nobody else will look at it.
    conclude: (answer) => (isRefused(answer) ? { keep: false, end: "refused" } : { keep: true, end: "ok" }),
  });
  if (ended.kind === "answered") return plain(ended.answer);
  throw ended.kind === "failed"
    ? ended.fault
    : Fault.create(
        "commit.conflict",
        `${path.join(".")} of ${component.kind} "${component.name}" was taken over by another run; nothing was committed`,
        "Try again.",
      );
}

function call(handle: object, path: readonly string[], given: readonly unknown[]): unknown {
  let target: unknown = handle;
  for (const name of path.slice(0, -1)) target = (target as Record<string, unknown>)[name];
  return (target as Record<string, (...args: readonly unknown[]) => unknown>)[path.at(-1) as string]?.(...given);
}

/** A refusal that watches whether it is read belongs to a handler; outside it is a plain value. */
function plain(answer: unknown): unknown {
  return isRefused(answer) ? { ...answer } : answer;
}

function invocationOf(node: NodeServices, component: Component, mode: "read" | "write", signal: AbortSignal): Invocation {
  return new Invocation({
    node,
    mode,
    id: node.ids.next(),
    component,
    operation: "",
    tenant: undefined,
    principal: undefined,
    attempt: 1,
    startedAtMs: node.clock.wallMs(),
    deadlineMs: Number.POSITIVE_INFINITY,
    signal,
  });
}

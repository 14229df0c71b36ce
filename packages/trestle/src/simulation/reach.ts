/**
 * What a client of the world has in its hands. A service is called over the network as any HTTP client would, and asked again under its key when the
 * answer was lost. Any other component is not reachable from outside: the call is made in some node, by a script of it, and its answer comes back over
 * the network.
 */
import type { Node } from "../app/index.ts";
import type { Component } from "../component/index.ts";
import { Fault, sleep } from "../kernel/index.ts";
import type { Chance } from "./chance.ts";
import { BrokenCall, type Network } from "./network.ts";
import { answeredText, type Carrier } from "./simulated-fetch.ts";
import type { Host, Life } from "./world.ts";

export interface ReachOptions {
  readonly life: Life;
  readonly network: Network;
  readonly observer: Node;
  readonly chance: Chance;
  readonly nodes: readonly Host[];
  readonly running: ReadonlyMap<Life, Node>;
}

/** A client gives up on one call after so long. */
const patienceMs = 60_000;

export function reachOf(uses: Readonly<Record<string, Component>>, options: ReachOptions): object {
  const { observer } = options;
  return Object.fromEntries(
    Object.entries(uses).map(([name, component]) => [
      name,
      component.kind === "service" ? observer.open(component as never) : inSomeNode(component, [], options),
    ]),
  );
}

/** As a client that was written with care: what has an idempotency key is asked again until there is an answer. */
export function patient(life: Life, network: Network, carry: Carrier): Carrier {
  return async (asked) => {
    const repeatable = asked.method === "GET" || asked.header("idempotency-key") !== null;
    const untilMs = life.clock.monotonicMs() + patienceMs;
    for (let waitMs = 100; ; waitMs = Math.min(2_000, waitMs * 2)) {
      try {
        const answered = await carry(asked);
        const { status } = answered;
        const later = status >= 500 || status === 409 || status === 429;
        if (!later || !repeatable || life.clock.monotonicMs() > untilMs) return answered;
        // A conflict may be the app's own answer: only what says that it is still being answered is asked again.
        if (status === 409 && !(await answeredText(answered, { life, network, signal: asked.signal })).includes("idempotency.in-flight")) return answered;
      } catch (error) {
        if (!repeatable || life.clock.monotonicMs() > untilMs) throw error;
      }
      await sleep(life.clock, waitMs * (0.5 + life.random.next()));
    }
  };
}

/** `orders.get(…)`, `inbox.of(…).list(…)`: the path of names, and the call at its end. */
function inSomeNode(component: Component, path: readonly string[], options: ReachOptions): object {
  const { life, network, chance, nodes, running } = options;
  const ask = async (...given: readonly unknown[]): Promise<unknown> => {
    const host = chance.pick(nodes);
    const label = `${component.name}.${path.join(".")}`;
    try {
      return await network.call(life, host, { label }, async (there) => {
        const node = running.get(there);
        if (!node) throw Fault.create("node.stopped", `${host.name} is starting`, "Ask again in a moment.");
        let target = node.open(component as never) as unknown;
        for (const name of path.slice(0, -1)) target = (target as Record<string, unknown>)[name];
        const answer = await (target as Record<string, (...all: readonly unknown[]) => unknown>)[path.at(-1) as string]?.(...given);
        return answer === undefined ? undefined : structuredClone(answer);
      });
    } catch (error) {
      if (!(error instanceof BrokenCall)) throw error;
      throw Fault.create("simulation.broken-call", `${label}: ${error.message}`, "A client must expect this: it may have been done.", { cause: error });
    }
  };
  return new Proxy(ask, {
    get: (_target, name) => (typeof name !== "string" || name === "then" ? undefined : inSomeNode(component, [...path, name], options)),
  });
}

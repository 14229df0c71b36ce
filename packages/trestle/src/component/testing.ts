/** A node without an app, for tests of this floor and the one above: a store in memory, a virtual clock, nothing observed. */
import { boundLog, seededRandom, uuidv7Ids, virtualClock, type VirtualClock } from "../kernel/index.ts";
import { openSqlite } from "../sqlite/index.ts";
import type { Store } from "../store/index.ts";
import type { Component } from "./component.ts";
import { Lane } from "./lane.ts";
import type { NodeServices } from "./node.ts";
import { StoreClock } from "./store-clock.ts";

export interface TestNode extends NodeServices {
  readonly clock: VirtualClock;
  /** Runs of handlers per ended invocation, newest last. */
  readonly attempts: number[];
}

/** `store`: share one between two nodes to see a crash and a resume. */
export async function testNode(options: { readonly store?: Store; readonly clock?: VirtualClock; readonly seed?: string } = {}): Promise<TestNode> {
  const clock = options.clock ?? virtualClock();
  const store = options.store ?? (await openSqlite({ path: ":memory:", clock }));
  const random = seededRandom(options.seed ?? "test");
  const ids = uuidv7Ids(clock, random);
  const storeClock = new StoreClock(store, clock);
  await storeClock.ask(); // as `start` does
  const locals = new Map<Component, unknown>();
  const attempts: number[] = [];
  return {
    app: "test",
    id: "test-node",
    store,
    lane: new Lane(store, clock, { ids, holder: "test-node", storeClock }),
    clock,
    storeClock,
    random,
    ids,
    attempts,
    observer: { invoked: (_component, _operation, _end, _durationMs, runs) => void attempts.push(runs), used: () => undefined, span: () => undefined },
    log: () => boundLog({ log: () => undefined }),
    setting: () => undefined,
    draining: new AbortController().signal,
    local<T>(component: Component, make: () => T): T {
      if (!locals.has(component)) locals.set(component, make());
      return locals.get(component) as T;
    },
    inCommit: () => [],
    followers: () => [],
    implementation: () => undefined,
    serviceUrl: () => undefined,
  };
}

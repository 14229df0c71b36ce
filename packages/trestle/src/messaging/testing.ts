/** Nodes for tests of this folder: several on one store, each of which can die between two instructions. */
import { definitionOf, execute, type Component, type Handles, type NodePart, type Observer, type Uses } from "../component/index.ts";
import { testNode, type TestNode } from "../component/testing.ts";
import { virtualClock, type VirtualClock } from "../kernel/index.ts";
import { openSqlite } from "../sqlite/index.ts";
import type { Store } from "../store/index.ts";

export interface RunningTestNode extends TestNode {
  /** A commit from outside any handler. */
  commit<U extends Uses, T>(
    uses: U,
    write: (uses: Handles<U, "write">) => T | Promise<T>,
    as?: { readonly tenant?: string; readonly traceparent?: string },
  ): Promise<T>;
  /** Its process is gone: what is on the way to the store may arrive, and nothing comes back. */
  crash(): void;
  /** Until nothing is due and nothing runs, without advancing the clock. */
  idle(): Promise<void>;
  drain(withinMs: number): Promise<void>;
  stop(): Promise<void>;
  readonly logged: readonly { readonly level: string; readonly message: string; readonly facts: object | undefined }[];
}

export async function memoryStore(clock: VirtualClock = virtualClock()): Promise<{ readonly clock: VirtualClock; readonly store: Store }> {
  return { clock, store: await openSqlite({ path: ":memory:", clock }) };
}

let nodes = 0;

export async function runNode(
  components: readonly unknown[],
  on: { readonly store: Store; readonly clock: VirtualClock; readonly seed?: string; readonly observer?: Partial<Observer> },
): Promise<RunningTestNode> {
  const all = components as readonly Component[];
  // Nodes with one seed would mint the same ids, and the store would take the second one's commits for the first one's.
  const seed = `${on.seed ?? "node"} ${++nodes}`;
  let dead = false;
  const logged: { readonly level: string; readonly message: string; readonly facts: object | undefined }[] = [];
  const draining = new AbortController();
  const log = (level: string) => (message: string, facts?: object) => void logged.push({ level, message, facts });
  const base = await testNode({ ...on, seed, store: mortal(on.store, () => dead) });
  const node: TestNode = {
    ...base,
    id: seed,
    observer: { ...base.observer, ...on.observer },
    draining: draining.signal,
    log: () => ({ debug: log("debug"), info: log("info"), warn: log("warn"), error: log("error") }),
    followers: (source) =>
      all.filter((component) => {
        const { takes, follows } = definitionOf(component);
        return takes !== undefined && (follows?.includes(source) ?? false);
      }),
    inCommit: (source) =>
      all.flatMap((component) => {
        const { inCommit } = definitionOf(component);
        return inCommit?.source === source ? [inCommit] : [];
      }),
  };
  for (const component of all) await definitionOf(component).prepare?.(node);
  const parts: NodePart[] = all.flatMap((component) => definitionOf(component).part?.(node) ?? []);
  for (const part of parts) await part.start();
  return Object.assign(node, {
    logged,
    async commit<U extends Uses, T>(
      uses: U,
      write: (handles: Handles<U, "write">) => T | Promise<T>,
      as: { readonly tenant?: string; readonly traceparent?: string } = {},
    ): Promise<T> {
      const ended = await execute<T>({
        node,
        component: { kind: "app", name: "test" },
        operation: "commit",
        mode: "write",
        uses,
        id: node.ids.next(),
        timeoutMs: 30_000,
        ...as,
        run: (handles) => write(handles as Handles<U, "write">),
        conclude: () => ({ keep: true, end: "ok" }),
      });
      if (ended.kind === "answered") return ended.answer;
      throw ended.kind === "failed" ? ended.fault : new Error("the commit was lost");
    },
    crash: () => void (dead = true),
    async idle() {
      for (let quiet = 0; quiet < 2;) {
        const idle = (await Promise.all(parts.map(async (part) => (await part.idle?.()) ?? true))).every(Boolean);
        quiet = idle ? quiet + 1 : 0;
        await new Promise<void>((resolve) => node.clock.soon(resolve));
      }
    },
    async drain(withinMs: number) {
      draining.abort();
      for (const part of parts.toReversed()) await part.drain(withinMs);
    },
    async stop() {
      draining.abort();
      for (const part of parts.toReversed()) await part.stop();
    },
  });
}

/** The store as a process sees it that may die: then calls go nowhere, and answers do not arrive. */
function mortal(store: Store, isDead: () => boolean): Store {
  const never = new Promise<never>(() => undefined);
  const through = <T extends object>(target: T): T =>
    new Proxy(target, {
      get(of, name) {
        const member: unknown = Reflect.get(of, name);
        if (name === "read") return through(member as object);
        if (name === "onChange")
          return (listener: (change: unknown) => void) => (member as Store["onChange"]).call(of as Store, (change) => void (!isDead() && listener(change)));
        if (typeof member !== "function") return member;
        return (...given: unknown[]): unknown => {
          if (isDead()) return never;
          const answer: unknown = (member as (...given: unknown[]) => unknown).apply(of, given);
          return answer instanceof Promise
            ? answer.then(
                (value: unknown) => (isDead() ? never : value),
                (fault: unknown) => (isDead() ? never : Promise.reject(fault as Error)),
              )
            : answer;
        };
      },
    });
  return through(store);
}

/** The store as whoever judges the world has it. */
import { Fault, type Clock } from "../kernel/index.ts";
import type { Reader, Store } from "../store/index.ts";

/** For looks only. The world stands still meanwhile, so what was read stands together; only what a node kept from before can be old. */
export function lookingStore(there: () => Store, clock: Clock): Store {
  const read = new Proxy({} as Reader, {
    get: (_target, name) => {
      const { read: open } = there();
      return open[name as keyof Reader].bind(open);
    },
  });
  const refuse = (): never => {
    throw Fault.create("simulation.promise-writes", "a promise of a scenario wrote to the store", "Promises only look; let a client do it.");
  };
  return {
    engine: "memory",
    dialect: "sqlite",
    get guarantees() {
      return there().guarantees;
    },
    get epoch() {
      return there().epoch;
    },
    read,
    async commit({ expects, writes }) {
      if (writes.length > 0) refuse();
      const keys: string[] = [];
      for (const expectation of expects) {
        if (expectation.kind === "record" && ((await read.records([expectation.key]))[0]?.version ?? 0) !== expectation.version) keys.push(expectation.key);
        if (expectation.kind === "stream" && (await read.streamVersion(expectation.stream)) !== expectation.version) keys.push(expectation.stream);
      }
      if (keys.length > 0) return { ok: false, refused: "conflict", keys };
      const { epoch, n } = await read.head();
      return { ok: true, epoch, n };
    },
    resolve: refuse,
    // A claim of nothing asks what time it is.
    claim: async ({ queues }) => (queues.some(({ limit }) => limit > 0) ? refuse() : { jobs: [], nextDueAtMs: undefined, nowMs: clock.wallMs() }),
    extend: refuse,
    heartbeat: () => undefined,
    transaction: refuse,
    onChange: () => () => undefined,
    migrate: () => Promise.resolve(),
    backup: refuse,
    stats: () => ({ commits: 0, refused: 0, batches: 0, waiting: 0 }),
    close: () => Promise.resolve(),
  };
}

/** The store as whoever judges the world has it. */
import { Fault } from "../kernel/index.ts";
import type { Reader, Store } from "../store/index.ts";

/** For looks only: a commit that writes nothing is true by itself, since the world stands still. */
export function lookingStore(there: () => Store): Store {
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
    async commit({ writes }) {
      if (writes.length > 0) refuse();
      const { epoch, n } = await read.head();
      return { ok: true, epoch, n };
    },
    resolve: refuse,
    claim: refuse,
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

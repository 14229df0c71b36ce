/**
 * The work of a transaction runs on a node, inside a call of the store's engine: what it settles is heard there, and what it reads meanwhile is read as by the one who
 * has the transaction open, for whom nobody has to wait.
 */
import { AsyncLocalStorage } from "node:async_hooks";
import type { Store } from "../store/index.ts";
import type { Life } from "./world.ts";

export interface TransactionWork {
  /** To be called in the engine's own turn. When the server's life ends nothing is heard any more: its engine must not touch the disk that others have then. */
  run<T>(server: Life, work: () => Promise<T>): Promise<T>;
  /** What is asked of the store: inside the work of a transaction, as that. */
  asked<T>(ask: (store: Store) => Promise<T>): (store: Store) => Promise<T>;
}

export function transactionWork(node: Life): TransactionWork {
  /** Goes back to the engine's turn. */
  const slot = new AsyncLocalStorage<<T>(ask: () => T) => T>();
  return {
    run: (server, work) =>
      new Promise((resolve, reject) => {
        const engine = AsyncLocalStorage.snapshot();
        node
          .run(() => slot.run((ask) => engine(ask), work))
          .then(
            (value) => void (server.alive && resolve(value)),
            (error: unknown) => void (server.alive && reject(error as Error)),
          );
      }),
    asked(ask) {
      const enter = slot.getStore();
      return enter ? (store) => enter(() => ask(store)) : ask;
    },
  };
}

/**
 * What a client of PostgreSQL shows and one of SQLite does not, as `@trestle/postgres` has it: it has so many connections and no more; a statement
 * may be the victim of a deadlock; a transaction whose connection breaks is lost, and where its commit was on the way, that commit's id decides.
 */
import { Fault, sleep } from "../kernel/index.ts";
import type { Commit, CommitId, CommitOutcome, SqlConnection, Store } from "../store/index.ts";
import { connectionSlots, type ConnectionSlots } from "./connection-slots.ts";
import { BrokenCall } from "./network.ts";
import { postgresLane } from "./postgres-lane.ts";
import type { StoreHost } from "./store-host.ts";
import type { TransactionWork } from "./transaction-work.ts";
import type { Life } from "./world.ts";

export interface PostgresClientOptions {
  readonly at: StoreHost;
  readonly call: <T>(label: string, ask: (store: Store) => Promise<T>, mayComeTwice?: boolean) => Promise<T>;
  readonly work: TransactionWork;
  /** Asks until there is an answer. */
  readonly resolve: (id: CommitId) => Promise<CommitOutcome>;
}

export interface PostgresClient {
  readonly reads: ConnectionSlots;
  readonly commit: Store["commit"];
  readonly transaction: Store["transaction"];
}

const connections = { reads: 4, tables: 2 } as const;
const waitMsMax = 10_000;
const sendingsMax = 5;
/** `deadlock_timeout`, after which the server looks for one: its default is a second, of which a client in a hurry sees a part. */
const deadlockAfterMs = 100;

export function postgresClient(life: Life, { at, call, resolve, work }: PostgresClientOptions): PostgresClient {
  const { clock } = life;
  const tables = connectionSlots({ clock, size: connections.tables, waitMsMax, name: "tables" });
  /** Is this statement the victim of a deadlock? */
  async function deadlocked(): Promise<boolean> {
    if (at.deadlockShare === 0 || life.random.next() >= at.deadlockShare) return false;
    await sleep(clock, deadlockAfterMs);
    return true;
  }

  const transaction: Store["transaction"] = <T>(
    callback: (connection: SqlConnection) => Promise<{ readonly result: T; readonly commit?: Commit }>,
    withinMs?: number,
  ): Promise<T> =>
    tables(async () => {
      let ended: { readonly result: T; readonly commit: Commit } | undefined;
      let broken: Fault | undefined;
      const breaks = Promise.withResolvers<never>();
      breaks.promise.catch(() => undefined);
      const breakOff = (error: unknown): Fault => {
        broken ??= lost(error);
        breaks.reject(broken);
        return broken;
      };
      try {
        return await call("transaction", (store) => {
          const server = at.host.life as Life;
          const run = async (connection: SqlConnection) => {
            const execute: SqlConnection["execute"] = async (statement) => {
              if (broken) throw broken;
              // PostgreSQL undoes the statement, and the transaction can go on.
              if (await deadlocked()) throw lost(deadlock());
              try {
                return await call("statement", (now) => {
                  // Its server is gone, and its transaction with it.
                  if (now !== store) throw new BrokenCall("lost", "store");
                  return connection.execute(statement);
                });
              } catch (error) {
                throw isBroken(error) ? breakOff(error) : error;
              }
            };
            // The server rolls back when the connection is gone, whatever the callback is doing.
            const { result, commit = { id: life.ids.next(), expects: [], writes: [] } } = await Promise.race([callback({ execute }), breaks.promise]);
            if (broken) throw broken;
            ended = { result, commit };
            return ended;
          };
          return store.transaction((connection) => work.run(server, () => run(connection)), withinMs);
        });
      } catch (error) {
        if (!isBroken(error)) throw error;
        breakOff(error);
        if (!ended) throw error instanceof BrokenCall && error.how === "lost" ? lost(error) : unreachable(error);
        const outcome = await resolve(ended.commit.id).catch((cause: unknown) => {
          throw Fault.create("commit.unknown", `the connection broke before the outcome of commit ${ended?.commit.id} arrived`, "Ask resolve(id).", {
            cause,
            details: { id: ended?.commit.id },
          });
        });
        if (outcome.ok) return ended.result;
        throw lost(error);
      }
    });

  /** Its statements are tried again when a deadlock ended them, and so often only. */
  async function alone<T>(send: () => Promise<T>): Promise<T> {
    for (let sending = 1; await deadlocked(); sending++) {
      if (sending < sendingsMax) continue;
      throw Fault.create(
        "postgres.commit-failed",
        "PostgreSQL could not apply this commit (40P01): deadlock detected",
        "Read the cause; nothing of the commit was applied.",
        { cause: deadlock() },
      );
    }
    return tables(send);
  }

  return {
    reads: connectionSlots({ clock, size: connections.reads, waitMsMax, name: "read" }),
    commit: postgresLane({ clock, call, alone }),
    transaction,
  };
}

const isBroken = (error: unknown): boolean => error instanceof BrokenCall || Fault.is(error, "store.unreachable");

function deadlock(): Error {
  return Object.assign(new Error("deadlock detected"), { code: "40P01" });
}

function lost(cause: unknown): Fault {
  return Fault.create(
    "transaction.lost",
    `the connection was lost in this transaction; nothing of it was applied: ${(cause as Error).message}`,
    "Run it again.",
    { cause },
  );
}

function unreachable(cause: unknown): Fault {
  return Fault.create("store.unreachable", `PostgreSQL could not be reached: ${(cause as Error).message}`, "Check that the server runs.", { cause });
}

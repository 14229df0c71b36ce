/**
 * The lane of a client of PostgreSQL: what is committed while a batch is on its way leaves together as the next one, in its order. When the connection breaks,
 * nobody knows what became of the batch; it is sent again under its ids, which is safe, and who has no answer after so many sendings is told `commit.unknown`.
 * A commit with the user's own SQL is a batch by itself, beside the others.
 */
import { emptyContext, Fault, inContext, sleep, type Clock } from "../kernel/index.ts";
import { limits, type Commit, type CommitOutcome, type Store } from "../store/index.ts";
import { BrokenCall } from "./network.ts";

export interface PostgresLaneOptions {
  readonly clock: Clock;
  readonly call: <T>(label: string, ask: (store: Store) => Promise<T>, mayComeTwice?: boolean) => Promise<T>;
  /** For a commit with the user's own SQL. */
  readonly alone: <T>(work: () => Promise<T>) => Promise<T>;
}

interface Waiting {
  readonly commit: Commit;
  readonly resolve: (outcome: CommitOutcome) => void;
  readonly reject: (error: unknown) => void;
}

const sendingsMax = 5;
/** A server that is away is asked for a connection for so long. */
const reachMsMax = 5_000;
const backOffMs = { first: 20, most: 1_000 } as const;

export function postgresLane({ clock, call, alone }: PostgresLaneOptions): (commit: Commit) => Promise<CommitOutcome> {
  const waiting: Waiting[] = [];
  let busy = false;

  /** Until there is an answer. */
  async function send(batch: readonly Waiting[]): Promise<void> {
    let inDoubt = false;
    let reachUntilMs = clock.monotonicMs() + reachMsMax;
    for (let sending = 1, waitMs: number = backOffMs.first; ; waitMs = Math.min(backOffMs.most, waitMs * 2)) {
      try {
        // In one message, so that they arrive in their order.
        const outcomes = await call(`commit ${batch.length}`, (store) => Promise.allSettled(batch.map(({ commit }) => store.commit(commit))), true);
        outcomes.forEach((outcome, at) => {
          const one = batch[at] as Waiting;
          if (outcome.status === "fulfilled") one.resolve(outcome.value);
          else one.reject(outcome.reason);
        });
        return;
      } catch (error) {
        const isLost = error instanceof BrokenCall && error.how === "lost";
        if (isLost) {
          inDoubt = true;
          sending++;
          reachUntilMs = clock.monotonicMs() + reachMsMax;
        } else if (!(error instanceof BrokenCall) && !Fault.is(error, "store.unreachable")) {
          for (const { reject } of batch) reject(error);
          return;
        }
        if (sending > sendingsMax || clock.monotonicMs() >= reachUntilMs) {
          for (const { commit, reject } of batch) reject(inDoubt ? unknownOutcome(commit, error) : unreachable(error));
          return;
        }
      }
      await sleep(clock, waitMs);
    }
  }

  async function pump(): Promise<void> {
    while (waiting.length > 0) await send(waiting.splice(0, limits.batchCommitsMax));
    busy = false;
  }

  return (commit) =>
    new Promise((resolve, reject) => {
      const one = { commit, resolve, reject };
      if (hasSql(commit)) return void alone(() => send([one])).catch(reject);
      waiting.push(one);
      if (busy) return;
      busy = true;
      // In nobody's context: one caller's deadline may not bound the wait of a whole batch.
      clock.soon(() => void inContext(emptyContext, pump));
    });
}

const hasSql = ({ expects, writes }: Commit): boolean => writes.some(({ kind }) => kind === "sql") || expects.some(({ kind }) => kind === "rows");

function unknownOutcome({ id }: Commit, cause: unknown): Fault {
  return Fault.create(
    "commit.unknown",
    `the connection was lost before the outcome of commit ${id} arrived, and the server did not come back`,
    "Ask resolve(id), or submit the same commit again.",
    { cause, details: { id } },
  );
}

function unreachable(cause: unknown): Fault {
  return Fault.create("store.unreachable", `PostgreSQL could not be reached: ${(cause as Error).message}`, "Check that the server runs.", { cause });
}

/**
 * A pool of `pg` under a policy: who waits for a connection stands in the policy's line, in its order and no longer than its time, and the server ends a
 * statement when the time of whoever asked for it is over. A caller that ran out of time costs no connection: busy is not dead.
 */
import { deadlineExceeded, withContext } from "../kernel/index.ts";
import type { CallOptions, Policy } from "../resilience/index.ts";
import { guardOf } from "./guard.ts";

/** What is used of a client of `pg`. */
export interface PgClientLike {
  query(text: string, values?: unknown[]): Promise<unknown>;
  release(destroy?: Error | boolean): void;
}
/** What is used of a `Pool` of `pg`. */
export interface PgPoolLike {
  connect(): Promise<PgClientLike>;
}

/** Of what `pg` answers. */
export interface PgRows<Row> {
  readonly rows: Row[];
  readonly rowCount: number | null;
}

export interface GuardedPoolOptions {
  /**
   * Whether the server is told the time that is left (`statement_timeout`), for one round trip more for each connection that is taken under a deadline. Default `true`.
   * `false` behind a pooler in transaction mode, where a session's settings are somebody else's.
   */
  readonly statementTimeout?: boolean;
}

export interface GuardedPool<Client extends PgClientLike> {
  /** One statement. Not repeated unless it surely was not done; `{ idempotent: true }` for one that may be. */
  query<Row = Record<string, unknown>>(text: string, values?: readonly unknown[], call?: CallOptions): Promise<PgRows<Row>>;
  /** Several statements on one connection, which is given back when `work` has ended; what `work` left open when it throws is rolled back. Not repeated unless `{ idempotent: true }`. */
  use<T>(work: (client: Client) => Promise<T>, call?: CallOptions): Promise<T>;
}

/**
 * `guardedPool(new Pool({ max: 10 }), pipeline(deadline("2s"), bulkhead({ running: 10, waiting: 500, order: "fair" })))`. Give the bulkhead as many places as the pool has connections: then
 * nobody waits in the pool, whose line knows no tenants. Throws what `pg` throws and the policy's faults; `deadline.exceeded` too when it was the server that ended the statement because of it.
 */
export function guardedPool<Client extends PgClientLike = PgClientLike>(
  pool: PgPoolLike,
  guard: Policy<string>,
  { statementTimeout = true }: GuardedPoolOptions = {},
): GuardedPool<Client> {
  guardOf(guard, "guardedPool");
  const use = <T>(work: (client: Client) => Promise<T>, call: CallOptions = {}): Promise<T> =>
    guard(
      async (attempt) => {
        const { signal, remainingMs } = attempt;
        const client = (await pool.connect()) as Client;
        const bounded = statementTimeout && remainingMs < Infinity;
        let failed = true;
        try {
          signal.throwIfAborted(); // it came too late
          if (bounded) await client.query(`set statement_timeout = ${Math.max(1, Math.ceil(remainingMs))}`);
          signal.throwIfAborted();
          const result = await work(client);
          failed = false;
          return result;
        } catch (thrown) {
          // The server may be the first to notice, when this process is busy.
          throw bounded && attempt.remainingMs === 0 && (thrown as { readonly code?: unknown } | undefined)?.code === "57014"
            ? deadlineExceeded(remainingMs, "attempt", thrown)
            : thrown;
        } finally {
          // The caller does not wait for this, and the connection is back in the pool only when it is as it was.
          void giveBack(client, [...(failed ? ["rollback"] : []), ...(bounded ? ["reset statement_timeout"] : [])]);
        }
      },
      { idempotent: false, ...call },
    );
  return {
    use,
    query: <Row>(text: string, values?: readonly unknown[], call?: CallOptions) =>
      use((client) => client.query(text, values ? [...values] : undefined) as Promise<PgRows<Row>>, call),
  };
}

async function giveBack(client: PgClientLike, statements: readonly string[]): Promise<void> {
  try {
    // Outside of the caller's time: it may be over.
    if (statements.length > 0) await withContext({ deadlineMs: undefined, signal: undefined }, () => client.query(statements.join("; ")));
    client.release();
  } catch (broken) {
    client.release(broken as Error);
  }
}

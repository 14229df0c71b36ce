/**
 * One connection that comes back: opened on first use, opened again after it was lost. One statement at a time.
 */
import pg from "pg";
import { Fault } from "trestle/kernel";

export interface Connection {
  query<Row extends object>(statement: { readonly name?: string; readonly text: string; readonly values?: readonly unknown[] }): Promise<readonly Row[]>;
  close(): Promise<void>;
}

export interface ConnectionOptions {
  readonly url: string;
  readonly schema: string;
  readonly name: string;
}

/** The lane is freed within milliseconds; who waits longer than this is told so, and nothing of theirs was applied. */
const lockWaitMsMax = 10_000;

export function connection(options: ConnectionOptions): Connection {
  let client: Promise<pg.Client> | undefined;
  let current: pg.Client | undefined;
  let closed = false;
  let turn: Promise<void> = Promise.resolve();

  function open(): Promise<pg.Client> {
    if (closed) throw Fault.create("store.closed", "The store is closed.", "Do not use it after close().");
    return (client ??= connect());
  }

  async function connect(): Promise<pg.Client> {
    const fresh = new pg.Client({ connectionString: options.url, application_name: options.name, keepAlive: true, connectionTimeoutMillis: 5_000 });
    const gone = () => {
      if (current === fresh) client = current = undefined;
    };
    fresh.on("error", gone);
    fresh.on("end", gone);
    try {
      await fresh.connect();
      // A role or database may default to another isolation or to no flush; here both decide whether answers are true. And no read may
      // turn to reading whole tables because statistics are missing or old.
      await fresh.query(
        `set default_transaction_isolation = 'read committed'; set enable_seqscan = off; set enable_hashjoin = off; set enable_mergejoin = off; set jit = off; set lock_timeout = ${lockWaitMsMax}; set search_path = ${options.schema}`,
      );
      const { rows } = await fresh.query<{ flushes: string }>("select current_setting('synchronous_commit') as flushes");
      if (rows[0]?.flushes === "off" || rows[0]?.flushes === "local") await fresh.query("set synchronous_commit = on");
      return (current = fresh);
    } catch (error) {
      client = undefined;
      await fresh.end().catch(() => undefined);
      throw Fault.create(
        "store.unreachable",
        `PostgreSQL could not be reached: ${(error as Error).message}`,
        "Check the URL, the role and that the server runs.",
        { cause: error },
      );
    }
  }

  return {
    async query<Row extends object>(statement: { readonly name?: string; readonly text: string; readonly values?: readonly unknown[] }) {
      const before = turn;
      let done = () => {};
      turn = new Promise((resolve) => (done = resolve));
      await before;
      try {
        const opened = await open();
        try {
          return (await opened.query<Row>({ ...statement, values: [...(statement.values ?? [])] })).rows;
        } catch (error) {
          // The server's last words arrive before the socket ends: whoever comes next must not be sent into it.
          if (!wasRolledBack(error) && current === opened) client = current = undefined;
          throw error;
        }
      } finally {
        done();
      }
    },
    async close() {
      await turn;
      closed = true;
      const opened = await client?.catch(() => undefined);
      await opened?.end();
    },
  };
}

/** Did the server refuse the statement and roll it back? Otherwise the connection is gone, and nobody knows. */
export function wasRolledBack(error: unknown): error is Error & { readonly code: string } {
  const { code, severity } = error as { code?: unknown; severity?: unknown };
  return typeof code === "string" && severity === "ERROR";
}

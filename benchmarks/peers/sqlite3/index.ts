/**
 * What Emmett's SQLite store asks of the package `sqlite3`, over `node:sqlite`; the package itself needs an install script. Statements run at once
 * instead of in a thread of libuv's, which is quicker for one caller; a lock that another connection holds is asked for again for a second,
 * without blocking the loop, as the package's default `busy_timeout` does.
 */
import { DatabaseSync, type SQLInputValue, type StatementSync } from "node:sqlite";

type Done = (this: { readonly changes: number; readonly lastID: number }, error: Error | null, answer?: unknown) => void;

const busyMsMax = 1_000;
const busy = 5;

class Database {
  readonly #db: DatabaseSync;
  readonly #known = new Map<string, StatementSync>();
  /** Statements of one connection run in order, also while one of them waits for a lock. */
  #last: Promise<void> = Promise.resolve();

  constructor(path: string) {
    this.#db = new DatabaseSync(path, { timeout: 0 });
  }

  run(text: string, ...rest: unknown[]): void {
    this.#ask(text, rest, (statement, parameters) => statement.run(...parameters));
  }
  get(text: string, ...rest: unknown[]): void {
    this.#ask(text, rest, (statement, parameters) => statement.get(...parameters));
  }
  all(text: string, ...rest: unknown[]): void {
    this.#ask(text, rest, (statement, parameters) => statement.all(...parameters));
  }
  close(done?: (error: Error | null) => void): void {
    this.#last = this.#last.then(() => {
      this.#db.close();
      done?.(null);
    });
  }

  #ask(text: string, rest: unknown[], how: (statement: StatementSync, parameters: SQLInputValue[]) => unknown): void {
    const done = typeof rest.at(-1) === "function" ? (rest.pop() as Done) : undefined;
    const parameters = ((rest[0] ?? []) as unknown[]).map(bound);
    this.#last = this.#last.then(() => this.#patiently(text, parameters, how, done));
  }

  async #patiently(
    text: string,
    parameters: SQLInputValue[],
    how: (statement: StatementSync, parameters: SQLInputValue[]) => unknown,
    done: Done | undefined,
  ): Promise<void> {
    const fromMs = performance.now();
    for (;;) {
      try {
        let statement = this.#known.get(text);
        if (!statement) this.#known.set(text, (statement = this.#db.prepare(text)));
        const answer = how(statement, parameters);
        const { changes = 0, lastInsertRowid = 0 } = (answer ?? {}) as { changes?: number; lastInsertRowid?: number };
        return done?.call({ changes, lastID: lastInsertRowid }, null, answer);
      } catch (error) {
        if ((error as { errcode?: number }).errcode !== busy || performance.now() - fromMs > busyMsMax)
          return done?.call({ changes: 0, lastID: 0 }, Object.assign(error as Error, { code: "SQLITE_ERROR" }));
        await new Promise((resolve) => setTimeout(resolve, 1));
      }
    }
  }
}

/** As the package binds: truth as a number, dates as milliseconds, other objects as their text. */
function bound(value: unknown): SQLInputValue {
  if (value === undefined) return null;
  if (typeof value === "boolean" || value instanceof Date) return Number(value);
  return typeof value === "object" && value !== null && !ArrayBuffer.isView(value) ? String(value) : (value as SQLInputValue);
}

const [OPEN_READWRITE, OPEN_CREATE, OPEN_URI] = [2, 4, 64];
export default { Database, OPEN_READWRITE, OPEN_CREATE, OPEN_URI };

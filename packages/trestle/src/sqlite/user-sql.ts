/**
 * The user's own SQL on a connection of the store's. It runs under an authorizer that denies transaction control, PRAGMA,
 * ATTACH and every table of Trestle's, also through triggers and views (FINDINGS F5). One statement at a time: SQLite
 * compiles only the first of a text, and would drop the others without a word.
 */
import { constants, type DatabaseSync, type SQLInputValue, type StatementSync } from "node:sqlite";
import { Fault } from "../kernel/index.ts";
import type { SqlResult, SqlValue, Statement } from "../store/index.ts";

export interface UserSql {
  run(statement: Statement): SqlResult;
  /** Several statements, for migrations. */
  script(text: string): void;
}

const preparedMax = 256;
/** What a statement may not do, by SQLite's action codes. A temporary table would live on in a connection that everybody shares. */
const deniedActions: ReadonlyMap<number, string> = new Map([
  [constants.SQLITE_TRANSACTION, "transaction control"],
  [constants.SQLITE_SAVEPOINT, "SAVEPOINT"],
  [constants.SQLITE_PRAGMA, "PRAGMA"],
  [constants.SQLITE_ATTACH, "ATTACH"],
  [constants.SQLITE_DETACH, "DETACH"],
  [constants.SQLITE_CREATE_TEMP_TABLE, "a temporary table"],
  [constants.SQLITE_CREATE_TEMP_VIEW, "a temporary view"],
  [constants.SQLITE_CREATE_TEMP_TRIGGER, "a temporary trigger"],
  [constants.SQLITE_CREATE_TEMP_INDEX, "a temporary index"],
]);
const isOurs = (name: string | null) => name !== null && /^trestle_/i.test(name);

/**
 * Installs the authorizer, once for a connection: SQLite has every statement of a connection that is given one prepared again. It costs nothing while
 * none of the user's SQL is compiled.
 */
export function userSql(db: DatabaseSync): UserSql {
  let user = userSqlOf.get(db);
  if (!user) userSqlOf.set(db, (user = guardedSql(db)));
  return user;
}

const userSqlOf = new WeakMap<DatabaseSync, UserSql>();

function guardedSql(db: DatabaseSync): UserSql {
  const known = new Map<string, StatementSync>();
  let guarded = false;
  let denied: string | undefined;

  db.setAuthorizer((action, first, second) => {
    if (!guarded) return constants.SQLITE_OK;
    if (deniedActions.has(action)) denied ??= deniedActions.get(action);
    // ALTER TABLE names its table second, and not what it will be called: its text is looked at in `underGuard`.
    else if (isOurs(first) || isOurs(second)) denied ??= `the table ${isOurs(first) ? first : second}`;
    else return constants.SQLITE_OK;
    return constants.SQLITE_DENY;
  });

  function underGuard<T>(text: string, work: () => T): T {
    if (/\brename\b[^;]*\btrestle_/i.test(text)) throw deniedFault("a table name that starts with trestle_");
    guarded = true;
    denied = undefined;
    try {
      return work();
    } catch (error) {
      if (denied !== undefined) throw deniedFault(denied, error);
      throw error;
    } finally {
      guarded = false;
    }
  }

  function prepared(text: string): StatementSync {
    let statement = known.get(text);
    if (!statement) {
      statement = db.prepare(text);
      if (restOf(text.slice(statement.sourceSQL.length)) !== "") {
        throw Fault.create(
          "sql.several-statements",
          "a statement must be one statement; what follows its first semicolon would not be run",
          "Send the statements one by one; migrations may hold several.",
          { details: { text } },
        );
      }
      statement.setReadBigInts(true);
      if (known.size >= preparedMax) known.delete(known.keys().next().value as string);
    } else known.delete(text);
    known.set(text, statement);
    return statement;
  }

  return {
    run({ text, parameters }) {
      return underGuard(text, () => {
        const statement = prepared(text);
        const bound = parameters.map(bindable);
        if (statement.columns().length === 0) {
          const { changes, lastInsertRowid } = statement.run(...bound);
          // SQLite leaves the count of the statement before when this one changes no rows but tables.
          return { rows: [], changes: /^\s*(create|drop|alter)\b/i.test(text) ? 0 : Number(changes), lastInsertRowid: BigInt(lastInsertRowid) };
        }
        const rows = statement.all(...bound).map(plainRow);
        // RETURNING: `all` does not say how many rows were changed.
        const writes = !/^\s*(select|with|values|explain)\b/i.test(text) || /\b(insert|update|delete|replace)\b/i.test(text);
        return { rows, changes: writes ? rows.length : 0, lastInsertRowid: undefined };
      });
    },
    script: (text) => underGuard(text, () => db.exec(text)),
  };
}

/** What is left of a text without blanks, comments and semicolons. */
function restOf(text: string): string {
  return text.replace(/--[^\n]*|\/\*[\s\S]*?(\*\/|$)|[\s;]/g, "");
}

function bindable(value: SqlValue): SQLInputValue {
  return typeof value === "boolean" ? (value ? 1 : 0) : value;
}

/** Integers come as numbers, and as bigints beyond 2^53. */
function plainRow(row: Record<string, unknown>): Readonly<Record<string, SqlValue>> {
  const plain: Record<string, SqlValue> = {};
  for (const name in row) {
    const value = row[name] as SqlValue;
    Object.defineProperty(plain, name, {
      value: typeof value === "bigint" && value >= -9007199254740991n && value <= 9007199254740991n ? Number(value) : value,
      enumerable: true,
      writable: true,
      configurable: true,
    });
  }
  return plain;
}

function deniedFault(what: string, cause?: unknown): Fault {
  return Fault.create(
    "sql.denied",
    `a statement of the user's may not use ${what}`,
    "Leave transactions, PRAGMA and ATTACH to Trestle; read its state through its own handles.",
    { cause },
  );
}

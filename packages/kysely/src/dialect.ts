/**
 * A Kysely over one of Trestle's transactions: its statements and the handles' writes are one commit. The transaction is Trestle's:
 * it begins before Kysely is asked and ends after, so Kysely's own `transaction()` and savepoints are refused, and a `Kysely` kept
 * beyond the callback faults with `transaction.ended`.
 */
import {
  Kysely,
  PostgresAdapter,
  PostgresIntrospector,
  PostgresQueryCompiler,
  SqliteAdapter,
  SqliteIntrospector,
  SqliteQueryCompiler,
  type CompiledQuery,
  type DatabaseConnection,
  type Dialect,
  type Driver,
  type KyselyPlugin,
  type LogConfig,
  type QueryResult,
} from "kysely";
import { Fault, type Transaction } from "trestle";
import type { SqlConnection, SqlValue } from "trestle/store";

export interface KyselyOptions {
  readonly plugins?: KyselyPlugin[];
  readonly log?: LogConfig;
}

/** Inside `node.transaction(uses, async (handles, tx) => …)`: runs Kysely's statements in it. */
export function kysely<Database>(tx: Transaction, options: KyselyOptions = {}): Kysely<Database> {
  return new Kysely<Database>({ dialect: transactionDialect(tx), ...options });
}

/** The dialect alone, for a Kysely configured elsewhere. */
export function transactionDialect(tx: Transaction): Dialect {
  if (tx.dialect === "postgres")
    return {
      createAdapter: () => new PostgresAdapter(),
      createDriver: () => transactionDriver(tx.connection),
      createIntrospector: (db) => new PostgresIntrospector(db),
      createQueryCompiler: () => new PostgresQueryCompiler(),
    };
  return {
    createAdapter: () => new SqliteAdapter(),
    createDriver: () => transactionDriver(tx.connection),
    createIntrospector: (db) => new SqliteIntrospector(db),
    createQueryCompiler: () => new SqliteQueryCompiler(),
  };
}

function transactionDriver(connection: SqlConnection): Driver {
  const only = transactionConnection(connection);
  const ours = async (): Promise<never> => {
    throw Fault.create(
      "kysely.transaction-within",
      "this Kysely is inside a transaction of Trestle's, which begins and ends it",
      "Call the statements directly; throw to take everything back.",
    );
  };
  return {
    init: async () => undefined,
    acquireConnection: async () => only,
    beginTransaction: ours,
    commitTransaction: ours,
    rollbackTransaction: ours,
    savepoint: ours,
    rollbackToSavepoint: ours,
    releaseSavepoint: ours,
    releaseConnection: async () => undefined,
    destroy: async () => undefined,
  };
}

function transactionConnection(connection: SqlConnection): DatabaseConnection {
  async function executeQuery<Row>({ sql, parameters }: CompiledQuery): Promise<QueryResult<Row>> {
    const { rows, changes, lastInsertRowid } = await connection.execute({ text: sql, parameters: parameters.map(bindable) });
    return {
      rows: rows as unknown as Row[],
      numAffectedRows: BigInt(changes),
      ...(lastInsertRowid !== undefined && { insertId: lastInsertRowid }),
    };
  }
  return {
    executeQuery,
    // The whole answer at once: a cursor would hold the store's one writer for as long as its reader likes.
    async *streamQuery<Row>(query: CompiledQuery) {
      yield await executeQuery<Row>(query);
    },
  };
}

function bindable(value: unknown, at: number): SqlValue {
  switch (typeof value) {
    case "string":
    case "number":
    case "bigint":
    case "boolean":
      return value;
    default:
      if (value === null || value instanceof Uint8Array) return value;
      throw Fault.create(
        "kysely.parameter-not-sql",
        `parameter ${at + 1} must be a string, number, bigint, boolean, null or bytes, got ${value instanceof Date ? "a Date" : typeof value}`,
        "Convert it where it is passed: a Date with toISOString() or getTime(), an object with JSON.stringify().",
      );
  }
}

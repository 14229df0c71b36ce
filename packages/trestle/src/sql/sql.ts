/**
 * sql: the user's own tables, in the store's database. What a handler runs joins its one commit (`sql.same-commit`); parameters
 * are bound, never pasted.
 *
 * Reading is a snapshot of what is durable: not a precondition, and blind to what this handler itself has staged. `expect` reads and
 * makes the rows a precondition: when another commit has changed them, this one is refused and the handler runs again (FINDINGS F9).
 */
import {
  declareComponent,
  definitionOf,
  parseOrFault,
  refusalOf,
  type Annotations,
  type Component,
  type Invocation,
  type NodeServices,
  type Out,
  type Schema,
  type Usable,
} from "../component/index.ts";
import { Fault } from "../kernel/index.ts";
import { rowsDigest, type SqlValue, type Statement } from "../store/index.ts";
import { readMigrations } from "./migrations.ts";

/**
 * `migrations` is a folder of `*.sql` files: each is applied once, in order of name, before the node starts. Fault at the start:
 * `sql.dialect-missing` when the store speaks a dialect for which there is none.
 */
export function sql(name: string, spec: SqlSpec): Sql {
  const { migrations, move, ...annotations } = spec;
  return declareComponent<Sql>("sql", name, {
    annotations,
    uses: {},
    edge: "write",
    role: "any",
    interior: { migrations, move } satisfies Interior,
    bind: (invocation) => new BoundSql(name, invocation),
    live: (node) => liveSql(name, node),
    prepare: async (node) => node.store.migrate(name, readMigrations(name, folderFor(name, migrations, node.store.dialect))),
  });
}

export interface SqlSpec extends Annotations {
  /**
   * A path, from the working directory of the process when it is relative; or a `file:` URL (`import.meta.resolve("./migrations")`). One
   * path is SQLite's dialect; an app that may run on either store names a folder for each.
   */
  readonly migrations: string | { readonly [dialect in Dialect]?: string };
  /**
   * Brings the rows over when the store moves to another engine (`trestle move app.ts`). Called once, after the old store's last commit and with the
   * migrations of the new dialect applied, in the transaction in which the new store opens. The app waits for it; when it throws, nothing has moved.
   */
  readonly move?: (from: SqlLeft, to: SqlEntered) => Promise<void> | void;
}
/** The tables that are left, which do not change any more. */
export interface SqlLeft {
  rows(text: TemplateStringsArray, ...values: readonly SqlValue[]): Promise<readonly Row[]>;
}
export interface SqlEntered {
  run(text: TemplateStringsArray, ...values: readonly SqlValue[]): Promise<void>;
}
interface Interior {
  readonly migrations: SqlSpec["migrations"];
  readonly move: SqlSpec["move"];
}
export const moveOf = (component: Component): Interior => definitionOf(component).interior as Interior;
export type Dialect = "sqlite" | "postgres";

export interface Sql extends Component<"sql">, Usable<SqlView, SqlHandle> {}

export interface SqlView {
  /** What the store speaks: for the rare statement that differs. */
  readonly dialect: Dialect;
  /** A snapshot of what is durable; each row parsed by `row`. */
  rows<S extends Schema>(row: S): SqlQuery<S>;
}
export interface SqlHandle extends SqlView {
  /** Reads, and expects the same rows at the commit. */
  expect<S extends Schema>(row: S): SqlQuery<S>;
  /** Joins the commit. Parameters are bound, never pasted. Fault at the commit: `commit.statement-failed`. */
  run(text: TemplateStringsArray, ...values: readonly SqlValue[]): void;
}
export type SqlQuery<S extends Schema> = (text: TemplateStringsArray, ...values: readonly SqlValue[]) => Promise<readonly Out<S>[]>;
type Row = Readonly<Record<string, SqlValue>>;

class BoundSql {
  readonly #name: string;
  readonly #invocation: Invocation;

  constructor(name: string, invocation: Invocation) {
    this.#name = name;
    this.#invocation = invocation;
  }

  get dialect(): Dialect {
    return this.#invocation.node.store.dialect;
  }

  rows(row: Schema) {
    return async (text: TemplateStringsArray, ...values: readonly SqlValue[]): Promise<readonly unknown[]> =>
      this.#parse(row, await this.#read(this.#statement(text, values)));
  }

  expect(row: Schema) {
    return async (text: TemplateStringsArray, ...values: readonly SqlValue[]): Promise<readonly unknown[]> => {
      const statement = this.#statement(text, values);
      const rows = await this.#read(statement);
      this.#invocation.expect({ kind: "rows", statement, digest: rowsDigest(rows) });
      return this.#parse(row, rows);
    };
  }

  run(text: TemplateStringsArray, ...values: readonly SqlValue[]): void {
    this.#invocation.sql(this.#statement(text, values));
  }

  #read(statement: Statement): Promise<readonly Row[]> {
    const { text, parameters } = statement;
    // v8.serialize in the journal keeps bytes and bigints; the identity only has to tell questions apart.
    return this.#invocation.recall(`sql ${text} ${JSON.stringify(parameters, asText)}`, () => this.#invocation.node.store.read.rows(statement));
  }

  #parse(row: Schema, rows: readonly Row[]): Promise<readonly unknown[]> {
    return Promise.all(rows.map((one, at) => parseOrFault(row, one, `row ${at} of sql "${this.#name}"`)));
  }

  #statement(text: TemplateStringsArray, parameters: readonly SqlValue[]): Statement {
    return statementOf(this.#invocation.node, text, parameters);
  }
}

/** Outside handlers: a query as it stands, a statement as a commit of its own. There is no commit that could expect rows. */
function liveSql(name: string, node: NodeServices): object {
  const component: Component = { kind: "sql", name };
  const rows = (row: Schema) =>
    Promise.resolve(async (text: TemplateStringsArray, ...values: readonly SqlValue[]) => {
      const found = await node.store.read.rows(statementOf(node, text, values));
      return Promise.all(found.map((one, at) => parseOrFault(row, one, `row ${at} of sql "${name}"`)));
    });
  return {
    rows,
    expect: rows,
    dialect: node.store.dialect,
    async run(text: TemplateStringsArray, ...values: readonly SqlValue[]): Promise<void> {
      const outcome = await node.lane.submit({ id: node.ids.next(), expects: [], writes: [{ kind: "sql", statement: statementOf(node, text, values) }] });
      if (!outcome.ok)
        throw (
          refusalOf(component, outcome) ??
          Fault.create("commit.conflict", `a statement of sql "${name}" was refused (${outcome.refused}); nothing of it was applied`, "Try again.")
        );
    },
  };
}

const statementOf = ({ store }: NodeServices, text: TemplateStringsArray, parameters: readonly SqlValue[]): Statement =>
  statementFor(store.dialect, text, parameters);

export function statementFor(dialect: Dialect, text: TemplateStringsArray, parameters: readonly SqlValue[]): Statement {
  const numbered = dialect === "postgres";
  return { text: text.reduce((before, part, at) => before + (numbered ? `$${at}` : "?") + part), parameters };
}

export function folderFor(name: string, migrations: SqlSpec["migrations"], dialect: Dialect): string {
  const folders: { readonly [dialect in Dialect]?: string } = typeof migrations === "string" ? { sqlite: migrations } : migrations;
  const folder = folders[dialect];
  if (folder !== undefined) return folder;
  throw Fault.create(
    "sql.dialect-missing",
    `sql "${name}" has migrations for ${Object.keys(folders).join(" and ") || "no dialect"}, and the store speaks ${dialect}`,
    `Write them for ${dialect} too and name both: migrations: { sqlite: "./migrations", postgres: "./migrations-postgres" }.`,
    { details: { component: name, dialect } },
  );
}

function asText(_key: string, value: unknown): unknown {
  if (typeof value === "bigint") return `${value}n`;
  return value instanceof Uint8Array ? `bytes ${Buffer.from(value.buffer, value.byteOffset, value.byteLength).toString("base64")}` : value;
}

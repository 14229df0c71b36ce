/** One server for the tests of a file, and a store of its own for each test. */
import { after, before } from "node:test";
import { missing, pgbouncer, postgres, type PostgresOptions as ServerOptions, type PostgresServer, type Server } from "@trestle/testing";
import pg from "pg";
import { systemClock, systemRandom, uuidv7Ids } from "trestle/kernel";
import type { Commit, Expectation, Store, Write } from "trestle/store";
import { openPostgres, type PostgresOptions } from "../open.ts";

export interface Fixture {
  /** Pass it as `skip`: the reason why there is no server, or false. */
  readonly skip: string | false;
  readonly server: PostgresServer;
  /** Opens a store in this schema, or in a new one. Closed after the tests of the file. */
  open(schema?: string, options?: Partial<PostgresOptions>): Promise<Store & { readonly schema: string }>;
  /** A session of its own, as another process would have it, closed after the tests of the file. It sees the tables of this schema. */
  session(schema: string, settings?: string): Promise<pg.Client>;
}

/** Call it once, at the top of a test file. */
export async function fixture(options?: ServerOptions): Promise<Fixture> {
  const skip = await missing("postgres", { managed: true });
  let server: PostgresServer | undefined;
  let schemas = 0;
  const opened: { end(): Promise<void> }[] = [];
  if (skip === false) {
    before(async () => void (server = await postgres(options)));
    after(async () => {
      await Promise.all(opened.map((one) => one.end().catch(() => undefined)));
      await server?.close();
    });
  }
  return {
    skip,
    get server() {
      return server as PostgresServer;
    },
    async open(schema = `s${++schemas}`, more = {}) {
      const store = await openPostgres({ url: (server as PostgresServer).url, schema, ...more });
      opened.push({ end: () => store.close() });
      return Object.assign(Object.create(store) as Store, { schema });
    },
    async session(schema, settings = "") {
      const client = new pg.Client({ connectionString: (server as PostgresServer).url, options: settings });
      client.on("error", () => undefined);
      await client.connect();
      opened.push({ end: () => client.end() });
      await client.query(`set search_path = ${schema}`);
      return client;
    },
  };
}

/** Directly, and through a transaction pooler, which starts when it is first asked for. Call it once, at the top of a test file. */
export async function waysTo(of: Fixture) {
  let pooler: Promise<Server> | undefined;
  after(async () => (await pooler)?.close());
  return [
    { engine: "postgres", skip: of.skip, url: async () => of.server.url },
    {
      engine: "postgres behind pgbouncer",
      skip: of.skip || (await missing("pgbouncer", { managed: true })),
      url: async () => (await (pooler ??= pgbouncer({ to: of.server.url }))).url,
    },
  ] as const;
}

const ids = uuidv7Ids(systemClock, systemRandom);
export const newId = (): string => ids.next();
export const bytes = (text: string): Buffer => Buffer.from(text);

export function commitOf(writes: readonly Write[], expects: readonly Expectation[] = [], id = newId()): Commit {
  return { id, expects, writes };
}
export const put = (key: string, value: string): Write => ({ kind: "put", key, value: bytes(value) });
export const append = (stream: string, ...data: readonly string[]): Write => ({
  kind: "append",
  stream,
  events: data.map((text) => ({ id: newId(), type: "Happened", data: bytes(text) })),
});
export const enqueue = (payload: string): Write => ({ kind: "enqueue", job: { id: newId(), queue: "work", payload: bytes(payload), priority: 1 } });

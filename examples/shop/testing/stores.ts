/** What the shop is tested on: one process on SQLite, and a fleet on PostgreSQL. The server starts when it is first asked for, and ends after the tests of the file. */
import { after } from "node:test";
import { missing, postgres, type PostgresServer } from "@trestle/testing";

export interface ShopStore {
  readonly name: string;
  /** Pass it as `skip`: why it is not there, or false. */
  readonly skip: string | false;
  /** Runs of a handler that one job may take when all orders are for one product. Between processes a turn can lapse where the machine is busy: 5 seen. */
  readonly attemptsMax: number;
  /** The environment of a shop on a new store. */
  env(): Promise<Readonly<Record<string, string>>>;
}

let server: Promise<PostgresServer> | undefined;
let schemas = 0;
after(async () => (await server)?.close());

export const shopStores: readonly ShopStore[] = [
  { name: "one process on SQLite", skip: false, attemptsMax: 5, env: async () => ({}) },
  {
    name: "3 web and 2 worker processes on PostgreSQL",
    skip: await missing("postgres", { managed: true }),
    attemptsMax: 8,
    async env() {
      const { url } = await (server ??= postgres());
      return { TRESTLE_STORE: `${url}?schema=shop_${++schemas}`, TRESTLE_PROCESSES: "web:3,worker:2" };
    },
  },
];

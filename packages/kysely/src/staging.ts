/**
 * A Kysely transaction of your own, as `stage` of `@trestle/postgres` wants a client: jobs and events are staged inside it, and are sent
 * when it commits (`await stage(stagingClient(trx), await node.staged({ mail }, ({ mail }) => mail.send(letter)))`).
 */
import { CompiledQuery, type Kysely } from "kysely";

export function stagingClient<Database>(trx: Kysely<Database>): { query(text: string, values: unknown[]): Promise<unknown> } {
  return { query: (text, values) => trx.executeQuery(CompiledQuery.raw(text, values)) };
}

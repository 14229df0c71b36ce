/**
 * Rows in transactional steps of DBOS, over `pg`: the row and the outcome of its step are one transaction, so a recovered workflow does neither twice. It is
 * what the makers' own data sources do; the published one for plain SQL does not fit this SDK, the others ask for an ORM.
 */
import { AsyncLocalStorage } from "node:async_hooks";
import { DBOS } from "@dbos-inc/dbos-sdk";
import { assertStillOwnsWorkflow, migrateDataSourcePG, registerDataSource, replayRecordedStep, runTransaction } from "@dbos-inc/dbos-sdk/datasource";
import type pg from "pg";

interface Recorded {
  readonly output: string | null;
  readonly error: string | null;
}

const name = "rows";
const inside = new AsyncLocalStorage<pg.PoolClient>();

/** Answers how a workflow inserts a row. */
export async function transactionalRows(pool: pg.Pool): Promise<(step: string, query: pg.QueryConfig) => Promise<void>> {
  await pool.query("create schema if not exists dbos");
  await transaction(pool, (client) => migrateDataSourcePG(async (text) => (await client.query<Record<string, unknown>>(text)).rows));
  registerDataSource({
    name,
    initialize: () => Promise.resolve(),
    destroy: () => Promise.resolve(),
    async invokeTransactionFunction(_config, target, work, ...args) {
      const step = [DBOS.workflowID, DBOS.stepID];
      const recorded = async () =>
        (
          await pool.query<Recorded>({
            name: "recorded",
            text: "select output, error from dbos.transaction_completion where workflow_id = $1 and function_num = $2",
            values: step,
          })
        ).rows[0];
      const before = await recorded();
      if (before) return replayRecordedStep(before);
      const mine = await transaction(pool, async (client) => {
        const result = await inside.run(client, () => work.call(target, ...args));
        const { rowCount } = await client.query({
          name: "record",
          text: "insert into dbos.transaction_completion (workflow_id, function_num, output) values ($1, $2, $3) on conflict do nothing",
          values: [...step, JSON.stringify({ json: result ?? null })],
        });
        if (rowCount === 0) throw new AlreadyRecorded();
        await assertStillOwnsWorkflow(step[0] as string);
        return { result };
      }).catch((error: unknown) => {
        if (!(error instanceof AlreadyRecorded)) throw error;
      });
      return mine ? mine.result : replayRecordedStep((await recorded()) as Recorded);
    },
  });
  return (step, query) => runTransaction(async () => void (await (inside.getStore() as pg.PoolClient).query(query)), step, { dsName: name });
}

class AlreadyRecorded extends Error {}

async function transaction<T>(pool: pg.Pool, work: (client: pg.PoolClient) => Promise<T>): Promise<T> {
  const client = await pool.connect();
  try {
    await client.query("begin");
    const result = await work(client);
    await client.query("commit");
    return result;
  } catch (error) {
    await client.query("rollback");
    throw error;
  } finally {
    client.release();
  }
}

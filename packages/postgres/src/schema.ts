/**
 * Trestle's own tables and functions. What a format adds to the tables of the one before is applied once, in order, and only forward; with each format all
 * functions are made anew. They carry the version of their contract in their names, so that processes of two versions can share a store while
 * they are deployed: what a name takes and answers stays, and another contract has another name. A store of a newer format is refused at open, never guessed at.
 */
import { readFile } from "node:fs/promises";
import { Fault } from "trestle/kernel";
import { commitFault } from "./lane.ts";
import { wasRolledBack, type Pool, type Session } from "./sessions.ts";

/** The tables of format 1 are the first list, and so on. Format 2 has other functions. */
const formats: readonly (readonly string[])[] = [["tables", "job-tables"], []];
const functions = ["parts", "jobs", "claims", "queue-reads", "commit-batch", "flush", "reads", "hint", "user-sql", "staged", "sweep", "pin"];

const attemptsMax = 5;

/** Makes or upgrades the schema, and answers where the store stands. Faults: those of `makeSchema`, `store.receiving`, `store.unreachable`. */
export async function prepareSchema(pool: Pool, schema: string): Promise<{ readonly epoch: number; readonly head: number }> {
  for (let attempt = 1; ; attempt++) {
    try {
      await makeSchema(pool, schema);
      return await openSchema(pool, schema);
    } catch (error) {
      // The connection was lost, and with it everything that was not committed.
      if (Fault.is(error) || wasRolledBack(error)) throw error;
      if (attempt >= attemptsMax)
        throw Fault.create(
          "store.unreachable",
          `PostgreSQL could not be reached: ${(error as Error).message}`,
          "Check the URL, the role and that the server runs.",
          { cause: error },
        );
    }
  }
}

function openSchema(pool: Pool, schema: string): Promise<{ readonly epoch: number; readonly head: number }> {
  return pool.use(async (session) => {
    try {
      const [row] = (await session.query<{ epoch: number; head: string }>({ text: `select * from "${schema}".open_store_v1()` })).rows;
      return { epoch: row?.epoch as number, head: Number(row?.head) };
    } catch (error) {
      throw wasRolledBack(error) ? commitFault(error) : error;
    }
  });
}

/** Makes or upgrades the schema. Faults with `store.newer-format`, `postgres.schema-not-made`. */
export async function makeSchema(pool: Pool, schema: string): Promise<void> {
  return pool.use(async (session) => {
    if ((await knownFormat(session, schema)) < formats.length) await upgrade(session, schema);
  });
}

/** 0: there is no store yet. Faults with `store.newer-format`. */
async function knownFormat(session: Session, schema: string): Promise<number> {
  const { rows } = await session.query<{ made: boolean }>({ text: "select to_regclass($1) is not null as made", values: [`"${schema}".store`] });
  if (!rows[0]?.made) return 0;
  const format = (await session.query<{ format: number }>({ text: `select format from "${schema}".store` })).rows[0]?.format ?? 0;
  if (format > formats.length)
    throw Fault.create(
      "store.newer-format",
      `the store in schema ${schema} has format ${format}, and this version of @trestle/postgres knows ${formats.length}`,
      "Use the version that made it, or a newer one.",
      { details: { format } },
    );
  return format;
}

/**
 * One transaction. The lock keeps two processes that start together from making the same things. Under it the format is looked at again: whoever held
 * the lock before may have raised it.
 */
async function upgrade(session: Session, schema: string): Promise<void> {
  try {
    await session.script("begin isolation level read committed; select pg_advisory_xact_lock(1953657701)");
    // Not "create schema if not exists", which asks for the right to create one even where there is nothing to create.
    const { rows } = await session.query({ text: "select to_regnamespace($1) as found", values: [`"${schema}"`] });
    await session.script(
      `${rows[0] && (rows[0] as { found: unknown }).found === null ? `create schema "${schema}"; ` : ""}set local search_path = "${schema}", pg_temp`,
    );
    const format = await knownFormat(session, schema);
    if (format < formats.length) {
      const files = [...formats.slice(format).flat(), ...functions];
      const texts = await Promise.all(files.map((name) => readFile(new URL(`./sql/${name}.sql`, import.meta.url), "utf8")));
      await session.script(texts.join("\n"));
      await session.script(
        `insert into store (format, epoch, system, home) select ${formats.length}, 1, c.system_identifier, current_home() from pg_control_system() c on conflict (one) do update set format = excluded.format`,
      );
    }
    await session.script("commit");
  } catch (cause) {
    await session.script("rollback").catch(() => undefined);
    if (Fault.is(cause) || !wasRolledBack(cause)) throw cause;
    throw Fault.create(
      "postgres.schema-not-made",
      `schema ${schema} could not be brought to format ${formats.length}: ${(cause as Error).message}`,
      "Open the store once with a role that may create it (docs/guides/postgres.md).",
      { cause },
    );
  }
}

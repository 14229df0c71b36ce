/**
 * Trestle's own tables and functions, under two numbers.
 *
 * The *format* is that of the tables. What a format adds to the one before is applied once, in order, and only forward. A store of a newer format
 * is refused at open, never guessed at.
 *
 * The *functions* have a version of their own, which refuses nobody: who finds older ones makes them all anew, who finds newer ones leaves them alone and
 * calls those. So processes of two versions run together while they are deployed, whichever of them opened the store last. That holds because
 * - what a client calls carries the version of its contract in its name (`…_v1`). What a name takes, answers and means stays; another contract is another name;
 * - no such name goes as long as the format stands: older processes call it;
 * - whatever else changes in a file of functions is a new version (schema.test.ts keeps the digests), so that it reaches the stores that are there.
 */
import { readFile } from "node:fs/promises";
import { Fault } from "trestle/kernel";
import { commitFault } from "./lane.ts";
import { wasRolledBack, type Pool, type Session } from "./sessions.ts";

/** The tables of format 1 are the first list, and so on. Format 2 has the same: it stood for other functions when those had no number of their own. */
export const formats: readonly (readonly string[])[] = [["tables", "job-tables"], []];
export const functionsVersion = 6;
export const functions: readonly string[] = [
  "parts",
  "jobs",
  "claims",
  "queue-reads",
  "commit-batch",
  "flush",
  "reads",
  "hint",
  "user-sql",
  "staged",
  "sweep",
  "pin",
];

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
    if (isBehind(await found(session, schema))) await upgrade(session, schema);
  });
}

interface Numbers {
  readonly format: number;
  readonly functions: number;
}

const isBehind = (there: Numbers) => there.format < formats.length || there.functions < functionsVersion;

/** Format 0: there is no store yet. Functions 0: older than their numbers. Faults with `store.newer-format`. */
async function found(session: Session, schema: string): Promise<Numbers> {
  const [known] = (
    await session.query<{ made: boolean; numbered: boolean }>({
      text: "select to_regclass($1) is not null as made, to_regprocedure($2) is not null as numbered",
      values: [`"${schema}".store`, `"${schema}".functions_version()`],
    })
  ).rows;
  if (!known?.made) return { format: 0, functions: 0 };
  const version = known.numbered ? `"${schema}".functions_version()` : "0";
  const [row] = (await session.query<Numbers>({ text: `select format, ${version} as functions from "${schema}".store` })).rows;
  const { format, functions } = row ?? { format: 0, functions: 0 };
  if (format > formats.length)
    throw Fault.create(
      "store.newer-format",
      `the store in schema ${schema} has format ${format}, and this version of @trestle/postgres knows ${formats.length}`,
      "Use the version that made it, or a newer one.",
      { details: { format } },
    );
  return { format, functions };
}

/**
 * One transaction. The lock keeps two processes that start together from making the same things. Under it is looked again: whoever held the lock before
 * may have made them, and newer ones.
 */
async function upgrade(session: Session, schema: string): Promise<void> {
  try {
    await session.script("begin isolation level read committed; select pg_advisory_xact_lock(1953657701)");
    // Not "create schema if not exists", which asks for the right to create one even where there is nothing to create.
    const { rows } = await session.query({ text: "select to_regnamespace($1) as found", values: [`"${schema}"`] });
    await session.script(
      `${rows[0] && (rows[0] as { found: unknown }).found === null ? `create schema "${schema}"; ` : ""}set local search_path = "${schema}", pg_temp`,
    );
    const there = await found(session, schema);
    if (isBehind(there)) {
      const files = [...formats.slice(there.format).flat(), ...(there.functions < functionsVersion ? functions : [])];
      const texts = await Promise.all(files.map((name) => readFile(new URL(`./sql/${name}.sql`, import.meta.url), "utf8")));
      await session.script(texts.join("\n"));
      await session.script(
        `create or replace function functions_version() returns integer language sql stable as 'select ${Math.max(there.functions, functionsVersion)}';
        insert into store (format, epoch, system, home) select ${formats.length}, 1, c.system_identifier, current_home() from pg_control_system() c on conflict (one) do update set format = excluded.format`,
      );
    }
    await session.script("commit");
  } catch (cause) {
    await session.script("rollback").catch(() => undefined);
    if (Fault.is(cause) || !wasRolledBack(cause)) throw cause;
    throw Fault.create(
      "postgres.schema-not-made",
      `schema ${schema} could not be brought to format ${formats.length}, functions ${functionsVersion}: ${(cause as Error).message}`,
      "Open the store once with a role that may create it (docs/guides/postgres.md).",
      { cause },
    );
  }
}

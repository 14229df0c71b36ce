/**
 * The user's migrations as files: every `*.sql` of a folder, in order of name. What was applied is the store's to remember.
 *
 * They are read at once: few and short, before the node serves anybody; and what takes no time can be read inside a simulation.
 */
import { readdirSync, readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { Fault } from "../kernel/index.ts";

export function readMigrations(component: string, migrations: string): readonly { readonly name: string; readonly text: string }[] {
  const folder = migrations.startsWith("file:") ? fileURLToPath(migrations) : resolve(migrations);
  let names: readonly string[];
  try {
    names = readdirSync(folder)
      .filter((name) => name.endsWith(".sql"))
      .sort(); // by UTF-16 code unit: the same everywhere
  } catch (cause) {
    throw Fault.create(
      "sql.migrations-unreadable",
      `sql "${component}": migrations must be a folder that can be read, got ${JSON.stringify(migrations)}, which is ${folder} (${(cause as Error).message})`,
      'Name the folder as a path from the working directory, or as import.meta.resolve("./migrations").',
      { cause },
    );
  }
  if (names.length === 0)
    throw Fault.create(
      "sql.no-migrations",
      `sql "${component}": the folder of migrations has no *.sql file: ${folder}`,
      "Put the first migration there, for example 001-ledger.sql.",
    );
  return names.map((name) => ({ name, text: readFileSync(join(folder, name), "utf8") }));
}

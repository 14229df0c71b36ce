/** The tables of an app's sql components on their way to another store: what `trestle move` runs while commits wait. */
import type { Component } from "../component/index.ts";
import { Fault } from "../kernel/index.ts";
import type { MoveSource, NewTables } from "../store/index.ts";
import { readMigrations } from "./migrations.ts";
import { folderFor, moveOf, statementFor, type Dialect } from "./sql.ts";

/**
 * Reads the migrations for the new dialect now; answers what makes the tables there and fills them. `undefined`: no component of these has tables.
 * Faults: `move.user-tables` when a component has no `move`, `sql.dialect-missing`, `sql.migrations-unreadable`, `sql.no-migrations`.
 */
export async function movingTables(
  components: readonly Component[],
  dialects: { readonly from: Dialect; readonly to: Dialect },
): Promise<((from: Pick<MoveSource, "rows">, into: NewTables) => Promise<void>) | undefined> {
  const all = await Promise.all(
    components
      .filter(({ kind }) => kind === "sql")
      .map(async (component) => {
        const { migrations, move } = moveOf(component);
        if (!move)
          throw Fault.create(
            "move.user-tables",
            `sql "${component.name}" has tables of its own, and does not say how their rows move`,
            "Give it `move`, which reads the old tables and fills the new ones; or say that the tables are left behind (`--leave-tables`).",
            { details: { component: component.name } },
          );
        return { name: component.name, files: readMigrations(component.name, folderFor(component.name, migrations, dialects.to)), move };
      }),
  );
  if (all.length === 0) return undefined;
  return async (from, into) => {
    for (const { name, files } of all) await into.migrate(name, files);
    for (const { move } of all)
      await move(
        { rows: (text, ...values) => from.rows(statementFor(dialects.from, text, values)) },
        { run: (text, ...values) => into.execute(statementFor(dialects.to, text, values)) },
      );
  };
}

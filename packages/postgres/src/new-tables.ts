/** The user's own tables, made and filled in the transaction in which a moved store opens (trestle/store, `NewTables`). They are named as the role's own search_path has it. */
import { createHash } from "node:crypto";
import { Fault } from "trestle/kernel";
import type { NewTables } from "trestle/store";
import type { Session } from "./sessions.ts";
import { checkUserText } from "./statement-text.ts";
import { bindable } from "./user-values.ts";

/** `session` is in that transaction. Errors of the user's statements come as PostgreSQL says them. */
export function newTables(session: Session, schema: string): NewTables {
  return {
    dialect: "postgres",
    async migrate(component, files) {
      for (const { name, text } of [...files].sort((a, b) => (a.name < b.name ? -1 : a.name > b.name ? 1 : 0))) {
        checkUserText(text, schema);
        try {
          await session.script(text, { unbounded: true });
        } catch (error) {
          throw Fault.create(
            "sql.migration-failed",
            `migration ${name} of ${component} failed: ${(error as Error).message}; nothing of it was applied`,
            "Correct the file and start again.",
            { cause: error, details: { component, name } },
          );
        }
        await session.query({
          text: `select "${schema}".keep_migration_v1(null, $1, $2, $3)`,
          values: [component, name, createHash("sha256").update(text).digest("hex")],
        });
      }
    },
    async execute({ text, parameters }) {
      checkUserText(text, schema);
      await session.query({ text, values: parameters.map(bindable), extended: true });
    },
  };
}

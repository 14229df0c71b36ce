/** `trestle move`: a store goes to another engine while its app runs (../move/README.md). */
import { existsSync } from "node:fs";
import { resolve } from "node:path";
import { enginePackage, isPostgres, withoutPassword } from "../app/index.ts";
import { Fault, systemClock, systemRandom, type Clock, type Random } from "../kernel/index.ts";
import { abandonMove, move, type MoveOptions, type MoveReport, type MoveStepReport } from "../move/index.ts";
import { movingTables } from "../sql/index.ts";
import { moveSource, openSqliteStore, parseStoreUrl } from "../sqlite/index.ts";
import type { MoveTarget } from "../store/index.ts";
import { textOption, type CommandSpec, type Given } from "./command-line.ts";
import { exitCodes, type ExitCode } from "./exit-codes.ts";
import { loadApp } from "./load-app.ts";

export const moveCommand: CommandSpec = {
  name: "move",
  summary: "Moves a store from SQLite to PostgreSQL while its app runs, compares both, and cuts over; started again after a crash, it goes on.",
  arguments: ["[app.ts]"],
  options: {
    from: { type: "string", value: "url", help: "the store now, such as sqlite:.trestle/shop.db" },
    to: { type: "string", value: "url", help: "the store to come, such as postgres://db.internal/shop; the app's nodes follow to exactly this URL" },
    "dry-run": { type: "boolean", help: "look at both stores and say what would be moved; write nothing" },
    abandon: { type: "boolean", help: "give the move up before its cut: the old store goes on, the new one is emptied" },
    "leave-tables": { type: "boolean", help: "your own SQL tables stay behind; you see to them. Else name the app, whose sql components say how they move" },
    json: { type: "boolean", help: "{version, from, to, rows, clockOffsetMs, pausedMs, head, userTables}" },
  },
  examples: [
    "trestle move --from sqlite:.trestle/shop.db --to postgres://db.internal/shop --dry-run",
    "trestle move --from sqlite:.trestle/shop.db --to postgres://db.internal/shop",
    "trestle move app.ts --from sqlite:.trestle/shop.db --to postgres://db.internal/shop",
  ],
};

interface PostgresMoves {
  postgresMoveTarget(options: { readonly url: string; readonly clock: Clock; readonly random: Random }): Promise<MoveTarget>;
}

export async function runMove(given: Given): Promise<ExitCode> {
  const [from, to] = [required(given, "from"), required(given, "to")];
  const { path, durability } = sourcePath(from);
  if (!isPostgres(to))
    throw Fault.create(
      "cli.bad-option",
      `--to must be a PostgreSQL URL, got ${JSON.stringify(withoutPassword(to))}`,
      "Write it like postgres://user@host/database.",
    );
  const { postgresMoveTarget } = await enginePackage<PostgresMoves>("@trestle/postgres", to);
  const tables = await tablesOf(given);
  const store = await openSqliteStore({ path, durability });
  const source = await moveSource(path, store, systemClock);
  try {
    const target = await postgresMoveTarget({ url: to, clock: systemClock, random: systemRandom });
    try {
      if (given.values["abandon"]) {
        await abandonMove({ source, target });
        process.stdout.write(
          given.values["json"]
            ? `${JSON.stringify({ version: 1, abandoned: true })}\n`
            : "The move is given up: the old store goes on, the new one is empty.\n",
        );
        return exitCodes.ok;
      }
      const progress = progressLine();
      const report = await move({
        source,
        target,
        url: to,
        clock: systemClock,
        dryRun: given.values["dry-run"] === true,
        ...(tables && { tables }),
        onProgress: progress.tell,
      });
      progress.end();
      process.stdout.write(
        given.values["json"]
          ? `${JSON.stringify({ version: 1, from: withoutPassword(from), to: withoutPassword(to), ...report }, undefined, 2)}\n`
          : told(report, withoutPassword(to), {
              dry: given.values["dry-run"] === true,
              behind: given.values["leave-tables"] === true || given.positionals.length === 0,
            }),
      );
      return exitCodes.ok;
    } finally {
      await target.close();
    }
  } finally {
    await source.close();
  }
}

async function tablesOf(given: Given): Promise<MoveOptions["tables"]> {
  if (given.values["leave-tables"]) return async () => undefined;
  const [file] = given.positionals;
  return file === undefined ? undefined : movingTables((await loadApp(file)).components, { from: "sqlite", to: "postgres" });
}

function required(given: Given, name: "from" | "to"): string {
  const value = textOption(given, name);
  if (value === undefined)
    throw Fault.create("cli.missing-argument", `trestle move needs --${name}`, "Name both stores: --from sqlite:<path> --to postgres://…");
  return value;
}

function sourcePath(url: string): ReturnType<typeof parseStoreUrl> {
  if (isPostgres(url))
    throw Fault.create("cli.bad-option", "--from must be a SQLite store: PostgreSQL is moved to, and not from", "Name the file: --from sqlite:<path>.");
  const parsed = parseStoreUrl(url);
  if (parsed.path === ":memory:")
    throw Fault.create("cli.bad-option", "--from must be a store in a file: one in memory lives in its node only", "Name the file: --from sqlite:<path>.");
  if (!existsSync(parsed.path))
    throw Fault.create("store.not-found", `--from must be a store, and there is no file ${resolve(parsed.path)}`, "Check the path.");
  return parsed;
}

/** One line on a terminal, one a second elsewhere. */
function progressLine(): { readonly tell: (report: MoveStepReport) => void; readonly end: () => void } {
  const terminal = process.stderr.isTTY;
  let saidMs = -Infinity;
  return {
    tell({ step, part, rows, of }) {
      const nowMs = systemClock.monotonicMs();
      if (nowMs - saidMs < (terminal ? 100 : 1_000)) return;
      saidMs = nowMs;
      const line = `${step}${part === undefined ? "" : ` ${part}`}: ${rows}${of === undefined ? "" : ` of ${of}`} rows`;
      process.stderr.write(terminal ? `\r\u001b[K${line}` : `${line}\n`);
    },
    end: () => void (terminal && process.stderr.write("\r\u001b[K")),
  };
}

function told(report: MoveReport, to: string, { dry, behind }: { readonly dry: boolean; readonly behind: boolean }): string {
  const rows = Object.entries(report.rows).map(([part, count]) => `  ${part.padEnd(10)} ${count}`);
  return [
    dry ? `Would be moved to ${to}:` : `Moved to ${to}, and compared:`,
    ...rows,
    `  clocks     the new one is ${report.clockOffsetMs} ms ${report.clockOffsetMs < 0 ? "behind" : "ahead"}`,
    ...(report.userTables.length > 0 ? [`  your own tables ${behind ? "stay behind" : "move as the app says"}: ${report.userTables.join(", ")}`] : []),
    ...(report.pausedMs === undefined ? [] : [`  commits waited for ${Math.round(report.pausedMs)} ms`]),
    ...(dry ? [] : ["The app's nodes go on there by themselves. Change TRESTLE_STORE before you start them again."]),
    "",
  ].join("\n");
}

/** `trestle plan`: what changes when a store's URL changes, before it changes. Opens and writes nothing. */
import { enginePackage, isPostgres, withoutPassword } from "../app/index.ts";
import { definitionOf } from "../component/index.ts";
import { parseStoreUrl, sqliteProfile } from "../sqlite/index.ts";
import { engineCosts, type EngineProfile } from "../store/index.ts";
import { textOption, type CommandSpec, type Given } from "./command-line.ts";
import { exitCodes, type ExitCode } from "./exit-codes.ts";
import { loadApp } from "./load-app.ts";

export const planCommand: CommandSpec = {
  name: "plan",
  summary: "Says which guarantees appear, vanish or cost something else on another store, and whether the app can do without. Changes nothing.",
  arguments: ["<app.ts>"],
  options: {
    from: { type: "string", value: "url", help: "the store now; default TRESTLE_STORE, else sqlite:" },
    to: { type: "string", value: "url", help: "the store to come, such as postgres://db.internal/shop" },
    json: { type: "boolean", help: "{version, app, from, to, appear, vanish, stay, lacking, costs, tables}" },
  },
  examples: ["trestle plan app.ts --to postgres://db.internal/shop", "trestle plan app.ts --from sqlite:shop.db --to 'sqlite:shop.db?synchronous=normal'"],
};

interface Lacking {
  readonly component: string;
  readonly need: string;
  readonly guarantees: readonly string[];
}

export async function runPlan(given: Given): Promise<ExitCode> {
  const loaded = await loadApp(given.positionals[0] as string);
  const from = textOption(given, "from") ?? process.env["TRESTLE_STORE"] ?? "sqlite:.trestle/app.db";
  const to = textOption(given, "to") ?? from;
  const [before, after] = [await profileOf(from), await profileOf(to)];
  const [had, has] = [new Set(before.guarantees), new Set(after.guarantees)];
  const lacking: Lacking[] = loaded.components.flatMap((component) =>
    Object.entries(definitionOf(component).needs ?? {}).flatMap(([need, restsOn]) => {
      const guarantees = restsOn.filter((id) => !has.has(id));
      return guarantees.length > 0 ? [{ component: `${component.kind} ${component.name}`, need, guarantees }] : [];
    }),
  );
  const plan = {
    version: 1,
    app: loaded.name,
    from: { engine: before.engine, url: withoutPassword(from) },
    to: { engine: after.engine, url: withoutPassword(to) },
    appear: [...has].filter((id) => !had.has(id)),
    vanish: [...had].filter((id) => !has.has(id)),
    stay: [...had].filter((id) => has.has(id)),
    lacking,
    costs: engineCosts.filter((what) => before.costs[what] !== after.costs[what]).map((what) => ({ what, from: before.costs[what], to: after.costs[what] })),
    tables: before.engine === after.engine ? [] : loaded.components.filter(({ kind }) => kind === "sql").map(({ name }) => name),
  };
  process.stdout.write(given.values["json"] ? `${JSON.stringify(plan, undefined, 2)}\n` : told(plan));
  return lacking.length > 0 ? exitCodes.problem : exitCodes.ok;
}

async function profileOf(url: string): Promise<EngineProfile> {
  if (isPostgres(url)) return (await enginePackage<{ readonly profile: EngineProfile }>("@trestle/postgres", url)).profile;
  const { path, durability } = parseStoreUrl(url);
  return sqliteProfile(path, durability);
}

function told(plan: {
  readonly app: string;
  readonly from: { readonly engine: string; readonly url: string };
  readonly to: { readonly engine: string; readonly url: string };
  readonly appear: readonly string[];
  readonly vanish: readonly string[];
  readonly stay: readonly string[];
  readonly lacking: readonly Lacking[];
  readonly costs: readonly { readonly what: string; readonly from: string; readonly to: string }[];
  readonly tables: readonly string[];
}): string {
  const list = (ids: readonly string[]) => (ids.length > 0 ? ids.join(", ") : "none");
  return [
    `${plan.app}: ${plan.from.engine} (${plan.from.url}) → ${plan.to.engine} (${plan.to.url})`,
    "",
    `appear   ${list(plan.appear)}`,
    `vanish   ${list(plan.vanish)}`,
    `stay     ${plan.stay.length} guarantees`,
    ...(plan.costs.length > 0
      ? ["", "what it costs", ...plan.costs.flatMap(({ what, from, to }) => [`  ${what}`, `    now   ${from}`, `    then  ${to}`])]
      : []),
    ...(plan.tables.length > 0
      ? ["", `Your own tables (${plan.tables.join(", ")}) have SQL of one dialect: they need migrations for the new one, and you bring their rows over.`]
      : []),
    "",
    ...(plan.lacking.length > 0
      ? [
          "It would not start there:",
          ...plan.lacking.map(({ component, need, guarantees }) => `  ${component} needs ${need}; missing ${guarantees.join(", ")}`),
        ]
      : ["Everything the app needs is there."]),
    "",
  ].join("\n");
}

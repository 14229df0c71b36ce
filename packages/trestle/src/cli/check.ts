/** `trestle check <app.ts> [policies.yaml]`: whether a file of degradation policies fits itself and the app, before a node is given it. Starts nothing. */
import { flawsFor } from "../app/index.ts";
import { readPolicies, type RouteRules } from "../degradation/index.ts";
import { Fault } from "../kernel/index.ts";
import type { CommandSpec, Given } from "./command-line.ts";
import { exitCodes, type ExitCode } from "./exit-codes.ts";
import { loadApp } from "./load-app.ts";
import { table } from "./table.ts";

export const checkCommand: CommandSpec = {
  name: "check",
  summary: "Says everything that is wrong with a file of degradation policies: with its lines, and with what of it this app has not. Starts nothing.",
  arguments: ["<app.ts>", "[policies.yaml]"],
  options: {
    saturation: { type: "string", multiple: true, value: "name", help: "a name that the app gives to `start` for triggers; can be given several times" },
    json: { type: "boolean", help: "{version, app, file, ok, flaws, routes: [{route, mode, ladder}]}" },
  },
  examples: ["trestle check app.ts", "trestle check app.ts degradation-policies.yaml --saturation pool"],
};

export async function runCheck({ positionals, values }: Given): Promise<ExitCode> {
  const app = await loadApp(positionals[0] as string);
  const file = positionals[1] ?? process.env["TRESTLE_DEGRADATION"] ?? "degradation-policies.yaml";
  const known = flawsFor(app.components, (values["saturation"] ?? []) as readonly string[]);
  let rules: readonly RouteRules[] = [];
  let flaws: readonly string[] = [];
  try {
    rules = (await readPolicies(file, known)).rules;
  } catch (thrown) {
    if (!Fault.is(thrown, "degradation.bad-policy")) throw thrown;
    flaws = thrown.details["flaws"] as readonly string[];
  }
  const routes = rules.map(({ route, mode, ladder, triggers }) => ({
    route,
    mode,
    ladder,
    triggers: triggers.map(({ kind, of, serve }) => `${kind} ${of} → ${serve}`),
  }));
  if (values["json"]) process.stdout.write(`${JSON.stringify({ version: 1, app: app.name, file, ok: flaws.length === 0, flaws, routes })}\n`);
  else if (flaws.length > 0)
    process.stdout.write(
      `${file}\n${flaws.map((flaw) => `  ${flaw}\n`).join("")}\nA node of ${app.name} would not start with it, and a running one keeps what it has.\n`,
    );
  else
    process.stdout.write(
      `${table(
        ["route", "mode", "ladder", "when"],
        routes.map(({ route, mode, ladder, triggers }) => [route, mode, ladder.join(" "), triggers.join(", ")]),
      )}\n${file} fits ${app.name}.\n`,
    );
  return flaws.length === 0 ? exitCodes.ok : exitCodes.problem;
}

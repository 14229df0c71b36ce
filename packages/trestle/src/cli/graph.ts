/** `trestle graph <app.ts>`: the declared graph of an app, from its declarations alone; nothing is started. */
import type { CommandSpec, Given } from "./command-line.ts";
import { exitCodes, type ExitCode } from "./exit-codes.ts";
import { graphJson, graphMermaid, graphText } from "./graph-text.ts";
import { loadApp } from "./load-app.ts";

export const graphCommand: CommandSpec = {
  name: "graph",
  summary: "Prints the components of an app and what each of them uses. Starts nothing.",
  arguments: ["<app.ts>"],
  options: {
    json: { type: "boolean", help: "one JSON object: {version, app, components, edges}" },
    mermaid: { type: "boolean", help: "a Mermaid flowchart, for Markdown pages" },
  },
  examples: ["trestle graph app.ts", "trestle graph app.ts --mermaid > docs/graph.mmd"],
};

export async function runGraph({ positionals, values }: Given): Promise<ExitCode> {
  const app = await loadApp(positionals[0] as string);
  process.stdout.write(values["json"] ? `${JSON.stringify(graphJson(app), null, 2)}\n` : values["mermaid"] ? graphMermaid(app) : graphText(app));
  return exitCodes.ok;
}

/** An app's declared graph for people (text, Mermaid) and for programs (JSON). */
import type { App, Graph } from "../app/index.ts";

/** `version` changes when a field changes its meaning. */
export function graphJson(app: App): object {
  const { components, edges } = app.graph;
  return { version: 1, app: app.name, components, edges };
}

/** Components by kind, each with what it reaches. */
export function graphText(app: App): string {
  const { components, edges } = app.graph;
  const lines = [`app ${app.name}: ${components.length} components, ${edges.length} edges`];
  const width = Math.max(0, ...components.map(({ name }) => name.length));
  for (const kind of new Set(components.map((component) => component.kind))) {
    lines.push("", kind);
    for (const { name, role, annotations } of components.filter((component) => component.kind === kind)) {
      const facts = [role === "any" ? "" : `role ${role}`, annotations.owner === undefined ? "" : `owner ${annotations.owner}`, annotations.dataClass ?? ""]
        .filter(Boolean)
        .join(", ");
      lines.push(`  ${name.padEnd(width)}${facts === "" ? "" : `  ${facts}`}`.trimEnd());
      for (const { to, operation } of edges.filter(({ from }) => from === name)) lines.push(`    ${operation.padEnd(7)} ${to}`);
    }
  }
  return `${lines.join("\n")}\n`;
}

const shapes: Readonly<Record<string, readonly [string, string]>> = {
  service: ["{{", "}}"],
  queue: ["[[", "]]"],
  aggregate: ["[", "]"],
  records: ["[(", ")]"],
  sql: ["[(", ")]"],
  projection: ["[/", "/]"],
  topic: ["[\\", "\\]"],
  subscription: [">", "]"],
  schedule: ["([", "])"],
  external: ["(", ")"],
};
const arrows: Readonly<Record<Graph["edges"][number]["operation"], string>> = {
  call: "==>",
  send: "-->",
  publish: "-->",
  write: "-->",
  read: "-.->",
  follow: "-.->",
};

export function graphMermaid(app: App): string {
  const { components, edges } = app.graph;
  const ids = new Map(components.map(({ name }, index) => [name, `c${index}`]));
  const nodes = components.map(({ kind, name }) => {
    const [open, close] = shapes[kind] ?? ["[", "]"];
    return `  ${ids.get(name)}${open}"${name}<br/><small>${kind}</small>"${close}`;
  });
  const lines = edges.map(({ from, to, operation }) => `  ${ids.get(from)} ${arrows[operation]}|${operation}| ${ids.get(to)}`);
  return ["flowchart LR", ...nodes, ...lines, ""].join("\n");
}

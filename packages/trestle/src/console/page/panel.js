/** Everything known about one component. */
import { byId, fact, make } from "./elements.js";
import { compact, duration, milliseconds, percent, rate } from "./format.js";
import { queueSection } from "./queue.js";

export function showPanel({ components, edges, windowMs }, selected, groups, select, look) {
  const panel = byId("panel");
  const component = components.find(({ name }) => name === selected);
  panel.hidden = component === undefined;
  document.body.classList.toggle("with-panel", component !== undefined);
  if (!component) return panel.replaceChildren();
  const { kind, name, role, facts, traffic, operations, queue, counts, declared } = component;
  const minutes = windowMs / 60_000;
  panel.replaceChildren(
    make(
      "div",
      { class: "title" },
      make("h2", { id: "panel-title" }, name),
      make("button", { type: "button", class: "quiet", "data-key": "close", "aria-label": "Close", onclick: () => select(undefined) }, "✕"),
    ),
    make("p", { class: "more" }, `${kind}${role && role !== "any" ? `, runs where the role is ${role}` : ""}`),
    declared ? "" : make("p", { class: "warn" }, "Seen at work, but not in the app's declaration."),
    facts.summary ? make("p", {}, facts.summary) : "",
    make("dl", { class: "facts-list" }, ...factRows(facts, traffic)),
    make("h3", {}, `In the last ${minutes === 1 ? "minute" : `${minutes} minutes`}`),
    make(
      "dl",
      { class: "facts-list" },
      fact(counts === "handled" ? "handled" : "used by handlers", rate(traffic.perSecond)),
      traffic.faultsPerSecond > 0
        ? fact("failed", `${rate(traffic.faultsPerSecond)}, ${percent(traffic.faultsPerSecond / traffic.perSecond)}`, "bad")
        : fact("failed", "none"),
      traffic.refusedPerSecond > 0 ? fact("refused", rate(traffic.refusedPerSecond)) : "",
      traffic.p50Ms === undefined ? "" : fact("half within", duration(traffic.p50Ms)),
      traffic.p99Ms === undefined ? "" : fact("99 % within", duration(traffic.p99Ms)),
    ),
    operations.length === 0 ? "" : operationTable(operations),
    queue ? queueSection(queue, groups, look) : "",
    neighbourList(
      "Uses",
      edges.filter(({ from }) => from === name),
      ({ to }) => to,
      components,
      select,
    ),
    neighbourList(
      "Used by",
      edges.filter(({ to }) => to === name),
      ({ from }) => from,
      components,
      select,
    ),
  );
}

function factRows({ owner, slo, dataClass, runbook, decisions, cost, summary: _, ...more }, traffic) {
  const promised = milliseconds(slo?.p99);
  const late = promised !== undefined && traffic.p99Ms !== undefined && traffic.p99Ms > promised;
  return [
    owner ? fact("owner", owner) : "",
    slo?.p99 === undefined
      ? ""
      : fact(
          "promised p99",
          `${typeof slo.p99 === "number" ? duration(slo.p99) : slo.p99}${late ? `, now ${duration(traffic.p99Ms)}` : ""}`,
          late ? "bad" : "",
        ),
    slo?.availability === undefined ? "" : fact("availability", `${(slo.availability * 100).toFixed(3).replace(/\.?0+$/, "")} %`),
    dataClass ? fact("data", dataClass) : "",
    runbook ? fact("runbook", /^https?:\/\//.test(runbook) ? make("a", { href: runbook, rel: "noreferrer", target: "_blank" }, runbook) : runbook) : "",
    decisions?.length ? fact("decisions", decisions.join(", ")) : "",
    cost?.center ? fact("cost center", cost.center) : "",
    ...Object.entries(more)
      .filter(([, value]) => ["string", "number", "boolean"].includes(typeof value))
      .map(([name, value]) => fact(name, String(value))),
  ];
}

function operationTable(operations) {
  const rows = [...operations]
    .sort((a, b) => b.perSecond - a.perSecond || (a.name < b.name ? -1 : 1))
    .map(({ name, perSecond, faultsPerSecond, p99Ms, total }) =>
      make(
        "tr",
        {},
        make("th", { scope: "row" }, name || "(run)"),
        make("td", { class: `number ${perSecond ? "" : "none"}` }, rate(perSecond)),
        make("td", { class: `number ${faultsPerSecond ? "bad" : "none"}` }, rate(faultsPerSecond)),
        make("td", { class: "number" }, duration(p99Ms)),
        make("td", { class: "number" }, compact(total)),
      ),
    );
  return make(
    "div",
    { class: "scroll" },
    make(
      "table",
      {},
      make(
        "thead",
        {},
        make("tr", {}, ...["Operation", "Rate", "Failed", "p99", "Total"].map((text, i) => make("th", { scope: "col", class: i ? "number" : "" }, text))),
      ),
      make("tbody", {}, ...rows),
    ),
  );
}

function neighbourList(title, edges, other, components, select) {
  if (edges.length === 0) return "";
  const kinds = new Map(components.map(({ name, kind }) => [name, kind]));
  return make(
    "div",
    {},
    make("h3", {}, title),
    make(
      "ul",
      { class: "neighbours" },
      ...edges.map((edge) =>
        make(
          "li",
          {},
          kinds.get(other(edge)) === "setting"
            ? make("code", {}, other(edge))
            : make(
                "button",
                { type: "button", class: "link", "data-key": `${title} ${other(edge)} ${edge.operation}`, onclick: () => select(other(edge)) },
                other(edge),
              ),
          make("span", { class: edge.declared ? "more" : "bad" }, edge.declared ? edge.operation : "not declared"),
          make(
            "span",
            { class: "number more" },
            kinds.get(other(edge)) === "setting" ? "setting" : edge.total === 0 ? "not seen yet" : rate(edge.traffic.perSecond),
          ),
        ),
      ),
    ),
  );
}

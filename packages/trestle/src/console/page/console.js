/**
 * The console: asks the node every two seconds and shows what it answers. One state, drawn anew each time; what has focus keeps it.
 * Nothing from the node is put into the page as HTML.
 */
import { showDegraded } from "./degraded.js";
import { byId, make, say } from "./elements.js";
import { age } from "./format.js";
import { showGates } from "./gates.js";
import { edgeStyles, graphDrawing, kindShapes, legendEdge, legendShape } from "./graph.js";
import { showKept } from "./kept.js";
import { get } from "./node.js";
import { showPanel } from "./panel.js";
import { queueGroups } from "./queue.js";
import { showSimulations } from "./simulations.js";
import { showQueues, showTotals } from "./summary.js";

const everyMs = 2_000;
const slowestMs = 15_000;
const state = {
  graph: undefined,
  status: undefined,
  groups: undefined,
  error: undefined,
  selected: fromAddress(),
  failures: 0,
  lastAnswerMs: undefined,
};

const drawing = graphDrawing(byId("graph"), { onSelect: select });
// ---- asking ---------------------------------------------------------------------------------------------------------

let timer;
let asking;

/** Asks now, and again after a while; a page nobody sees asks nothing. */
function look() {
  clearTimeout(timer);
  asking ??= ask().finally(() => {
    asking = undefined;
    const pauseMs = Math.min(slowestMs, everyMs * 2 ** Math.max(0, state.failures - 2));
    if (!document.hidden) timer = setTimeout(look, pauseMs);
  });
  return asking;
}

async function ask() {
  try {
    const [graph, status, simulations] = await Promise.all([get("graph.json"), get("status.json"), get("simulations.json")]);
    const groups = await queueGroups(graph, state.selected);
    if (state.failures > 2) say("Connected again.");
    Object.assign(state, { graph, status, simulations, groups, error: undefined, failures: 0, lastAnswerMs: performance.now() });
    show();
  } catch (error) {
    state.failures++;
    state.error = error;
    showConnection();
  }
}

// ---- showing --------------------------------------------------------------------------------------------------------

function show() {
  const { graph, status, simulations, groups } = state;
  if (state.selected !== undefined && !graph.components.some(({ name }) => name === state.selected)) state.selected = undefined;
  document.title = `${graph.app} · Trestle`;
  byId("app").textContent = graph.app;
  keepingFocus(() => {
    showConnection();
    showNode(status);
    showTotals(graph, status);
    showKept(status, graph.atMs, look);
    showDegraded(status, look);
    showGates(graph, status, select);
    showSimulations(simulations, graph.atMs);
    showQueues(status, graph, select);
    showPanel(graph, state.selected, groups, select, look);
  });
  drawing.update(graph, state.selected);
}

/** Lists are drawn anew; whatever had focus gets it back by its key. */
function keepingFocus(draw) {
  const key = document.activeElement?.closest?.("[data-key]")?.dataset.key;
  const open = new Set([...document.querySelectorAll("details[data-key][open]")].map((details) => details.dataset.key));
  const panelScroll = byId("panel").scrollTop;
  draw();
  for (const details of document.querySelectorAll("details[data-key]")) if (open.has(details.dataset.key)) details.open = true;
  byId("panel").scrollTop = panelScroll;
  if (key !== undefined && !byId("confirm").open) document.querySelector(`[data-key="${CSS.escape(key)}"]`)?.focus({ preventScroll: true });
}

function showConnection() {
  const silentMs = state.lastAnswerMs === undefined ? undefined : performance.now() - state.lastAnswerMs;
  const connected = state.failures === 0 && state.graph !== undefined;
  document.body.dataset.connection = connected ? "live" : state.failures > 0 ? "lost" : "connecting";
  byId("connection-text").textContent = connected
    ? "live"
    : state.failures > 0
      ? silentMs === undefined
        ? "no answer"
        : `no answer for ${age(silentMs)}`
      : "connecting";
  const { status, message, remedy } = state.error ?? {};
  if (status === 401 || status === 403) notify(message, remedy ?? "");
  else if (state.failures >= 2)
    notify("The node does not answer.", silentMs === undefined ? "Asking again." : "What you see is as it was when it last did. Asking again.");
  else notify();
  if (state.failures >= 2 && state.graph === undefined)
    byId("graph").replaceChildren(make("p", { class: "empty" }, "Nothing to show before the node answers."));
}

/** Changed only when it says something else: a screen reader reads it aloud each time. */
function notify(what, more) {
  const notice = byId("notice");
  const key = what === undefined ? "" : `${what} ${more}`;
  if (notice.dataset.says === key) return;
  notice.dataset.says = key;
  notice.hidden = what === undefined;
  notice.replaceChildren(
    ...(what === undefined
      ? []
      : [make("strong", {}, what), make("span", {}, more), make("button", { type: "button", onclick: () => void look() }, "Ask now")]),
  );
}

function showNode({ node, store }) {
  const phase = byId("phase");
  phase.hidden = false;
  phase.textContent = node.phase;
  phase.dataset.phase = node.phase;
  const facts = [
    ["node", node.id],
    ["up", age(node.uptimeMs)],
    ["roles", node.roles.join(", ") || "none"],
    ["store", `${store.engine}, commit ${store.n.toLocaleString("en")}`],
  ];
  byId("node-facts").replaceChildren(...facts.map(([name, value]) => make("div", {}, make("dt", {}, name), make("dd", { title: value }, value))));
}

// ---- choosing -------------------------------------------------------------------------------------------------------

function fromAddress() {
  const name = new URLSearchParams(location.hash.slice(1)).get("component");
  return name === null ? undefined : name;
}

function select(name, remember = true) {
  const before = state.selected;
  state.selected = name;
  if (remember) history.replaceState(null, "", name === undefined ? location.pathname : `#${new URLSearchParams({ component: name })}`);
  if (!state.graph) return;
  show();
  if (name !== undefined && name !== before) {
    if (state.graph.components.some((component) => component.name === name && component.queue)) void look(); // who waits in it was not asked yet
    const panel = byId("panel");
    if (matchMedia("(max-width: 60rem)").matches)
      panel.scrollIntoView({ block: "nearest", behavior: matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth" });
    say(`${name} is shown beside the graph.`);
  } else if (name === undefined && before !== undefined) document.querySelector(`.node[aria-label*=" ${CSS.escape(before)},"]`)?.focus({ preventScroll: true });
}

function drawLegend() {
  byId("legend").append(
    ...kindShapes.map((kind) => make("span", {}, legendShape(kind), kind)),
    ...Object.entries(edgeStyles).map(([operation, text]) => make("span", {}, legendEdge(operation), `${operation}: ${text}`)),
  );
}

// ---- beginning ------------------------------------------------------------------------------------------------------

drawLegend();
window.addEventListener("hashchange", () => select(fromAddress(), false));
window.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && state.selected !== undefined && !byId("confirm").open) select(undefined);
});
document.addEventListener("visibilitychange", () => {
  if (!document.hidden) look();
});
look();
setInterval(showConnection, 1_000);

/**
 * The console: asks the node every two seconds and shows what it answers. One state, drawn anew each time by the functions below; what has
 * focus is kept. Nothing from the node is put into the page as HTML.
 */
import { age, compact, duration, milliseconds, percent, plural, rate } from "./format.js";
import { edgeStyles, graphDrawing, kindShapes, legendEdge, legendShape } from "./graph.js";

const everyMs = 2_000;
const slowestMs = 15_000;
const state = {
  graph: undefined,
  status: undefined,
  error: undefined,
  selected: fromAddress(),
  failures: 0,
  lastAnswerMs: undefined,
  keptBefore: undefined,
  rates: [],
};

const byId = (id) => document.getElementById(id);
const drawing = graphDrawing(byId("graph"), { onSelect: select });
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
    const [graph, status] = await Promise.all([get("graph.json"), get("status.json")]);
    if (state.failures > 2) say("Connected again.");
    Object.assign(state, { graph, status, error: undefined, failures: 0, lastAnswerMs: performance.now() });
    show();
  } catch (error) {
    state.failures++;
    state.error = error;
    showConnection();
  }
}

async function get(path) {
  const answer = await fetch(`/_trestle/${path}`, { signal: AbortSignal.timeout(8_000), headers: { accept: "application/json" } });
  if (!answer.ok) throw await refusal(answer);
  return answer.json();
}

async function refusal(answer) {
  const problem = await answer.json().catch(() => ({}));
  return Object.assign(new Error(problem.detail ?? `the node answered ${answer.status}`), { status: answer.status, remedy: problem.remedy });
}

// ---- showing --------------------------------------------------------------------------------------------------------

function show() {
  const { graph, status } = state;
  if (state.selected !== undefined && !graph.components.some(({ name }) => name === state.selected)) state.selected = undefined;
  document.title = `${graph.app} · Trestle`;
  byId("app").textContent = graph.app;
  keepingFocus(() => {
    showConnection();
    showNode(status);
    showTotals(graph, status);
    showKept(status);
    showQueues(status, graph);
    showPanel(graph);
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

function showTotals({ components }, { queues, keptTotal }) {
  const doors = components.filter(({ kind }) => kind === "service");
  const workers = components.filter(({ kind }) => kind === "queue" || kind === "subscription" || kind === "schedule");
  const sum = (list, of) => list.reduce((total, component) => total + of(component), 0);
  const requests = sum(doors, ({ traffic }) => traffic.perSecond);
  const handled = sum(components, ({ traffic, counts }) => (counts === "handled" ? traffic.perSecond : 0));
  const failed = sum(components, ({ traffic, counts }) => (counts === "handled" ? traffic.faultsPerSecond : 0));
  const slowest = doors.reduce((most, { traffic }) => Math.max(most, traffic.p99Ms ?? 0), 0);
  const waiting = sum(queues, (queue) => queue.waiting);
  const oldest = queues.reduce((most, { oldestAgeMs }) => Math.max(most, oldestAgeMs), 0);
  state.rates = [...state.rates, requests].slice(-60);
  const tiles = [
    { name: "Requests", value: rate(requests), more: slowest > 0 ? `99 % within ${duration(slowest)}` : "none in the last minute", line: state.rates },
    {
      name: "Jobs and events",
      value: rate(sum(workers, ({ traffic }) => traffic.perSecond)),
      more: `${compact(sum(queues, (queue) => queue.running))} running`,
    },
    { name: "Failed", value: rate(failed), more: handled > 0 ? `${percent(failed / handled)} of what was handled` : "nothing was handled", bad: failed > 0 },
    { name: "Waiting", value: compact(waiting), more: waiting > 0 && oldest > 0 ? `the oldest for ${age(oldest)}` : "nothing is late" },
    { name: "Kept for a person", value: compact(keptTotal), more: keptTotal > 0 ? "look below" : "nothing", bad: keptTotal > 0 },
  ];
  byId("totals").replaceChildren(
    ...tiles.map(({ name, value, more, bad, line }) =>
      make(
        "div",
        { class: bad ? "tile bad" : "tile" },
        make("h3", {}, name),
        make("p", { class: "value" }, value),
        make("p", { class: "more" }, more),
        line ? sparkline(line) : "",
      ),
    ),
  );
}

function sparkline(values) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", "0 0 60 20");
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("class", "spark");
  svg.setAttribute("aria-hidden", "true");
  if (values.length < 2) return svg;
  const most = Math.max(...values, 1e-9);
  const points = values.map((value, i) => `${(60 - (values.length - 1 - i)).toFixed(1)} ${(19 - (value / most) * 17).toFixed(1)}`);
  const line = document.createElementNS("http://www.w3.org/2000/svg", "path");
  line.setAttribute("d", `M${points.join("L")}`);
  svg.append(line);
  return svg;
}

// ---- waiting for a person -------------------------------------------------------------------------------------------

const meaning = {
  dead: "ran out of attempts; the jobs behind it went on",
  parked: "set aside; the jobs of its key wait",
  undetermined: "a call to the outside may or may not have happened; the jobs of its key wait",
};

function showKept({ kept, keptTotal, queues }) {
  byId("kept").hidden = keptTotal === 0;
  if (state.keptBefore !== undefined && keptTotal > state.keptBefore)
    say(`${plural(keptTotal, "job")} now ${keptTotal === 1 ? "waits" : "wait"} for a person.`);
  state.keptBefore = keptTotal;
  const now = state.graph.atMs;
  const groups = new Map();
  for (const job of kept) {
    const key = `${job.queue} ${job.state}`;
    groups.set(key, [...(groups.get(key) ?? []), job]);
  }
  byId("kept-groups").replaceChildren(
    ...[...groups].map(([key, jobs]) => {
      const { queue, state: kind } = jobs[0];
      const total = queues.find((depth) => depth.queue === queue)?.[kind] ?? jobs.length;
      return make(
        "article",
        { class: "group" },
        make(
          "header",
          {},
          make("h3", {}, queue, " ", make("span", { class: `chip ${kind}`, title: meaning[kind] }, `${total.toLocaleString("en")} ${kind}`)),
          make("p", { class: "more" }, meaning[kind]),
          make(
            "button",
            { type: "button", "data-key": `all ${key}`, onclick: () => redriveAll(queue, kind, total) },
            total === 1 ? "Put it back" : `Put all ${total.toLocaleString("en")} back`,
          ),
        ),
        make("ul", {}, ...jobs.slice(0, 20).map((job) => keptJob(job, now))),
        total > Math.min(20, jobs.length) ? make("p", { class: "more" }, `and ${(total - Math.min(20, jobs.length)).toLocaleString("en")} more`) : "",
      );
    }),
  );
}

function keptJob({ id, queue, state: kind, attempt, sentAtMs, error, key }, now) {
  const [first = "", ...rest] = (error ?? "no error was recorded").split("\n");
  const text =
    rest.length === 0 && first.length <= 160
      ? make("p", { class: "error" }, first)
      : make("details", { "data-key": `error ${id}`, class: "error" }, make("summary", {}, first.slice(0, 160)), make("pre", {}, error));
  return make(
    "li",
    {},
    text,
    make(
      "p",
      { class: "facts" },
      make("code", { title: id }, `…${id.slice(-8)}`),
      ` sent ${age(now - sentAtMs)} ago, ${plural(attempt, "attempt")}`,
      key === undefined ? "" : [", key ", make("code", {}, key)],
    ),
    make(
      "span",
      { class: "buttons" },
      make(
        "button",
        {
          type: "button",
          "data-key": `redrive ${id}`,
          "aria-label": `Put job ${id.slice(-8)} of ${queue} back`,
          onclick: () => act(queue, "redrive", { ids: [id] }, "put back"),
        },
        "Put back",
      ),
      make(
        "button",
        {
          type: "button",
          class: "quiet",
          "data-key": `cancel ${id}`,
          "aria-label": `Cancel job ${id.slice(-8)} of ${queue}`,
          onclick: () => cancelOne(queue, id, kind),
        },
        "Cancel…",
      ),
    ),
  );
}

async function redriveAll(queue, kind, total) {
  const warning = kind === "undetermined" ? " Each may repeat a call to the outside, under the same key as before." : "";
  if (
    await confirmed(
      `Put ${plural(total, `${kind} job`)} of ${queue} back?`,
      `They wait again, are due now, and their attempts count from 0.${warning}`,
      `Put ${total === 1 ? "it" : `${total.toLocaleString("en")}`} back`,
    )
  )
    await act(queue, "redrive", { state: kind }, "put back");
}

async function cancelOne(queue, id, kind) {
  if (await confirmed(`Cancel job …${id.slice(-8)} of ${queue}?`, `It is ${kind}. A cancelled job is removed and cannot be brought back.`, "Cancel the job"))
    await act(queue, "cancel", { ids: [id] }, "cancelled");
}

async function act(queue, what, body, done) {
  try {
    const answer = await fetch(`/_trestle/queues/${encodeURIComponent(queue)}/${what}`, {
      method: "POST",
      headers: { "content-type": "application/json", accept: "application/json" },
      body: JSON.stringify(body),
      signal: AbortSignal.timeout(30_000),
    });
    if (!answer.ok) throw await refusal(answer);
    const { jobs, more } = await answer.json();
    say(`${plural(jobs, "job")} of ${queue} ${done}${more ? "; there are more" : ""}.`, true);
  } catch (error) {
    say(`Not done: ${error.message}`, true);
  }
  await look();
}

/** Asks in a dialog; Escape is no. */
function confirmed(title, text, yes) {
  const dialog = byId("confirm");
  byId("confirm-title").textContent = title;
  byId("confirm-text").textContent = text;
  byId("confirm-yes").textContent = yes;
  dialog.returnValue = "no";
  dialog.showModal();
  return new Promise((resolve) => dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true }));
}

// ---- queues ---------------------------------------------------------------------------------------------------------

function showQueues({ queues }, { components }) {
  if (queues.length === 0) return byId("queue-table").replaceChildren(make("p", { class: "empty" }, "This app has no queues."));
  const rates = new Map(components.map(({ name, traffic }) => [name, traffic]));
  const number = (value, className = "") => make("td", { class: `number ${value === 0 ? "none" : className}` }, value.toLocaleString("en"));
  const rows = queues.map((depth) => {
    const traffic = rates.get(depth.queue);
    const named = components.some(({ name }) => name === depth.queue);
    return make(
      "tr",
      {},
      make(
        "th",
        { scope: "row" },
        named
          ? make("button", { type: "button", class: "link", "data-key": `queue ${depth.queue}`, onclick: () => select(depth.queue) }, depth.queue)
          : depth.queue,
      ),
      make("td", { class: `number ${traffic?.perSecond ? "" : "none"}` }, traffic ? rate(traffic.perSecond) : "–"),
      number(depth.waiting),
      number(depth.running),
      make(
        "td",
        { class: `number ${depth.oldestAgeMs > 60_000 ? "warn" : depth.oldestAgeMs === 0 ? "none" : ""}` },
        depth.oldestAgeMs === 0 ? "–" : age(depth.oldestAgeMs),
      ),
      number(depth.dead, "bad"),
      number(depth.parked, "bad"),
      number(depth.undetermined, "bad"),
    );
  });
  const head = ["Queue", "Done", "Waiting", "Running", "Oldest due", "Dead", "Parked", "Undetermined"];
  byId("queue-table").replaceChildren(
    make(
      "table",
      {},
      make("thead", {}, make("tr", {}, ...head.map((text, i) => make("th", { scope: "col", class: i === 0 ? "" : "number" }, text)))),
      make("tbody", {}, ...rows),
    ),
  );
}

// ---- one component --------------------------------------------------------------------------------------------------

function showPanel({ components, edges, windowMs }) {
  const panel = byId("panel");
  const component = components.find(({ name }) => name === state.selected);
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
    queue
      ? make(
          "dl",
          { class: "facts-list" },
          fact("waiting", queue.waiting.toLocaleString("en")),
          fact("running", queue.running.toLocaleString("en")),
          queue.oldestAgeMs > 0 ? fact("oldest due", age(queue.oldestAgeMs)) : "",
        )
      : "",
    operations.length === 0 ? "" : operationTable(operations),
    neighbourList(
      "Uses",
      edges.filter(({ from }) => from === name),
      ({ to }) => to,
      components,
    ),
    neighbourList(
      "Used by",
      edges.filter(({ to }) => to === name),
      ({ from }) => from,
      components,
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

function neighbourList(title, edges, other, components) {
  if (edges.length === 0) return "";
  const kinds = new Map(components.map(({ name, kind }) => [name, kind]));
  return [
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
  ];
}

const fact = (name, value, className = "") => make("div", { class: className }, make("dt", {}, name), make("dd", {}, value));

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

// ---- making ---------------------------------------------------------------------------------------------------------

/** An element; strings become text, never HTML. */
function make(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else made.setAttribute(key, String(value));
  }
  made.append(...children.flat().filter((child) => child !== ""));
  return made;
}

/** Tells a screen reader; `seen` also shows it for a while. */
function say(text, seen = false) {
  const said = byId("said");
  said.textContent = text;
  said.classList.toggle("unseen", !seen);
  if (seen) setTimeout(() => said.textContent === text && said.classList.add("unseen"), 5_000);
}

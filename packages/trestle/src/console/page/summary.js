/** The row of figures at the top, and the table of queues. */
import { byId, make } from "./elements.js";
import { age, compact, duration, percent, rate } from "./format.js";

/** Requests per second at each look, for the line. */
let rates = [];

export function showTotals({ components }, { queues, keptTotal }) {
  const doors = components.filter(({ kind }) => kind === "service");
  const workers = components.filter(({ kind }) => kind === "queue" || kind === "subscription" || kind === "schedule");
  const sum = (list, of) => list.reduce((total, component) => total + of(component), 0);
  const requests = sum(doors, ({ traffic }) => traffic.perSecond);
  const handled = sum(components, ({ traffic, counts }) => (counts === "handled" ? traffic.perSecond : 0));
  const failed = sum(components, ({ traffic, counts }) => (counts === "handled" ? traffic.faultsPerSecond : 0));
  const slowest = doors.reduce((most, { traffic }) => Math.max(most, traffic.p99Ms ?? 0), 0);
  const waiting = sum(queues, (queue) => queue.waiting);
  const oldest = queues.reduce((most, { oldestAgeMs }) => Math.max(most, oldestAgeMs), 0);
  rates = [...rates, requests].slice(-60);
  const tiles = [
    { name: "Requests", value: rate(requests), more: slowest > 0 ? `99 % within ${duration(slowest)}` : "none in the last minute", line: rates },
    {
      name: "Jobs and events",
      value: rate(sum(workers, ({ traffic }) => traffic.perSecond)),
      more: `${compact(sum(queues, (queue) => queue.running))} running`,
    },
    { name: "Failed", value: rate(failed), more: handled > 0 ? `${percent(failed / handled)} of what was handled` : "nothing was handled", bad: failed > 0 },
    { name: "Waiting", value: compact(waiting), more: waiting > 0 && oldest > 0 ? `the oldest for ${age(oldest)}` : "nothing is late" },
    {
      name: "Kept for a person",
      value: compact(keptTotal),
      more: keptTotal > 0 ? make("a", { href: "#kept", "data-key": "to kept" }, "look below") : "nothing",
      bad: keptTotal > 0,
    },
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

export function showQueues({ queues }, { components }, select) {
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
        ...(depth.paused ? [" ", make("span", { class: "warn" }, "paused")] : []),
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

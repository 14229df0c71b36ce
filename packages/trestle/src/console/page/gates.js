/** What lets calls pass and turns others away: how full it is, and what it said in the last minute. */
import { byId, make } from "./elements.js";
import { rate } from "./format.js";

/** What these decisions mean to who reads them; any other is shown as it is called. */
const meanings = {
  "breaker-open": "breaker open",
  "limiter.exceeded": "faster than agreed",
  "throttle.declined": "few are accepted",
  full: "no place",
  early: "the line is long",
  displaced: "gave way to the more urgent",
  share: "more than its share",
  waited: "waited too long",
  late: "out of time",
  left: "gave up",
};
const failures = new Set(["crash", "omission", "timing", "response", "byzantine"]);
const states = { open: "open", "half-open": "being tried", closed: "closed" };

export function showGates({ gates, components }, { dependencies = [] }, select) {
  const health = new Map(dependencies.map(({ name, health }) => [name, health]));
  const rates = new Map(components.map(({ name, traffic }) => [name, traffic.perSecond]));
  const rows = [...gates]
    // Of queues those whose number of places is found, and those with something to be told.
    .filter(({ gate, room }) => gate !== "jobs" || room.adaptive || room.overdue > 0)
    .map((gate) => facts(gate, rates.get(gate.component) ?? 0, gate.gate === "calls" ? health.get(gate.component) : undefined))
    .sort((a, b) => b.trouble - a.trouble || (`${a.component} ${a.gate}` < `${b.component} ${b.gate}` ? -1 : 1));
  byId("gates").hidden = rows.length === 0;
  byId("gates").classList.toggle(
    "attention",
    rows.some(({ trouble }) => trouble > 1),
  );
  const head = ["Where", "State", "Asked", "Turned away", "Failed", "Under way", "Waiting"];
  byId("gates-table").replaceChildren(
    make(
      "table",
      {},
      make("thead", {}, make("tr", {}, ...head.map((text, i) => make("th", { scope: "col", class: i > 1 ? "number" : "" }, text)))),
      make("tbody", {}, ...rows.map((row) => tableRow(row, select))),
    ),
  );
}

function facts({ component, gate, decisions, room, breaker }, used, health) {
  const passes = new Set(["admitted", "would-refuse", "refusal", "hedge-won", "hedge-lost"]);
  const away = Object.entries(decisions).filter(([decision]) => !passes.has(decision) && !failures.has(decision));
  const failed = Object.entries(decisions).filter(([decision]) => failures.has(decision));
  const sum = (list) => list.reduce((all, [, perSecond]) => all + perSecond, 0);
  const down = health?.status === "down" || breaker === "open";
  const dry = decisions["would-refuse"] ?? 0;
  const [won, lost] = [decisions["hedge-won"] ?? 0, decisions["hedge-lost"] ?? 0];
  const jobs = gate === "jobs";
  // A queue that is worked on with all its places is as it should be.
  const full = room !== undefined && (jobs ? room.overdue >= room.places : room.waiting > 0 && room.running >= room.places);
  return {
    component,
    gate,
    room,
    away,
    failed,
    asked: gate === "calls" || jobs ? used : (decisions.admitted ?? 0) + dry + sum(away),
    awayPerSecond: sum(away),
    failedPerSecond: sum(failed),
    state: [
      ...(breaker ? [`breaker ${states[breaker]}`] : []),
      ...(health ? [health.status === "down" ? `down: ${health.why ?? "its check failed"}` : "up"] : []),
      ...(room?.adaptive ? ["adaptive"] : []),
      ...(full ? ["full"] : []),
      ...(room?.overdue ? [`${room.overdue} go on unheard`] : []),
      ...(won + lost > 0 ? [`hedged ${rate(won + lost)}, first ${rate(won)}`] : []),
      ...(dry > 0 ? [`dry run: would refuse ${rate(dry)}`] : []),
    ],
    trouble: down ? 3 : full || sum(away) > 0 ? 2 : sum(failed) > 0 ? 1 : 0,
  };
}

function tableRow({ component, gate, room, away, failed, asked, awayPerSecond, failedPerSecond, state, trouble }, select) {
  const number = (perSecond, className = "") => (perSecond > 0 ? `number ${className}` : "number none");
  return make(
    "tr",
    {},
    make(
      "th",
      { scope: "row" },
      make("button", { type: "button", class: "link", "data-key": `gate ${component} ${gate}`, onclick: () => select(component) }, component),
      make("span", { class: "more" }, gate === "calls" ? " calls" : ` ${gate}`),
    ),
    make("td", { class: trouble > 2 ? "bad" : state.length === 0 ? "none" : "" }, state.join(", ") || "–"),
    make("td", { class: number(asked) }, rate(asked)),
    make("td", { class: number(awayPerSecond, "bad") }, rate(awayPerSecond), reasons(away)),
    gate === "calls"
      ? make("td", { class: number(failedPerSecond, "bad") }, rate(failedPerSecond), reasons(failed))
      : make("td", { class: "number none" }, "–"),
    make("td", { class: "number" }, room ? `${room.running.toLocaleString("en")} of ${room.places.toLocaleString("en")}` : "–"),
    make("td", { class: room?.waiting ? "number warn" : "number none" }, room ? room.waiting.toLocaleString("en") : "–"),
  );
}

/** The two that happen most; all of them where one points. A limit has one, and says nothing more. */
function reasons(list) {
  const seen = list.filter(([decision, perSecond]) => perSecond > 0 && decision !== "refused").sort((a, b) => b[1] - a[1]);
  if (seen.length === 0) return "";
  const text = (of) => of.map(([decision, perSecond]) => `${meanings[decision] ?? decision} ${rate(perSecond)}`).join(", ");
  return make("div", { class: "more", title: text(seen) }, text(seen.slice(0, 2)), seen.length > 2 ? ", …" : "");
}

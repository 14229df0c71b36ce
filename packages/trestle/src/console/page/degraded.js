/** Routes that have a policy: the rung each stands on and why, and holding one there by hand. */
import { byId, make, say } from "./elements.js";
import { age } from "./format.js";
import { post } from "./node.js";

export function showDegraded({ degradation }, look) {
  const { routes = [], refused } = degradation ?? {};
  byId("degraded").hidden = routes.length === 0 && refused === undefined;
  byId("degraded").classList.toggle("attention", refused !== undefined || routes.some(({ rung }) => rung !== "full"));
  byId("degraded-refused").textContent = refused === undefined ? "" : `A newer version of the policies is refused: ${refused}`;
  byId("degraded-table").replaceChildren(
    make(
      "table",
      {},
      make("thead", {}, make("tr", {}, ...["Route", "Answers with", "For", "Why", "Hold on"].map((text) => make("th", { scope: "col" }, text)))),
      make("tbody", {}, ...routes.map((route) => row(route, look))),
    ),
  );
}

function row({ route, rung, mode, forMs, why, held, ladder, processes = {} }, look) {
  const hold = async (to) => {
    try {
      await post("degradation/hold", { route, ...(to === undefined ? {} : { rung: to }) });
      say(to === undefined ? `${route} is released.` : `${route} is held on ${to}.`, true);
    } catch (error) {
      say(error.message, true);
    }
    await look();
  };
  const button = (to, text) =>
    make(
      "button",
      { type: "button", class: "quiet", "data-key": `hold ${route} ${text}`, "aria-label": `${text} ${route}`, onclick: () => void hold(to) },
      text,
    );
  return make(
    "tr",
    {},
    make("th", { scope: "row" }, route),
    make("td", { class: rung === "full" ? "" : "warn" }, mode === "dark" ? `${rung} (dark: answers are whole)` : rung, elsewhere(rung, processes)),
    make("td", {}, age(forMs)),
    make("td", {}, held === undefined ? why : `held ${held}`),
    make(
      "td",
      {},
      ...ladder.filter((to) => held !== "by hand" || to !== rung).map((to) => button(to, to)),
      held === "by hand" ? button(undefined, "release") : "",
    ),
  );
}

/** On which rungs the other processes stand, when they do not agree. */
function elsewhere(rung, processes) {
  const others = Object.entries(processes).filter(([other]) => other !== rung);
  if (others.length === 0) return "";
  const all = Object.values(processes).reduce((sum, count) => sum + count, 0);
  return make("div", { class: "more" }, `in ${processes[rung]} of ${all} processes; ${others.map(([other, count]) => `${other} in ${count}`).join(", ")}`);
}

/** A queue, as the panel of its component shows it: how deep it is, who waits in it, and stopping it. */
import { confirmed, fact, make, say } from "./elements.js";
import { age } from "./format.js";
import { get, post } from "./node.js";

const groupsShown = 10;
/** As many as the node tells at once. */
const groupsAsked = 1_000;

/** Whose jobs are ready or running in the queue; `undefined` for what has no queue, and when the node does not say. */
export async function queueGroups({ components }, name) {
  if (!components.find((component) => component.name === name)?.queue) return undefined;
  return get(`queues/${encodeURIComponent(name)}/groups`).catch(() => undefined);
}

export function queueSection(depth, groups, look) {
  const { queue, waiting, running, oldestAgeMs, paused } = depth;
  return make(
    "div",
    {},
    make("h3", {}, "Jobs"),
    make(
      "dl",
      { class: "facts-list" },
      fact("waiting", waiting.toLocaleString("en")),
      fact("running", running.toLocaleString("en")),
      oldestAgeMs > 0 ? fact("oldest due", age(oldestAgeMs)) : "",
    ),
    paused ? make("p", { class: "warn" }, "Paused: nothing of it is begun anywhere.") : "",
    // One key for both: what has focus keeps it while its text changes.
    make("button", { type: "button", "data-key": "pause", onclick: () => void pause(depth, look) }, paused ? `Let ${queue} go on` : `Pause ${queue}…`),
    groups?.queue === queue && groups.groups.length > 0 ? groupTable(groups.groups) : "",
  );
}

async function pause({ queue, paused }, look) {
  const asked = "Nothing of it is begun anywhere, in no process, until somebody lets it go on. What runs goes on, and what is sent waits.";
  if (!paused && !(await confirmed(`Pause ${queue}?`, asked, "Pause it", "Let it run"))) return;
  try {
    await post(`queues/${encodeURIComponent(queue)}/${paused ? "resume" : "pause"}`, {});
    say(paused ? `${queue} goes on.` : `${queue} is paused.`, true);
  } catch (error) {
    say(`Not done: ${error.message}`, true);
  }
  await look();
}

/** Those with most to do first. */
function groupTable(groups) {
  const most = groups.toSorted((a, b) => b.ready - a.ready || b.running - a.running || (a.group < b.group ? -1 : 1));
  const more = groups.length - groupsShown;
  const number = (value) => make("td", { class: value === 0 ? "number none" : "number" }, value.toLocaleString("en"));
  return make(
    "div",
    { class: "scroll" },
    make("h3", {}, "Who takes turns"),
    make(
      "table",
      {},
      make("thead", {}, make("tr", {}, ...["Tenant", "Ready", "Running"].map((text, i) => make("th", { scope: "col", class: i ? "number" : "" }, text)))),
      make(
        "tbody",
        {},
        ...most
          .slice(0, groupsShown)
          .map(({ group, ready, running }) => make("tr", {}, make("th", { scope: "row" }, group || "(none)"), number(ready), number(running))),
      ),
    ),
    more > 0 ? make("p", { class: "more" }, `and ${more.toLocaleString("en")}${groups.length === groupsAsked ? " or more" : ""} with less to do`) : "",
  );
}

/** Jobs that wait for a person, and what the person may do with them. Whatever touches more than one job, or cannot be undone, is asked first. */
import { byId, confirmed, make, say } from "./elements.js";
import { age, plural } from "./format.js";
import { post } from "./node.js";

const shownAtOnce = 4;
let keptBefore;

const meaning = {
  dead: "ran out of attempts; the jobs behind it went on",
  parked: "set aside; the jobs of its key wait",
  undetermined: "a call to the outside may or may not have happened; the jobs of its key wait",
};

export function showKept({ kept, keptTotal, queues }, now, again) {
  byId("kept").hidden = keptTotal === 0;
  if (keptBefore !== undefined && keptTotal > keptBefore) say(`${plural(keptTotal, "job")} now ${keptTotal === 1 ? "waits" : "wait"} for a person.`);
  keptBefore = keptTotal;
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
            { type: "button", "data-key": `all ${key}`, onclick: () => redriveAll(queue, kind, total, again) },
            total === 1 ? "Put it back" : `Put all ${total.toLocaleString("en")} back`,
          ),
        ),
        make("ul", {}, ...jobs.slice(0, shownAtOnce).map((job) => keptJob(job, now, again))),
        total > shownAtOnce ? moreJobs(key, jobs.slice(shownAtOnce), total, now, again) : "",
      );
    }),
  );
}

function moreJobs(key, jobs, total, now, again) {
  const unlisted = total - shownAtOnce - jobs.length;
  return make(
    "details",
    { "data-key": `more ${key}` },
    make("summary", { class: "more" }, `${(total - shownAtOnce).toLocaleString("en")} more`),
    make("ul", {}, ...jobs.map((job) => keptJob(job, now, again))),
    unlisted > 0 ? make("p", { class: "more" }, `and ${unlisted.toLocaleString("en")} that are not listed here: trestle queue ls --json`) : "",
  );
}

function keptJob({ id, queue, state: kind, attempt, sentAtMs, error, key }, now, again) {
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
          onclick: () => act(queue, "redrive", { ids: [id] }, "put back", again),
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
          onclick: () => cancelOne(queue, id, kind, again),
        },
        "Cancel…",
      ),
    ),
  );
}

async function redriveAll(queue, kind, total, again) {
  const warning = kind === "undetermined" ? " Each may repeat a call to the outside, under the same key as before." : "";
  if (
    await confirmed(
      `Put ${plural(total, `${kind} job`)} of ${queue} back?`,
      `They wait again, are due now, and their attempts count from 0.${warning}`,
      `Put ${total === 1 ? "it" : `${total.toLocaleString("en")}`} back`,
      "Leave them",
    )
  )
    await act(queue, "redrive", { state: kind }, "put back", again);
}

async function cancelOne(queue, id, kind, again) {
  if (
    await confirmed(
      `Cancel job …${id.slice(-8)} of ${queue}?`,
      `It is ${kind}. A cancelled job is removed and cannot be brought back.`,
      "Cancel the job",
      "Leave it",
    )
  )
    await act(queue, "cancel", { ids: [id] }, "cancelled", again);
}

async function act(queue, what, body, done, again) {
  try {
    const { jobs, more } = await post(`queues/${encodeURIComponent(queue)}/${what}`, body);
    say(`${plural(jobs, "job")} of ${queue} ${done}${more ? "; there are more" : ""}.`, true);
  } catch (error) {
    say(`Not done: ${error.message}`, true);
  }
  await again();
}

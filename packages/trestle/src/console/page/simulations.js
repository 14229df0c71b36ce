/** Seeds of simulations that broke a promise, found beside the app: each with its page and its trace. */
import { byId, make } from "./elements.js";
import { age } from "./format.js";

export function showSimulations({ seeds, folder }, now) {
  byId("simulations").hidden = seeds.length === 0;
  byId("simulations-folder").textContent = folder;
  byId("simulation-list").replaceChildren(
    ...seeds.map(({ name, seed, atMs, page, trace }) =>
      make(
        "li",
        {},
        make("a", { href: `/_trestle/simulations/${encodeURIComponent(page)}`, "data-key": `seed ${page}` }, `${name}, seed ${seed}`),
        make("span", { class: "more" }, `${age(Math.max(0, now - atMs))} ago`),
        trace === undefined
          ? ""
          : make("a", { class: "more", href: `/_trestle/simulations/${encodeURIComponent(trace)}`, "aria-label": `Trace of ${name}, seed ${seed}` }, "trace"),
      ),
    ),
  );
}

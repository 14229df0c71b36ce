/** How the page is made. */

export const byId = (id) => document.getElementById(id);

/** An element; strings become text, never HTML. */
export function make(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else made.setAttribute(key, String(value));
  }
  made.append(...children.flat().filter((child) => child !== ""));
  return made;
}

/** One line of a `dl`. */
export const fact = (name, value, className = "") => make("div", { class: className }, make("dt", {}, name), make("dd", {}, value));

/** Asks in a dialog; Escape is no. */
export function confirmed(title, text, yes, no) {
  const dialog = byId("confirm");
  byId("confirm-title").textContent = title;
  byId("confirm-text").textContent = text;
  byId("confirm-yes").textContent = yes;
  byId("confirm-no").textContent = no;
  dialog.returnValue = "no";
  dialog.showModal();
  return new Promise((resolve) => dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true }));
}

/** Tells a screen reader; `seen` also shows it for a while. */
export function say(text, seen = false) {
  const said = byId("said");
  said.textContent = text;
  said.classList.toggle("unseen", !seen);
  if (seen) setTimeout(() => said.textContent === text && said.classList.add("unseen"), 5_000);
}

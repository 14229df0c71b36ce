// The storefront. What a person did survives a reload and a lost answer: the cart, and an order with its idempotency key
// until the shop has answered for it.

const byId = (id) => document.getElementById(id);
const money = new Intl.NumberFormat("en-IE", { style: "currency", currency: "EUR" });
const price = (cents) => money.format(cents / 100);

const kept = {
  read(name, otherwise) {
    try {
      return JSON.parse(localStorage.getItem(name)) ?? otherwise;
    } catch {
      return otherwise;
    }
  },
  write(name, value) {
    if (value === undefined) localStorage.removeItem(name);
    else localStorage.setItem(name, JSON.stringify(value));
  },
};

function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

function drawing(sku) {
  const kind = sku.slice(0, 3);
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const use = document.createElementNS("http://www.w3.org/2000/svg", "use");
  use.setAttribute("href", `#${byId(kind)?.localName === "symbol" ? kind : "box"}`);
  svg.append(use);
  return svg;
}

/** Says what is wrong, and what can be done: `again` adds a button. */
function tell(place, message, { waiting = false, again } = {}) {
  place.hidden = !message;
  place.classList.toggle("waiting", waiting);
  place.replaceChildren(message ?? "");
  if (again) place.append(element("button", { type: "button", textContent: "Try again", onclick: again }));
}

async function fetchJson(path, options) {
  const response = await fetch(path, options);
  const body = await response.json().catch(() => undefined);
  if (!response.ok)
    throw Object.assign(new Error(body?.detail ?? body?.title ?? `the shop answered ${response.status}`), { status: response.status, problem: body });
  return body;
}

// ---- products -------------------------------------------------------------------------------------------------------

const products = new Map();

async function showProducts() {
  const grid = byId("products");
  tell(byId("products-problem"));
  grid.replaceChildren(...Array.from({ length: 6 }, () => element("div", { className: "product skeleton" })));
  try {
    // Boxes of screws are there for load tests; a page of them is no sight for a visitor.
    const { items } = await fetchJson("/products?limit=100");
    const shown = items.filter(({ sku }) => !sku.startsWith("SCR-"));
    for (const product of items) products.set(product.sku, product);
    shown.sort((one, other) => one.sku.slice(4).localeCompare(other.sku.slice(4)));
    grid.replaceChildren(...shown.map(productCard));
    showCart();
  } catch (error) {
    grid.replaceChildren();
    tell(byId("products-problem"), `The shelves cannot be shown: ${error.message}.`, { again: showProducts });
  }
  grid.setAttribute("aria-busy", "false");
}

function productCard({ sku, name, priceCents, about }) {
  const picture = element("div", { className: "picture" }, drawing(sku));
  const add = element("button", { type: "button", textContent: "Add", onclick: () => change(sku, +1) });
  add.setAttribute("aria-label", `Add ${name} to the cart`);
  const card = element(
    "article",
    { className: "product" },
    picture,
    element("div", { className: "about" }, element("h3", { textContent: name }), element("p", { textContent: about ?? "" })),
    element("div", { className: "buy" }, element("span", { className: "price", textContent: price(priceCents) }), add),
  );
  card.dataset.sku = sku;
  return card;
}

// ---- cart -----------------------------------------------------------------------------------------------------------

const cart = new Map(Object.entries(kept.read("cart", {})));

function change(sku, by) {
  const quantity = Math.min(100, (cart.get(sku) ?? 0) + by);
  if (quantity > 0) cart.set(sku, quantity);
  else cart.delete(sku);
  kept.write("cart", Object.fromEntries(cart));
  showCart();
}

function showCart() {
  const lines = [...cart].filter(([sku]) => products.has(sku));
  const total = lines.reduce((sum, [sku, quantity]) => sum + quantity * products.get(sku).priceCents, 0);
  const pieces = lines.reduce((sum, [, quantity]) => sum + quantity, 0);

  byId("cart-count").textContent = pieces;
  byId("cart-count").hidden = pieces === 0;
  byId("cart-empty").hidden = lines.length > 0;
  byId("checkout").hidden = lines.length === 0;
  byId("cart-total").textContent = price(total);
  byId("cart-lines").replaceChildren(
    ...lines.map(([sku, quantity]) => {
      const { name, priceCents } = products.get(sku);
      return element(
        "li",
        {},
        element("span", { textContent: name }),
        stepper(sku, name, quantity),
        element("span", { className: "price", textContent: price(quantity * priceCents) }),
      );
    }),
  );
}

function stepper(sku, name, quantity) {
  const less = element("button", { type: "button", textContent: "−", onclick: () => change(sku, -1) });
  const more = element("button", { type: "button", textContent: "+", onclick: () => change(sku, +1), disabled: quantity >= 100 });
  less.setAttribute("aria-label", `One ${name} less`);
  more.setAttribute("aria-label", `One ${name} more`);
  return element("span", { className: "stepper" }, less, element("output", { textContent: quantity }), more);
}

// ---- placing an order -----------------------------------------------------------------------------------------------

const checkout = byId("checkout");

function newKey() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

checkout.addEventListener("submit", (event) => {
  event.preventDefault();
  const { customer, email } = Object.fromEntries(new FormData(checkout));
  const items = [...cart].filter(([sku]) => products.has(sku)).map(([sku, quantity]) => ({ sku, quantity }));
  kept.write("me", { customer, email });
  kept.write("pending", { key: newKey(), order: { customer, email, items } });
  void place();
});

/** Asks under the kept key until there is an answer: however often it is asked, there is one order. */
async function place(attempt = 1) {
  const pending = kept.read("pending");
  if (!pending) return;
  const button = checkout.querySelector("button");
  button.disabled = true;
  button.textContent = "Placing your order…";
  if (attempt === 1) tell(byId("order-problem"));

  try {
    const { id } = await fetchJson("/orders", {
      method: "POST",
      headers: { "content-type": "application/json", "idempotency-key": pending.key },
      body: JSON.stringify(pending.order),
      signal: AbortSignal.timeout(10_000),
    });
    kept.write("pending");
    kept.write("letters", { ...kept.read("letters", {}), [id]: pending.order.email });
    cart.clear();
    kept.write("cart", {});
    showCart();
    tell(byId("order-problem"));
    location.hash = `order/${id}`;
    void showOrders();
  } catch (error) {
    const isFinal = error.status >= 400 && error.status < 500 && ![408, 409, 429].includes(error.status);
    if (!isFinal) {
      const waitMs = Math.min(8_000, 500 * 2 ** (attempt - 1));
      tell(byId("order-problem"), `No answer yet. Your order is kept and will be placed once; asking again in ${Math.ceil(waitMs / 1000)} s.`, {
        waiting: true,
      });
      setTimeout(() => place(attempt + 1), waitMs);
      return;
    }
    kept.write("pending");
    tell(byId("order-problem"), `The order was not placed: ${error.message}`);
  }
  button.disabled = false;
  button.textContent = "Place order";
}

// ---- orders ---------------------------------------------------------------------------------------------------------

const shownOrders = new Map();
let newestFirst = [];
let olderOrders;

async function showOrders({ older = false } = {}) {
  try {
    const cursor = older && olderOrders ? `&cursor=${encodeURIComponent(olderOrders)}` : "";
    const { items, next } = await fetchJson(`/orders?limit=10${cursor}`);
    if (older || olderOrders === undefined) olderOrders = next;
    for (const order of items) shownOrders.set(order.id, order);
    const ids = items.map(({ id }) => id);
    newestFirst = [...new Set(older ? [...newestFirst, ...ids] : [...ids, ...newestFirst])];
    drawOrders();
    tell(byId("orders-problem"));
  } catch (error) {
    tell(byId("orders-problem"), `The orders cannot be shown: ${error.message}.`, { again: () => showOrders({ older }) });
  }
}

function drawOrders() {
  byId("orders-empty").hidden = newestFirst.length > 0;
  byId("more-orders").hidden = !olderOrders;
  byId("order-rows").replaceChildren(
    ...newestFirst.map((id) => {
      const order = shownOrders.get(id);
      return element(
        "li",
        {},
        element(
          "button",
          {
            type: "button",
            onclick: () => {
              location.hash = `order/${id}`;
            },
          },
          element("span", { className: "mono", textContent: shortId(id) }),
          element("span", { className: "who", textContent: order.customer }),
          element("span", { className: "price", textContent: price(order.totalCents) }),
          element("span", { className: `chip ${order.status}`, textContent: order.status }),
        ),
      );
    }),
  );
}

const shortId = (id) => `#${id.slice(-6)}`;
const isFinal = (order) => order.status === "shipped" || order.status === "cancelled";

byId("more-orders").addEventListener("click", () => showOrders({ older: true }));
setInterval(() => {
  if (!document.hidden && [...shownOrders.values()].some((order) => !isFinal(order))) void showOrders();
}, 2_000);

// ---- one order, live ------------------------------------------------------------------------------------------------

const detail = byId("detail");
let watching;

async function openOrder(id) {
  closeWatch();
  for (const place of ["detail-problem", "detail-reason", "detail-payment", "letters"]) byId(place).hidden = true;
  byId("detail-title").textContent = `Order ${shortId(id)}`;
  byId("detail-for").textContent = "";
  byId("detail-total").textContent = "";
  byId("track").replaceChildren();
  byId("detail-lines").replaceChildren();
  live("", "done");
  if (!detail.open) detail.showModal();

  try {
    drawDetail(await fetchJson(`/orders/${id}`));
    watch(id);
  } catch (error) {
    tell(byId("detail-problem"), error.status === 404 ? "There is no such order." : `The order cannot be shown: ${error.message}.`, {
      again: () => openOrder(id),
    });
  }
}

/** The stream says each change. When it breaks it is opened again from where it left off; the browser sees to that. */
function watch(id) {
  const current = shownOrders.get(id);
  if (current && isFinal(current)) return;
  const stream = new EventSource(`/orders/${id}/events`);
  watching = stream;
  stream.onopen = () => live("Live: moves by itself", "on");
  stream.onmessage = ({ data }) => drawDetail(JSON.parse(data));
  stream.onerror = () => {
    live("Connection lost, trying again…", "off");
    if (stream.readyState !== EventSource.CLOSED) return;
    setTimeout(() => {
      if (watching === stream) watch(id);
    }, 2_000);
  };
}

function closeWatch() {
  watching?.close();
  watching = undefined;
}

function live(text, state) {
  byId("live").textContent = text;
  byId("live").className = `live ${state}`;
}

function drawDetail(order) {
  if (!order) return;
  shownOrders.set(order.id, order);
  if (!newestFirst.includes(order.id)) newestFirst.unshift(order.id);
  drawOrders();

  byId("detail-for").textContent = `For ${order.customer}`;
  byId("detail-total").textContent = price(order.totalCents);
  drawTrack(order);
  byId("detail-reason").hidden = !order.reason;
  byId("detail-reason").textContent = order.reason ? `We are sorry: ${order.reason}.` : "";
  byId("detail-payment").hidden = !order.paymentId;
  byId("detail-payment").textContent = order.paymentId ? `Payment ${order.paymentId}` : "";
  byId("detail-lines").replaceChildren(
    ...(order.items ?? []).map(({ sku, quantity }) =>
      element(
        "li",
        {},
        element("span", { textContent: products.get(sku)?.name ?? sku }),
        element("span", { className: "quiet", textContent: `× ${quantity}` }),
        element("span", { className: "price", textContent: products.has(sku) ? price(quantity * products.get(sku).priceCents) : "" }),
      ),
    ),
  );

  if (!isFinal(order)) return;
  closeWatch();
  live("", "done");
  void showLetters(order.id);
}

function drawTrack({ status }) {
  const steps = status === "cancelled" ? ["placed", "cancelled"] : ["placed", "paid", "shipped"];
  const reached = steps.indexOf(status);
  byId("track").replaceChildren(
    ...steps.map((step, index) =>
      element("li", {
        textContent: step[0].toUpperCase() + step.slice(1),
        className: step === "cancelled" ? "cancelled" : index <= reached ? "reached" : index === reached + 1 ? "next" : "",
      }),
    ),
  );
  byId("track").dataset.status = status;
}

/** Only the browser that placed an order knows its address, so only there the letter is shown. */
async function showLetters(id, attempt = 1) {
  const email = kept.read("letters", {})[id];
  if (!email) return;
  const { items } = await fetchJson(`/mailbox?to=${encodeURIComponent(email)}`).catch(() => ({ items: [] }));
  const letters = items.filter(({ text }) => text.includes(id));
  if (!location.hash.endsWith(id)) return;
  byId("letters").hidden = false;
  byId("letter-list").replaceChildren(
    ...letters.map(({ to, subject, text }) =>
      element(
        "div",
        { className: "letter" },
        element("span", { className: "quiet", textContent: `To ${to}` }),
        element("strong", { textContent: subject }),
        element("p", { textContent: text }),
      ),
    ),
  );
  if (letters.length > 0) return;
  byId("letter-list").replaceChildren(element("p", { className: "quiet", textContent: "The letter is on its way to the mail server…" }));
  if (attempt < 60)
    setTimeout(
      () => {
        if (location.hash.endsWith(id)) void showLetters(id, attempt + 1);
      },
      Math.min(5_000, 250 * attempt),
    );
}

detail.addEventListener("close", () => {
  closeWatch();
  if (location.hash.startsWith("#order/")) history.replaceState(null, "", location.pathname);
});
detail.querySelector(".close").addEventListener("click", () => detail.close());
detail.addEventListener("click", (event) => {
  if (event.target === detail) detail.close();
});

function follow() {
  const [, id] = /^#order\/([0-9a-f-]{36})$/.exec(location.hash) ?? [];
  if (id) void openOrder(id);
  else if (detail.open) detail.close();
}
addEventListener("hashchange", follow);

// ---- start ----------------------------------------------------------------------------------------------------------

const { customer = "", email = "" } = kept.read("me", {});
checkout.elements.customer.value = customer;
checkout.elements.email.value = email;
await Promise.all([showProducts(), showOrders()]);
follow();
void place();

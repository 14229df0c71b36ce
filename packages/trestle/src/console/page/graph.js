/**
 * Draws the graph as SVG and keeps it up to date. The picture is laid out again only when components or edges change, or the room does;
 * otherwise texts and strokes change in place, so that focus and selection stay where they are.
 */
import { compact, duration, rate } from "./format.js";
import { layOut, pathThrough } from "./layout.js";

const svgNamespace = "http://www.w3.org/2000/svg";
const wide = { direction: "right", nodeWidth: 196, nodeHeight: 58, layerGap: 110, nodeGap: 22, perLayerMax: 7 };
const narrow = { direction: "down", nodeWidth: 146, nodeHeight: 70, layerGap: 52, nodeGap: 12, perLayerMax: 2 };
const margin = 18;

/** What an operation on an edge looks like, for the legend too. */
export const edgeStyles = {
  call: "waits for its answer",
  send: "sends it jobs",
  publish: "publishes to it",
  write: "reads it and writes to it, in its commit",
  read: "reads it",
  follow: "follows its events",
};
export const kindShapes = ["service", "queue", "aggregate", "records", "projection", "topic", "subscription", "schedule", "external", "sql"];

/** @param {HTMLElement} host @param {{ onSelect(name: string | undefined): void }} options */
export function graphDrawing(host, { onSelect }) {
  let drawn;
  let graph;
  let selected;

  function update(next, selection) {
    graph = next;
    selected = selection;
    const shown = visible(graph);
    if (shown.components.length === 0) {
      drawn = undefined;
      host.replaceChildren(paragraph("This app has no components yet. List them in app(name, [...])."));
      return;
    }
    const options = host.clientWidth < 640 ? narrow : wide;
    const shape = JSON.stringify([
      options.direction,
      shown.components.map(({ kind, name }) => [kind, name]),
      shown.edges.map(({ from, to, operation }) => [from, to, operation]),
    ]);
    if (drawn?.shape !== shape) drawn = { shape, ...draw(host, shown, options, onSelect, () => selected) };
    fill(drawn, shown, selected, host.clientWidth);
  }

  new ResizeObserver(() => graph && update(graph, selected)).observe(host);
  return { update };
}

/** Settings are facts of who reads them, not places where something happens. */
function visible(graph) {
  const components = graph.components.filter(({ kind }) => kind !== "setting");
  const names = new Set(components.map(({ name }) => name));
  return { components, edges: graph.edges.filter(({ from, to }) => names.has(from) && names.has(to)) };
}

function draw(host, { components, edges }, options, onSelect, selection) {
  const layout = layOutInto(host.clientWidth, { nodes: components.map(({ name }) => ({ id: name })), edges }, options);
  const width = layout.width + 2 * margin;
  const height = layout.height + 2 * margin;
  const svg = element("svg", { viewBox: `${-margin} ${-margin} ${width} ${height}`, role: "group", "aria-label": "Components and what they use" });
  svg.append(markers());
  const edgeLayer = svg.appendChild(element("g", { class: "edges" }));
  const nodeLayer = svg.appendChild(element("g", { class: "nodes" }));
  const labelLayer = svg.appendChild(element("g", { class: "labels", "aria-hidden": "true" }));

  const edgeParts = layout.edges.map(({ index, points }) => {
    const edge = edges[index];
    const group = edgeLayer.appendChild(element("g", { class: `edge op-${edge.operation}` }));
    const line = pathThrough(points, options.direction);
    // An event travels from what is followed to who follows it.
    const marker = edge.operation === "follow" ? { "marker-start": "url(#arrow-back)" } : { "marker-end": "url(#arrow)" };
    const path = group.appendChild(element("path", { d: line, class: "line", ...marker }));
    const flow = group.appendChild(element("path", { d: line, class: "flow" }));
    const title = group.appendChild(element("title"));
    const label = labelLayer.appendChild(element("g", { class: "label" }));
    const box = label.appendChild(element("rect", { rx: 7, height: 16, y: -8 }));
    const text = label.appendChild(element("text", { "text-anchor": "middle", y: 3.5 }));
    return { index, edge, group, path, flow, title, label, box, text };
  });

  const at = new Map(layout.nodes.map((node) => [node.id, node]));
  const nodeParts = new Map();
  // In reading order, for the Tab key.
  const ordered = components
    .map((component) => ({ component, place: at.get(component.name) }))
    .sort((a, b) => a.place.layer - b.place.layer || a.place.y - b.place.y || a.place.x - b.place.x);
  for (const { component, place } of ordered) {
    const part = nodeOf(component, place, options);
    part.group.addEventListener("click", () => onSelect(selection() === component.name ? undefined : component.name));
    part.group.addEventListener("keydown", (event) => {
      if (event.key === "Enter" || event.key === " ") {
        event.preventDefault();
        onSelect(component.name);
      } else if (event.key.startsWith("Arrow")) {
        const next = nearest(layout.nodes, place, event.key);
        if (next) {
          event.preventDefault();
          nodeParts.get(next.id).group.focus();
        }
      }
    });
    nodeLayer.append(part.group);
    nodeParts.set(component.name, part);
  }
  host.replaceChildren(svg);
  return { svg, width, height, options, layout, edgeParts, nodeParts };
}

/** Layers drawn apart as far as the room allows: edges and their labels need it more than the margins do. */
function layOutInto(room, graph, options) {
  const layout = layOut(graph, options.direction === "down" ? { ...options, roomAcross: room - 2 * margin } : options);
  const layers = 1 + Math.max(...layout.nodes.map(({ layer }) => layer));
  const spare = (room - 2 * margin - layout.width) / Math.max(1, layers - 1);
  return options.direction === "right" && layers > 1 && spare > 0 ? layOut(graph, { ...options, layerGap: options.layerGap + Math.min(spare, 130) }) : layout;
}

function fill({ svg, width, height, options, layout, edgeParts, nodeParts }, { components, edges }, selected, room) {
  // As large as the room, but never so small that the texts cannot be read: then the graph scrolls.
  const scale = Math.min(1.15, Math.max(room / width, options.direction === "right" ? 0.62 : 0.72));
  svg.setAttribute("width", Math.round(width * scale));
  svg.setAttribute("height", Math.round(height * scale));

  const near = new Set(
    selected === undefined ? [] : edges.filter(({ from, to }) => from === selected || to === selected).flatMap(({ from, to }) => [from, to]),
  );
  for (const component of components) fillNode(nodeParts.get(component.name), component, selected, near);

  const taken = layout.nodes.map(({ x, y }) => ({ left: x - 2, right: x + options.nodeWidth + 2, top: y - 2, bottom: y + options.nodeHeight + 2 }));
  for (const part of edgeParts) {
    const edge = edges[part.index];
    const { perSecond, faultsPerSecond, p99Ms } = edge.traffic;
    const live = perSecond > 0;
    part.group.classList.toggle("live", live);
    part.group.classList.toggle("unseen-yet", edge.total === 0);
    part.group.classList.toggle("undeclared", !edge.declared);
    part.group.classList.toggle("faulty", faultsPerSecond > 0);
    part.group.classList.toggle("aside", selected !== undefined && edge.from !== selected && edge.to !== selected);
    part.group.classList.toggle("chosen", selected !== undefined && (edge.from === selected || edge.to === selected));
    part.path.style.strokeWidth = live ? String(Math.min(4, 1.4 + Math.log10(1 + perSecond))) : "";
    part.flow.style.animationDuration = `${Math.max(0.5, 2.4 - Math.log10(1 + perSecond) * 0.7)}s`;
    part.flow.style.animationDirection = edge.operation === "follow" ? "reverse" : "normal";
    part.title.textContent = sentence(edge);

    const words = !edge.declared
      ? ["not declared", live ? rate(perSecond) : ""]
      : live
        ? [
            rate(perSecond),
            p99Ms === undefined || edge.operation === "follow" || faultsPerSecond > 0 ? "" : duration(p99Ms),
            faultsPerSecond > 0 ? `${rate(faultsPerSecond)} failed` : "",
          ]
        : [];
    const text = words.filter(Boolean).join(" · ");
    part.label.style.display = text === "" ? "none" : "";
    part.label.classList.toggle("faulty", faultsPerSecond > 0 || !edge.declared);
    part.label.classList.toggle("aside", selected !== undefined && edge.from !== selected && edge.to !== selected);
    if (text === "") continue;
    part.text.textContent = text;
    const half = (text.length * 5.6 + 12) / 2;
    part.box.setAttribute("width", half * 2);
    part.box.setAttribute("x", -half);
    const spot = freeSpot(part.path, half, taken);
    taken.push(boxAt(spot, half));
    const x = Math.min(width - margin - half, Math.max(half - margin, spot.x)); // not over the picture's rim
    part.label.setAttribute("transform", `translate(${x.toFixed(1)} ${spot.y.toFixed(1)})`);
  }
}

/** The place along the line that hides the least: of a node, of another label. */
function freeSpot(path, half, taken) {
  const length = path.getTotalLength();
  let best;
  for (const share of [0.5, 0.42, 0.58, 0.34, 0.66, 0.26, 0.74, 0.2, 0.8]) {
    const spot = path.getPointAtLength(length * share);
    const box = boxAt(spot, half);
    const hidden = taken.reduce(
      (sum, other) =>
        sum +
        Math.max(0, Math.min(box.right, other.right) - Math.max(box.left, other.left)) *
          Math.max(0, Math.min(box.bottom, other.bottom) - Math.max(box.top, other.top)),
      0,
    );
    if (best === undefined || hidden < best.hidden) best = { spot, hidden };
    if (hidden === 0) break;
  }
  return best.spot;
}

const boxAt = ({ x, y }, half) => ({ left: x - half, right: x + half, top: y - 8, bottom: y + 8 });

function sentence({ from, to, operation, declared, total, traffic }) {
  const how = declared ? (edgeStyles[operation] ?? "uses it") : "uses it without having declared it";
  const seen =
    total === 0 ? "not seen since the node started" : `${total === 1 ? "once" : `${total.toLocaleString("en")} times`}, ${rate(traffic.perSecond)} now`;
  return `${from} → ${to}: ${how}; ${seen}`;
}

function nearest(nodes, from, key) {
  const along = { ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowDown: [0, 1], ArrowUp: [0, -1] }[key];
  let best;
  for (const node of nodes) {
    const [dx, dy] = [node.x - from.x, node.y - from.y];
    const ahead = dx * along[0] + dy * along[1];
    if (ahead <= 0) continue;
    const cost = ahead + 2 * Math.abs(dx * along[1] + dy * along[0]);
    if (best === undefined || cost < best.cost) best = { node, cost };
  }
  return best?.node;
}

// ---- nodes ----------------------------------------------------------------------------------------------------------

function nodeOf({ kind, name }, { x, y }, { nodeWidth: w, nodeHeight: h }) {
  const group = element("g", { class: `node kind-${kind}`, transform: `translate(${x.toFixed(1)} ${y.toFixed(1)})`, tabindex: 0, role: "button" });
  group.append(element("rect", { class: "halo", x: -5, y: -5, width: w + 10, height: h + 10, rx: 14 }));
  for (const { d, className } of outline(kind, w, h)) group.append(element("path", { d, class: className }));
  const drop = kind === "records" || kind === "sql" ? 3 : 0; // below the rim of the drum
  const inset = kind === "service" ? 20 : kind === "topic" ? 22 : 16;
  const title = group.appendChild(element("text", { class: "name", x: inset, y: 23 + drop }));
  const charsMax = Math.floor((w - inset - 14) / 7.8);
  title.textContent = name.length > charsMax ? `${name.slice(0, charsMax - 1)}…` : name;
  const line = group.appendChild(element("text", { class: "rate", x: inset, y: 43 + drop }));
  // Beside the rate where there is room, below it where there is not.
  const below = w < 180;
  const right = w - (kind === "service" || kind === "topic" ? 18 : kind === "queue" ? 24 : 12);
  const kindText = group.appendChild(
    element("text", below ? { class: "kind", x: inset, y: 60 } : { class: "kind", x: right, y: 43 + drop, "text-anchor": "end" }),
  );
  const badge = group.appendChild(element("g", { class: "badge", transform: `translate(${w - 8} 0)` }));
  const badgeBox = badge.appendChild(element("rect", { rx: 9, height: 18, y: -9 }));
  const badgeText = badge.appendChild(element("text", { "text-anchor": "middle", y: 4 }));
  return { group, line, kindText, badge, badgeBox, badgeText };
}

function fillNode({ group, line, kindText, badge, badgeBox, badgeText }, component, selected, near) {
  const { name, kind, traffic, queue, counts, declared } = component;
  const waiting = queue?.waiting ?? 0;
  line.textContent = [rate(traffic.perSecond), traffic.p99Ms === undefined ? "" : duration(traffic.p99Ms)].filter(Boolean).join(" · ");
  kindText.textContent = waiting > 0 ? `${compact(waiting)} waiting` : kind;
  const kept = (queue?.dead ?? 0) + (queue?.parked ?? 0) + (queue?.undetermined ?? 0);
  const said = kept > 0 ? `${kept} kept` : traffic.faultsPerSecond > 0 ? `${rate(traffic.faultsPerSecond)} failed` : "";
  badge.style.display = said === "" ? "none" : "";
  badgeText.textContent = said;
  const half = (said.length * 6 + 12) / 2;
  badgeBox.setAttribute("width", half * 2);
  badgeBox.setAttribute("x", -half * 2 + 8);
  badgeText.setAttribute("x", -half + 8);
  group.classList.toggle("live", traffic.perSecond > 0);
  group.classList.toggle("faulty", traffic.faultsPerSecond > 0 || kept > 0);
  group.classList.toggle("undeclared", !declared);
  group.classList.toggle("selected", selected === name);
  group.classList.toggle("aside", selected !== undefined && selected !== name && !near.has(name));
  group.setAttribute("aria-pressed", String(selected === name));
  group.setAttribute(
    "aria-label",
    [
      `${kind} ${name}`,
      `${rate(traffic.perSecond)} ${counts}`,
      traffic.p99Ms === undefined ? "" : `99 percent within ${duration(traffic.p99Ms)}`,
      traffic.faultsPerSecond > 0 ? `${rate(traffic.faultsPerSecond)} failed` : "",
      waiting > 0 ? `${waiting} jobs waiting` : "",
      kept > 0 ? `${kept} jobs wait for a person` : "",
    ]
      .filter(Boolean)
      .join(", "),
  );
}

/** The outline of a kind: a shape one can tell from afar, without its colour. */
function outline(kind, w, h) {
  const rounded = (r) => `M${r} 0H${w - r}Q${w} 0 ${w} ${r}V${h - r}Q${w} ${h} ${w - r} ${h}H${r}Q0 ${h} 0 ${h - r}V${r}Q0 0 ${r} 0Z`;
  const body = (d) => ({ d, className: "body" });
  const mark = (d) => ({ d, className: "mark" });
  switch (kind) {
    case "service": // a hexagon
      return [body(`M12 0H${w - 12}L${w} ${h / 2}L${w - 12} ${h}H12L0 ${h / 2}Z`)];
    case "queue": // items in a line
      return [body(rounded(8)), mark(`M${w - 8} 12V${h - 12}M${w - 13} 12V${h - 12}M${w - 18} 12V${h - 12}`)];
    case "aggregate": // cut corners
      return [body(`M10 0H${w - 10}L${w} 10V${h - 10}L${w - 10} ${h}H10L0 ${h - 10}V10Z`)];
    case "records":
    case "sql": // a drum
      return [body(`M0 7C0 -2 ${w} -2 ${w} 7V${h - 7}C${w} ${h + 2} 0 ${h + 2} 0 ${h - 7}Z`), mark(`M0 7C0 14 ${w} 14 ${w} 7`)];
    case "projection": // a sheet behind a sheet
      return [mark(`M6 0V-4Q6 -5 7 -5H${w + 3}Q${w + 5} -5 ${w + 5} -3V${h - 8}Q${w + 5} ${h - 6} ${w + 3} ${h - 6}H${w}`), body(rounded(4))];
    case "topic": // a parallelogram
      return [body(`M14 0H${w}L${w - 14} ${h}H0Z`)];
    case "subscription": // notched where events come in
      return [body(`M0 0H${w - 6}Q${w} 0 ${w} 6V${h - 6}Q${w} ${h} ${w - 6} ${h}H0L9 ${h / 2}Z`)];
    case "schedule": // a pill with a clock's hand
      return [body(rounded(h / 2)), mark(`M${w - 20} ${h / 2 - 16}V${h / 2 - 8}`)];
    case "external": // not ours: a dashed outline
      return [{ d: rounded(14), className: "body foreign" }];
    default:
      return [body(rounded(8))];
  }
}

/** A shape alone, for the legend. */
export function legendShape(kind) {
  const svg = element("svg", { viewBox: "-4 -7 52 34", width: 52, height: 34, class: `node kind-${kind}`, "aria-hidden": "true" });
  for (const { d, className } of outline(kind, 42, 24)) svg.append(element("path", { d, class: className }));
  return svg;
}

export function legendEdge(operation) {
  const svg = element("svg", { viewBox: "0 0 52 14", width: 52, height: 14, class: `edge op-${operation} declared`, "aria-hidden": "true" });
  svg.append(
    element("path", {
      d: operation === "follow" ? "M8 7H48" : "M4 7H44",
      class: "line",
      ...(operation === "follow" ? { "marker-start": "url(#arrow-back)" } : { "marker-end": "url(#arrow)" }),
    }),
  );
  return svg;
}

function markers() {
  const defs = element("defs");
  for (const [id, d, refX] of [
    ["arrow", "M1 1L8 4.5L1 8", 7.5],
    ["arrow-back", "M8 1L1 4.5L8 8", 1.5],
  ]) {
    const marker = defs.appendChild(
      element("marker", { id, viewBox: "0 0 9 9", refX, refY: 4.5, markerWidth: 9, markerHeight: 9, markerUnits: "userSpaceOnUse", orient: "auto" }),
    );
    marker.append(element("path", { d, class: "arrow" }));
  }
  return defs;
}

function element(name, attributes = {}) {
  const made = document.createElementNS(svgNamespace, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, String(value));
  return made;
}

function paragraph(text) {
  const made = document.createElement("p");
  made.className = "empty";
  made.textContent = text;
  return made;
}

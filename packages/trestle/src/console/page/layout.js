/**
 * Draws nothing: says where the nodes and edges of a layered graph go. Layers by the longest way from a source, order within a layer by
 * barycentre (Sugiyama, Tagawa, Toda 1981), edges that skip layers are led around the nodes between. Same graph in, same picture out.
 */

/**
 * @param {{ nodes: { id: string }[], edges: { from: string, to: string }[] }} graph edges between unknown nodes are left out
 * @param {{ direction: "right" | "down", nodeWidth: number, nodeHeight: number, layerGap: number, nodeGap: number, perLayerMax: number, roomAcross?: number }} options `roomAcross`: layers that can be are kept this short
 */
export function layOut(graph, options) {
  const ids = graph.nodes.map(({ id }) => id);
  const known = new Set(ids);
  const edges = graph.edges.map((edge, index) => ({ ...edge, index })).filter(({ from, to }) => known.has(from) && known.has(to) && from !== to);
  const forward = withoutCycles(ids, edges);
  const layerOf = splitWideLayers(longestPaths(ids, forward), forward, options.perLayerMax);
  const { layers, chains } = withWaypoints(ids, forward, layerOf);
  order(layers, chains);
  const across = align(layers, chains, options);
  return place(layers, chains, across, edges, forward, options);
}

/** Each edge as the layering sees it: those that close a circle are turned around. */
function withoutCycles(ids, edges) {
  const out = new Map(ids.map((id) => [id, []]));
  for (const edge of edges) out.get(edge.from).push(edge);
  const state = new Map();
  const turned = new Set();
  // A stack of its own: a chain of thousands of components must not overflow the browser's.
  for (const root of ids) {
    if (state.has(root)) continue;
    const stack = [{ id: root, next: 0 }];
    state.set(root, "open");
    while (stack.length > 0) {
      const top = stack[stack.length - 1];
      const edge = out.get(top.id)[top.next++];
      if (!edge) {
        state.set(top.id, "done");
        stack.pop();
      } else if (state.get(edge.to) === "open") turned.add(edge.index);
      else if (!state.has(edge.to)) {
        state.set(edge.to, "open");
        stack.push({ id: edge.to, next: 0 });
      }
    }
  }
  return edges.map((edge) =>
    turned.has(edge.index) ? { index: edge.index, from: edge.to, to: edge.from } : { index: edge.index, from: edge.from, to: edge.to },
  );
}

function longestPaths(ids, edges) {
  const layer = new Map(ids.map((id) => [id, 0]));
  const incoming = new Map(ids.map((id) => [id, 0]));
  const out = new Map(ids.map((id) => [id, []]));
  for (const { from, to } of edges) {
    incoming.set(to, incoming.get(to) + 1);
    out.get(from).push(to);
  }
  const ready = ids.filter((id) => incoming.get(id) === 0);
  for (let id = ready.shift(); id !== undefined; id = ready.shift()) {
    for (const to of out.get(id)) {
      layer.set(to, Math.max(layer.get(to), layer.get(id) + 1));
      incoming.set(to, incoming.get(to) - 1);
      if (incoming.get(to) === 0) ready.push(to);
    }
  }
  return layer;
}

/** A layer of more than `max` nodes becomes several; those that are used from the layer before come first. */
function splitWideLayers(layerOf, edges, max) {
  const nearest = new Map();
  for (const { from, to } of edges) nearest.set(to, Math.max(nearest.get(to) ?? -1, layerOf.get(from)));
  const rows = [];
  for (const [id, layer] of layerOf) (rows[layer] ??= []).push(id);
  const split = new Map();
  let at = 0;
  for (const row of rows.filter(Boolean)) {
    row.sort((a, b) => (nearest.get(b) ?? -1) - (nearest.get(a) ?? -1));
    const parts = Math.ceil(row.length / max);
    const size = Math.ceil(row.length / parts);
    row.forEach((id, i) => split.set(id, at + Math.floor(i / size)));
    at += parts;
  }
  return split;
}

/** Layers of node ids and waypoint ids; for each edge the ids it passes, ends included. */
function withWaypoints(ids, edges, layerOf) {
  const layers = [];
  for (const id of ids) (layers[layerOf.get(id)] ??= []).push(id);
  const chains = edges.map((edge) => {
    const chain = [edge.from];
    for (let layer = layerOf.get(edge.from) + 1; layer < layerOf.get(edge.to); layer++) {
      const waypoint = `${edge.index} at ${layer}`;
      layers[layer].push(waypoint);
      chain.push(waypoint);
    }
    chain.push(edge.to);
    return chain;
  });
  return { layers, chains };
}

function neighbours(chains) {
  const before = new Map();
  const after = new Map();
  const add = (map, id, other) => (map.get(id) ?? map.set(id, []).get(id)).push(other);
  for (const chain of chains) {
    for (let i = 1; i < chain.length; i++) {
      add(after, chain[i - 1], chain[i]);
      add(before, chain[i], chain[i - 1]);
    }
  }
  return { before, after };
}

/** Orders every layer in place: barycentre sweeps down and up, keeping the order with the fewest crossings. */
function order(layers, chains) {
  const { before, after } = neighbours(chains);
  let best = layers.map((layer) => [...layer]);
  let fewest = crossings(layers, after);
  for (let sweep = 0; sweep < 12 && fewest > 0; sweep++) {
    const down = sweep % 2 === 0;
    const indices = layers.map((_, i) => i);
    for (const i of down ? indices.slice(1) : indices.reverse().slice(1)) {
      const fixed = new Map(layers[down ? i - 1 : i + 1].map((id, at) => [id, at]));
      const weights = new Map();
      layers[i].forEach((id, at) => {
        const ends =
          (down ? before : after)
            .get(id)
            ?.map((other) => fixed.get(other))
            .filter((position) => position !== undefined) ?? [];
        weights.set(id, ends.length > 0 ? ends.reduce((a, b) => a + b, 0) / ends.length : at);
      });
      layers[i].sort((a, b) => weights.get(a) - weights.get(b));
    }
    const now = crossings(layers, after);
    if (now < fewest) {
      fewest = now;
      best = layers.map((layer) => [...layer]);
    }
  }
  best.forEach((layer, i) => layers[i].splice(0, layer.length, ...layer));
}

export function crossings(layers, after) {
  let count = 0;
  for (let i = 0; i + 1 < layers.length; i++) {
    const place = new Map(layers[i + 1].map((id, at) => [id, at]));
    const ends = layers[i].map((id) => (after.get(id) ?? []).map((to) => place.get(to)).filter((at) => at !== undefined));
    for (let a = 0; a < ends.length; a++) for (let b = a + 1; b < ends.length; b++) for (const x of ends[a]) for (const y of ends[b]) if (x > y) count++;
  }
  return count;
}

// No name of a component has a space in it.
const isWaypoint = (id) => id.includes(" at ");

/** The centre of each id across the layer: drawn to its neighbours, never closer than the gap, order kept. */
function align(layers, chains, { direction, nodeWidth, nodeHeight, nodeGap, roomAcross = Infinity }) {
  const { before, after } = neighbours(chains);
  const breadth = direction === "right" ? nodeHeight : nodeWidth;
  const size = (id) => (isWaypoint(id) ? (direction === "right" ? 14 : 8) : breadth);
  const centre = new Map();
  for (const layer of layers) {
    let at = 0;
    for (const id of layer) {
      centre.set(id, at + size(id) / 2);
      at += size(id) + nodeGap;
    }
    for (const id of layer) centre.set(id, centre.get(id) - (at - nodeGap) / 2);
  }
  const apart = (a, b) => (size(a) + size(b)) / 2 + (isWaypoint(a) || isWaypoint(b) ? nodeGap / 2 : nodeGap);
  const lengthOf = (layer) => layer.reduce((sum, id, i) => sum + (i === 0 ? size(id) / 2 : apart(layer[i - 1], id)), size(layer[layer.length - 1]) / 2);
  const room = Math.max(roomAcross, ...layers.map(lengthOf));
  const keepWithin = (layer) => {
    let least = -room / 2 + size(layer[0]) / 2;
    layer.forEach((id, i) => {
      least += i === 0 ? 0 : apart(layer[i - 1], id);
      centre.set(id, Math.max(centre.get(id), least));
    });
    let most = room / 2 - size(layer[layer.length - 1]) / 2;
    for (let i = layer.length - 1; i >= 0; i--) {
      most -= i === layer.length - 1 ? 0 : apart(layer[i], layer[i + 1]);
      centre.set(layer[i], Math.min(centre.get(layer[i]), most));
    }
  };
  for (let pass = 0; pass < 24; pass++) {
    const down = pass % 2 === 0;
    for (const layer of down ? layers : [...layers].reverse()) {
      const wanted = layer.map((id) => {
        const ends = [...(before.get(id) ?? []), ...(after.get(id) ?? [])];
        return ends.length === 0 ? centre.get(id) : ends.reduce((sum, other) => sum + centre.get(other), 0) / ends.length;
      });
      // Pushed apart from both sides, and the middle of the two taken: neither end of the layer wins.
      const low = [...wanted];
      for (let i = 1; i < layer.length; i++) low[i] = Math.max(low[i], low[i - 1] + apart(layer[i - 1], layer[i]));
      const high = [...wanted];
      for (let i = layer.length - 2; i >= 0; i--) high[i] = Math.min(high[i], high[i + 1] - apart(layer[i], layer[i + 1]));
      layer.forEach((id, i) => centre.set(id, (low[i] + high[i]) / 2));
      if (room < Infinity) keepWithin(layer);
    }
  }
  return centre;
}

function place(layers, chains, across, edges, forward, { direction, nodeWidth, nodeHeight, layerGap }) {
  const right = direction === "right";
  const depth = right ? nodeWidth : nodeHeight;
  const breadth = right ? nodeHeight : nodeWidth;
  const half = (id) => (isWaypoint(id) ? 6 : breadth / 2);
  const least = Math.min(...layers.flat().map((id) => across.get(id) - half(id)));
  const nodes = new Map();
  const along = new Map();
  layers.forEach((layer, i) => {
    const start = i * (depth + layerGap);
    for (const id of layer) {
      along.set(id, start);
      across.set(id, across.get(id) - least);
      nodes.set(id, right ? { id, layer: i, x: start, y: across.get(id) - breadth / 2 } : { id, layer: i, x: across.get(id) - breadth / 2, y: start });
    }
  });

  // Where on its side of the node an edge begins or ends: spread, in the order of the other ends.
  const ports = new Map();
  for (const end of ["out", "in"]) {
    const atNode = new Map();
    chains.forEach((chain, i) => {
      const [node, next] = end === "out" ? [chain[0], chain[1]] : [chain[chain.length - 1], chain[chain.length - 2]];
      (atNode.get(node) ?? atNode.set(node, []).get(node)).push({ i, towards: across.get(next) });
    });
    for (const ofNode of atNode.values()) {
      ofNode.sort((a, b) => a.towards - b.towards);
      const step = Math.min(14, (breadth * 0.6) / Math.max(1, ofNode.length - 1));
      ofNode.forEach(({ i }, at) => ports.set(`${end} ${i}`, (at - (ofNode.length - 1) / 2) * step));
    }
  }

  const routed = chains.map((chain, i) => {
    const points = [];
    chain.forEach((id, at) => {
      const c = across.get(id);
      const a = along.get(id);
      if (at === 0) points.push([a + depth, c + ports.get(`out ${i}`)]);
      else if (at === chain.length - 1) points.push([a, c + ports.get(`in ${i}`)]);
      else points.push([a, c], [a + depth, c]);
    });
    const turned = forward[i].from !== edges[i].from;
    const xy = points.map(([a, c]) => (right ? { x: a, y: c } : { x: c, y: a }));
    return { index: edges[i].index, from: edges[i].from, to: edges[i].to, points: turned ? xy.reverse() : xy };
  });
  const real = [...nodes.values()].filter(({ id }) => !isWaypoint(id));
  const farthest = Math.max(...layers.flat().map((id) => across.get(id) + half(id)));
  const length = layers.length * (depth + layerGap) - layerGap;
  return { nodes: real, edges: routed, width: right ? length : farthest, height: right ? farthest : length };
}

/** An SVG path through the points, leaving and entering along the layers' direction. */
export function pathThrough(points, direction) {
  const [first, ...rest] = points;
  let path = `M${round(first.x)} ${round(first.y)}`;
  let from = first;
  for (const to of rest) {
    const bend = direction === "right" ? (to.x - from.x) / 2 : (to.y - from.y) / 2;
    path +=
      direction === "right"
        ? `C${round(from.x + bend)} ${round(from.y)} ${round(to.x - bend)} ${round(to.y)} ${round(to.x)} ${round(to.y)}`
        : `C${round(from.x)} ${round(from.y + bend)} ${round(to.x)} ${round(to.y - bend)} ${round(to.x)} ${round(to.y)}`;
    from = to;
  }
  return path;
}

const round = (value) => Math.round(value * 10) / 10;

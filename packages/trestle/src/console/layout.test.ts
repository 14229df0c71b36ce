import assert from "node:assert/strict";
import { test } from "node:test";
import { shopGraph } from "./testing.ts";

interface Point {
  readonly x: number;
  readonly y: number;
}
interface Picture {
  readonly nodes: readonly (Point & { readonly id: string; readonly layer: number })[];
  readonly edges: readonly { readonly index: number; readonly from: string; readonly to: string; readonly points: readonly Point[] }[];
  readonly width: number;
  readonly height: number;
}
// The page's modules are JavaScript for the browser; by a URL that the compiler does not follow.
const { layOut, pathThrough } = (await import(new URL("./page/layout.js", import.meta.url).href)) as {
  layOut(
    graph: { readonly nodes: readonly { readonly id: string }[]; readonly edges: readonly { readonly from: string; readonly to: string }[] },
    options: object,
  ): Picture;
  pathThrough(points: readonly Point[], direction: "right" | "down"): string;
};

const options = { direction: "right", nodeWidth: 100, nodeHeight: 40, layerGap: 60, nodeGap: 20, perLayerMax: 7 };
const graphOf = (names: string, ...edges: string[]) => ({
  nodes: names.split("").map((id) => ({ id })),
  edges: edges.map((edge) => ({ from: edge[0] as string, to: edge[1] as string })),
});
const shop = { nodes: shopGraph.components.map(({ name }) => ({ id: name })), edges: shopGraph.edges };

function layersOf(picture: Picture): Record<string, number> {
  return Object.fromEntries(picture.nodes.map(({ id, layer }) => [id, layer]));
}

function overlaps(picture: Picture, width = 100, height = 40): string[] {
  const found: string[] = [];
  for (const [i, a] of picture.nodes.entries()) {
    for (const b of picture.nodes.slice(i + 1)) if (Math.abs(a.x - b.x) < width && Math.abs(a.y - b.y) < height) found.push(`${a.id} ${b.id}`);
  }
  return found;
}

test("a component stands to the right of everything that uses it", () => {
  const picture = layOut(shop, options);
  const layer = layersOf(picture);

  for (const { from, to } of shop.edges) assert.ok((layer[from] as number) < (layer[to] as number), `${from} → ${to}`);
  assert.deepEqual(overlaps(picture), []);
});

test("the same graph gives the same picture", () => {
  assert.deepEqual(layOut(shop, options), layOut(shop, options));
});

test("edges do not cross where they need not", () => {
  const picture = layOut(graphOf("abcxyz", "az", "by", "cx"), options);
  const y = Object.fromEntries(picture.nodes.map((node) => [node.id, node.y]));

  const order = (ids: string) =>
    ids
      .split("")
      .sort((a, b) => (y[a] as number) - (y[b] as number))
      .join("");
  assert.deepEqual([order("abc"), order("xyz")], ["abc", "zyx"]);
});

test("an edge over several layers is led around the nodes between", () => {
  const picture = layOut(graphOf("abcd", "ab", "bc", "cd", "ad"), options);
  const long = picture.edges.find(({ from, to }) => from === "a" && to === "d");

  assert.equal(long?.points.length, 6);
  for (const { x, y } of long?.points.slice(1, -1) ?? []) {
    for (const node of picture.nodes) assert.ok(!(x > node.x && x < node.x + 100 && y > node.y && y < node.y + 40), `${x},${y} runs through ${node.id}`);
  }
});

test("a circle is drawn, and its edges keep their direction", () => {
  const picture = layOut(graphOf("abc", "ab", "bc", "ca", "aa"), options);
  const at = new Map(picture.nodes.map((node) => [node.id, node]));

  assert.equal(picture.edges.length, 3);
  for (const { from, to, points } of picture.edges) {
    const [start, end] = [at.get(from), at.get(to)];
    assert.ok(start && end && points.length >= 2);
    assert.ok([start.x, start.x + 100].includes((points[0] as Point).x), `${from} → ${to} begins beside ${from}`);
    assert.ok(Math.abs((points[0] as Point).y - (start.y + 20)) <= 20, `${from} → ${to} begins at ${from}`);
    assert.ok(Math.abs((points.at(-1) as Point).y - (end.y + 20)) <= 20, `${from} → ${to} ends at ${to}`);
  }
});

test("a layer of many becomes several, so that a narrow page can show it", () => {
  const picture = layOut(graphOf("abcdefghi", "ai", "bi", "ci", "di"), { ...options, direction: "down", perLayerMax: 2, roomAcross: 240 });
  const perLayer = Object.values(Object.groupBy(picture.nodes, ({ layer }) => layer)).map((layer) => layer?.length ?? 0);

  assert.ok(Math.max(...perLayer) <= 2, String(perLayer));
  assert.deepEqual(overlaps(picture), []);
});

test("nothing lies outside the picture", () => {
  for (const direction of ["right", "down"]) {
    const picture = layOut(shop, { ...options, direction });
    for (const { x, y } of [...picture.nodes, ...picture.edges.flatMap(({ points }) => points)])
      assert.ok(x >= -0.01 && y >= -0.01 && x <= picture.width + 0.01 && y <= picture.height + 0.01, `${direction} ${x},${y}`);
  }
});

test("a chain of three thousand components and a graph without edges are laid out", () => {
  const names = Array.from({ length: 3_000 }, (_, i) => ({ id: `c${i}` }));

  assert.equal(layOut({ nodes: names, edges: names.slice(1).map(({ id }, i) => ({ from: `c${i}`, to: id })) }, options).nodes.at(-1)?.layer, 2_999);
  assert.equal(layOut(graphOf("a"), options).nodes.length, 1);
});

test("a path leaves and enters along the direction of the layers", () => {
  assert.equal(
    pathThrough(
      [
        { x: 0, y: 0 },
        { x: 10, y: 20 },
      ],
      "right",
    ),
    "M0 0C5 0 5 20 10 20",
  );
  assert.equal(
    pathThrough(
      [
        { x: 0, y: 0 },
        { x: 10, y: 20 },
      ],
      "down",
    ),
    "M0 0C0 10 10 10 10 20",
  );
});

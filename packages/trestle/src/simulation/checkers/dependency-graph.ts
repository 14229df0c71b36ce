/**
 * A graph of who must come before whom, in typed arrays, so that millions of edges fit. Beside the nodes that things stand for it may have *joints*:
 * nodes in between, by which n things before m others take n + m edges and not n times m. A path through joints is one edge to whoever looks.
 */
import { grown } from "./row-set.ts";

/** Edges carry a kind, one bit, so that a walk may be limited to some kinds; and a label, whose meaning is the builder's. */
export class DependencyGraph {
  #from: Int32Array = new Int32Array(64);
  #to: Int32Array = new Int32Array(64);
  #label: Int32Array = new Int32Array(64);
  #kind = new Uint8Array(64);
  #edges = 0;
  #nodes: number;
  readonly things: number;
  /** By node, where its edges are in `#order`. Built when first asked for. */
  #starts: Int32Array | undefined;
  #order = new Int32Array(0);

  /** Nodes 0 to `things` - 1 are things. */
  constructor(things: number) {
    this.things = things;
    this.#nodes = things;
  }

  get nodes(): number {
    return this.#nodes;
  }

  get edges(): number {
    return this.#edges;
  }

  joint(): number {
    return this.#nodes++;
  }

  isJoint(node: number): boolean {
    return node >= this.things;
  }

  add(from: number, to: number, kind: number, label = -1): void {
    if (from === to) return;
    if (this.#edges === this.#from.length) {
      const room = this.#edges * 2;
      this.#from = grown(this.#from, room);
      this.#to = grown(this.#to, room);
      this.#label = grown(this.#label, room);
      const kinds = new Uint8Array(room);
      kinds.set(this.#kind);
      this.#kind = kinds;
    }
    this.#from[this.#edges] = from;
    this.#to[this.#edges] = to;
    this.#label[this.#edges] = label;
    this.#kind[this.#edges++] = kind;
    this.#starts = undefined;
  }

  from(edge: number): number {
    return this.#from[edge] as number;
  }

  to(edge: number): number {
    return this.#to[edge] as number;
  }

  kind(edge: number): number {
    return this.#kind[edge] as number;
  }

  label(edge: number): number {
    return this.#label[edge] as number;
  }

  /** The edges that leave a node are `order` from `starts[node]` up to `starts[node + 1]`. */
  index(): { readonly starts: Int32Array; readonly order: Int32Array } {
    if (this.#starts) return { starts: this.#starts, order: this.#order };
    const starts = new Int32Array(this.#nodes + 1);
    for (let edge = 0; edge < this.#edges; edge++) starts[(this.#from[edge] as number) + 1]!++;
    for (let node = 0; node < this.#nodes; node++) starts[node + 1]! += starts[node]!;
    const order = new Int32Array(this.#edges);
    const next = starts.slice();
    for (let edge = 0; edge < this.#edges; edge++) order[next[this.#from[edge] as number]!++] = edge;
    this.#starts = starts;
    this.#order = order;
    return { starts, order };
  }

  /** A graph of these nodes and the edges between them alone; the label of an edge is its number here. */
  part(nodes: readonly number[]): DependencyGraph {
    const things = nodes.filter((node) => !this.isJoint(node));
    const part = new DependencyGraph(things.length);
    const place = new Map(things.map((node, i) => [node, i]));
    for (const node of nodes) if (this.isJoint(node)) place.set(node, part.joint());
    const { starts, order } = this.index();
    for (const [node, from] of place) {
      for (let at = starts[node] as number; at < (starts[node + 1] as number); at++) {
        const edge = order[at] as number;
        const to = place.get(this.#to[edge] as number);
        if (to !== undefined) part.add(from, to, this.#kind[edge] as number, edge);
      }
    }
    return part;
  }

  /**
   * Components in which every node reaches every other over edges of these kinds, of more than one node each: R. Tarjan, "Depth-first search and
   * linear graph algorithms", 1972, with a stack of its own in place of recursion.
   */
  components(kinds: number): number[][] {
    const { starts, order } = this.index();
    const number = new Int32Array(this.#nodes); // when it was reached, from 1; 0 is not yet
    const low = new Int32Array(this.#nodes);
    const closed = new Uint8Array(this.#nodes);
    const cursor = new Int32Array(this.#nodes);
    const path = new Int32Array(this.#nodes);
    const open = new Int32Array(this.#nodes);
    const found: number[][] = [];
    let count = 0;
    let opened = 0;
    for (let root = 0; root < this.#nodes; root++) {
      if (number[root] !== 0) continue;
      let depth = 0;
      path[0] = root;
      number[root] = low[root] = ++count;
      cursor[root] = starts[root] as number;
      open[opened++] = root;
      while (depth >= 0) {
        const node = path[depth] as number;
        if ((cursor[node] as number) < (starts[node + 1] as number)) {
          const edge = order[cursor[node]!++] as number;
          const to = this.#to[edge] as number;
          if (((this.#kind[edge] as number) & kinds) === 0 || closed[to]) continue;
          if (number[to] === 0) {
            number[to] = low[to] = ++count;
            cursor[to] = starts[to] as number;
            open[opened++] = to;
            path[++depth] = to;
          } else if ((number[to] as number) < (low[node] as number)) low[node] = number[to] as number;
          continue;
        }
        depth--;
        if (depth >= 0 && (low[node] as number) < (low[path[depth] as number] as number)) low[path[depth] as number] = low[node] as number;
        if (low[node] !== number[node]) continue;
        let from = opened;
        do closed[open[--from] as number] = 1;
        while (open[from] !== node);
        if (opened - from > 1) found.push([...open.subarray(from, opened)]);
        opened = from;
      }
    }
    return found;
  }

  /**
   * The edges of a shortest path over edges of these kinds, `undefined` when there is none. What counts is the things on it; joints cost nothing.
   * `budget.left` goes down by one for each edge looked at, and a search that finds it used up finds nothing.
   */
  path(from: number, to: number, kinds: number, budget: { left: number }): number[] | undefined {
    const { starts, order } = this.index();
    const by = new Map<number, number>(); // node → the edge it was reached by
    // Nodes at the distance that is looked at, and those one further.
    let near = [from];
    let far: number[] = [];
    while (near.length > 0) {
      for (let node = near.pop(); node !== undefined; node = near.pop()) {
        for (let at = starts[node] as number; at < (starts[node + 1] as number); at++) {
          if (budget.left-- <= 0) return undefined;
          const edge = order[at] as number;
          const next = this.#to[edge] as number;
          if (((this.#kind[edge] as number) & kinds) === 0) continue;
          if (next === to) {
            const edges = [edge];
            for (let back = node; back !== from; back = this.#from[edges.at(-1) as number] as number) edges.push(by.get(back) as number);
            return edges.reverse();
          }
          if (by.has(next)) continue;
          by.set(next, edge);
          (this.isJoint(next) ? near : far).push(next);
        }
      }
      [near, far] = [far, near];
    }
    return undefined;
  }
}

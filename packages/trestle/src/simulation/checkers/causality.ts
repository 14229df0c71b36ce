/**
 * Causal consistency of registers whose values are each written once: A. Bouajjani, C. Enea, R. Guerraoui, J. Hamza, "On Verifying Causal Consistency",
 * POPL 2017. What came before what (`causal order`) is the order of each process and "was read from", followed on. The history keeps to it
 * unless one of these patterns is in it:
 *
 * `causal`: a circle; a value that nobody wrote; a read of a value, or of the initial one, though a later write of that register came before the
 *   read. If A caused B, whoever sees B sees A.
 * `convergent`: further, that writes of a register can be given one order for all: whoever read w2 when w1 had come before it says that w1 < w2. Replicas
 *   that have seen the same agree.
 * `memory`: further, that each process alone finds one order of all writes in which its reads are right (M. Ahamad et al., "Causal memory", 1995).
 *   What one process sees never goes back and forth. Neither of the two follows from the other.
 *
 * What came before an operation is kept as one number for each process: how many of its operations. So the cost is operations x processes, for `memory`
 * times processes again, and times the rounds until nothing is added.
 */
import { Findings, type Checked } from "./checked.ts";
import { DependencyGraph } from "./dependency-graph.ts";
import { byProcess, checkOperations, identityOf, inWords, type History, type Operation } from "./history.ts";
import type { RegisterCall } from "./specifications.ts";

export interface CausalOptions {
  /** Default `causal`. */
  readonly consistency?: "causal" | "convergent" | "memory";
  /** The value that a register has before it is written. Default `null`. */
  readonly initial?: unknown;
  /** Rounds for each process with `memory` before the verdict is `unknown`. Default 100. */
  readonly roundsMax?: number;
}

/**
 * Of calls `read` and `write`, as the specification `register` has them. Problems: `thin-air`, `causal-cycle`, `stale-read`, `not-convergent`,
 * `not-causal-memory`; `gave-up` when a value was written twice to a register, or there is a `cas`, because then reads do not say whose it is, and when
 * rounds or memory do not suffice. Faults `history.bad-operation`, `history.process-overlaps`.
 */
export function checkCausal(history: History<RegisterCall, unknown>, { consistency = "causal", initial = null, roundsMax = 100 }: CausalOptions = {}): Checked {
  checkOperations(history);
  const findings = new Findings(history.length);
  const sources = sourcesOf(history, initial, findings);
  if (sources) new CausalCheck(history, sources, findings).run(consistency, roundsMax);
  return findings.checked();
}

/** By place of a read, the place of the write that it read; -1 for the initial value. `undefined` when that cannot be known or be. */
function sourcesOf(history: History<RegisterCall, unknown>, initial: unknown, findings: Findings): Map<number, number> | undefined {
  const writers = new Map<unknown, Map<unknown, number>>();
  const sources = new Map<number, number>();
  for (const [place, operation] of history.entries()) {
    const { key, call, outcome } = operation;
    if (!writers.has(key)) writers.set(key, new Map([[identityOf(initial), -1]]));
    if (outcome === "failed" || call.kind === "read") continue;
    const values = writers.get(key) as Map<unknown, number>;
    const value = call.kind === "write" ? identityOf(call.value) : undefined;
    if (call.kind === "write" && !values.has(value)) values.set(value, place);
    else
      return void findings.unknown("gave-up", `reads do not say what they read: ${inWords(operation)} is a cas, or writes a value that is there already`, [
        place,
      ]);
  }
  for (const [place, read] of history.entries()) {
    if (read.call.kind !== "read" || read.outcome !== "ok") continue;
    const source = writers.get(read.key)?.get(identityOf(read.result));
    if (source === undefined) findings.violation("thin-air", `nobody wrote what this read: ${inWords(read)}`, [place]);
    else sources.set(place, source);
  }
  return findings.count > 0 ? undefined : sources;
}

/** Kinds of edges. The label of a `conflict` is the read that asks for it. */
const [program, readFrom, conflict] = [1, 2, 4];
const memoryMax = 64_000_000; // numbers in the table of pasts

class CausalCheck {
  readonly #history: History<RegisterCall, unknown>;
  readonly #sources: ReadonlyMap<number, number>;
  readonly #findings: Findings;
  /** Operations that took effect, one after the other: those of a process, or one write of unknown outcome that somebody read. */
  readonly #lines: number[][] = [];
  readonly #lineOf = new Map<number, number>();
  readonly #indexOf = new Map<number, number>();
  readonly #edges: { readonly from: number; readonly to: number; readonly kind: number }[] = [];
  /** By line and key, where on the line its writes are. */
  readonly #writes: Map<unknown, number[]>[] = [];

  constructor(history: History<RegisterCall, unknown>, sources: ReadonlyMap<number, number>, findings: Findings) {
    this.#history = history;
    this.#sources = sources;
    this.#findings = findings;
    const seen = new Set(sources.values());
    for (const own of byProcess(history).values()) {
      const line: number[] = [];
      this.#lines.push(line);
      for (const place of own) {
        const { outcome } = history[place] as Operation;
        const before = line.at(-1);
        if (outcome === "ok") line.push(place);
        else if (outcome === "unknown" && seen.has(place)) this.#lines.push([place]);
        else continue;
        if (before !== undefined) this.#edges.push({ from: before, to: place, kind: program });
      }
    }
    for (const [read, write] of sources) if (write >= 0) this.#edges.push({ from: write, to: read, kind: readFrom });
    for (const [line, places] of this.#lines.entries()) {
      const writes = new Map<unknown, number[]>();
      this.#writes.push(writes);
      for (const [index, place] of places.entries()) {
        this.#lineOf.set(place, line);
        this.#indexOf.set(place, index);
        const { call, key } = history[place] as Operation<RegisterCall>;
        if (call.kind !== "write") continue;
        const indexes = writes.get(key);
        if (indexes) indexes.push(index);
        else writes.set(key, [index]);
      }
    }
  }

  run(consistency: "causal" | "convergent" | "memory", roundsMax: number): void {
    if (this.#history.length * this.#lines.length > memoryMax)
      return this.#findings.unknown(
        "gave-up",
        `${this.#history.length} operations of ${this.#lines.length} processes do not fit into the table of what came before what`,
      );
    const graph = this.#graph();
    const pasts = this.#pasts(graph);
    if (!pasts) return this.#cycle("causal-cycle", graph);
    for (const [read, write] of this.#sources) {
      for (const later of this.#latestBefore(read, pasts)) {
        if (write >= 0 && (later === write || !this.#isBefore(write, later, pasts))) continue;
        this.#findings.violation("stale-read", `${this.#words(read)}, though ${this.#words(later)}, which is later, had come before it in causal order`, [
          read,
          later,
        ]);
        break;
      }
    }
    if (this.#findings.count > 0 || consistency === "causal") return;

    if (consistency === "convergent") {
      for (const [read, write] of this.#sources) for (const other of this.#latestBefore(read, pasts)) graph.add(other, write, conflict, read);
      if (!this.#pasts(graph)) this.#cycle("not-convergent", graph);
      return;
    }
    for (const line of this.#lines) if (!this.#memoryOf(line, roundsMax)) return;
  }

  /** Adds what the reads of one process ask for, until they ask for no more. False when that cannot be, or was given up. */
  #memoryOf(line: readonly number[], roundsMax: number): boolean {
    const reads = line.filter((place) => this.#sources.has(place));
    const graph = this.#graph();
    for (let round = 0; round < roundsMax; round++) {
      const pasts = this.#pasts(graph);
      if (!pasts) {
        this.#cycle("not-causal-memory", graph);
        return false;
      }
      let asked = 0;
      for (const read of reads) {
        const write = this.#sources.get(read) as number;
        for (const other of this.#latestBefore(read, pasts)) {
          if (write < 0) {
            this.#findings.violation(
              "not-causal-memory",
              `${this.#words(read)}, though in any order that its process can see ${this.#words(other)} comes before it`,
              [read, other],
            );
            return false;
          }
          if (other === write || this.#isBefore(other, write, pasts)) continue;
          graph.add(other, write, conflict, read);
          asked++;
        }
      }
      if (asked === 0) return true;
    }
    this.#findings.unknown("gave-up", `no answer within ${roundsMax} rounds for process ${(this.#history[line[0] as number] as Operation).process}`);
    return false;
  }

  #graph(): DependencyGraph {
    const graph = new DependencyGraph(this.#history.length);
    for (const { from, to, kind } of this.#edges) graph.add(from, to, kind);
    return graph;
  }

  /** For each operation and line, how many operations of the line come before it or are it; `undefined` when the graph has a cycle. */
  #pasts(graph: DependencyGraph): Int32Array | undefined {
    const width = this.#lines.length;
    const pasts = new Int32Array(this.#history.length * width);
    const { starts, order } = graph.index();
    const waiting = new Int32Array(this.#history.length);
    for (let edge = 0; edge < graph.edges; edge++) waiting[graph.to(edge)]!++;
    const ready = [...this.#lineOf.keys()].filter((place) => waiting[place] === 0);
    let done = 0;
    for (let place = ready.pop(); place !== undefined; place = ready.pop()) {
      done++;
      const own = place * width + (this.#lineOf.get(place) as number);
      pasts[own] = Math.max(pasts[own] as number, (this.#indexOf.get(place) as number) + 1);
      for (let at = starts[place] as number; at < (starts[place + 1] as number); at++) {
        const next = graph.to(order[at] as number);
        for (let line = 0; line < width; line++) {
          const count = pasts[place * width + line] as number;
          if (count > (pasts[next * width + line] as number)) pasts[next * width + line] = count;
        }
        if (--waiting[next]! === 0) ready.push(next);
      }
    }
    this.#findings.states += graph.edges;
    return done === this.#lineOf.size ? pasts : undefined;
  }

  #isBefore(one: number, other: number, pasts: Int32Array): boolean {
    return (pasts[other * this.#lines.length + (this.#lineOf.get(one) as number)] as number) > (this.#indexOf.get(one) as number);
  }

  /** The last write of each line to the register of a read, of those before the read. What holds of earlier ones holds of it. */
  #latestBefore(read: number, pasts: Int32Array): number[] {
    const { key } = this.#history[read] as Operation;
    return this.#lines.flatMap((places, line) => {
      const count = pasts[read * this.#lines.length + line] as number;
      const indexes = this.#writes[line]?.get(key);
      if (!indexes || count === 0) return [];
      let [from, to] = [0, indexes.length];
      while (from < to) {
        const middle = (from + to) >> 1;
        if ((indexes[middle] as number) < count) from = middle + 1;
        else to = middle;
      }
      return from === 0 ? [] : [places[indexes[from - 1] as number] as number];
    });
  }

  #cycle(kind: string, graph: DependencyGraph): void {
    const kinds = program | readFrom | conflict;
    const [component = []] = graph.components(kinds);
    const part = graph.part(component);
    // Of a hundred of its operations, the shortest circle through one.
    const circles = [...component.keys()].slice(0, 100).map((node) => (part.path(node, node, kinds, { left: Infinity }) ?? []).map((edge) => part.label(edge)));
    const shortest = circles.reduce((best, circle) => (circle.length < best.length ? circle : best));
    const steps = shortest.map((edge) => {
      const [one, other] = [this.#words(graph.from(edge)), this.#words(graph.to(edge))];
      if (graph.kind(edge) === program) return `${one} came before ${other} in its process`;
      if (graph.kind(edge) === readFrom) return `${other} read what ${one} wrote`;
      return `${one} must come before ${other}, whose value was still there after it: ${this.#words(graph.label(edge))}`;
    });
    this.#findings.violation(
      kind,
      `${steps.join("; ")}: a circle`,
      shortest.map((edge) => graph.from(edge)),
    );
  }

  #words(place: number): string {
    return inWords(this.#history[place] as Operation);
  }
}

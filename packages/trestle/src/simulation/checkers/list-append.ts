/**
 * Transactions over lists: each appends values to lists, no value twice to one, and reads whole lists. What was read then says who came before whom,
 * and a history that no order of the transactions explains has a cycle: K. Kingsbury and P. Alvaro, "Elle: Inferring Isolation Anomalies from
 * Experimental Observations", VLDB 2020. Linear in the history, whatever its concurrency. The names of anomalies are those of A. Adya, "Weak
 * Consistency: A Generalized Theory and Optimistic Implementations for Distributed Transactions", 1999.
 *
 * From each list's longest read follows the order of its values. Then `ww`: a transaction appended directly after another one; `wr`: it read what the other
 * one had appended last; `rw`: it read a list to which the other one appended next. A value that nobody read, of a transaction that was
 * acknowledged, comes after all that were read; where transactions of unknown outcome were not seen, they are taken not to have been. Then the
 * graph has a cycle exactly when no order of the transactions explains the history.
 */
import { Fault } from "../../kernel/index.ts";
import { dependency, nameCycles, type Anomaly, type Cycle, type Isolation } from "./anomalies.ts";
import { Findings, type Checked } from "./checked.ts";
import { DependencyGraph } from "./dependency-graph.ts";
import { byProcess, checkOperations, endOf, json, sortBy, type Operation } from "./history.ts";

export type Value = string | number;
export type MicroOperation =
  { readonly kind: "append"; readonly key: string | number; readonly value: Value } | { readonly kind: "read"; readonly key: string | number };
/** Its `result` has the list for each read and `null` for each append, in the order of `call`. */
export type Transaction = Operation<readonly MicroOperation[], readonly (readonly Value[] | null)[]>;

export interface ListAppendOptions {
  /**
   * What is promised. `read-committed`: no G0, G1a, G1b, G1c. `snapshot-isolation`: further no lost update, G-single, G-nonadjacent; read every list at the end, because of two
   * values that nobody read it is not known which came first, and one order or the other may be what is forbidden. `serializable`: no anomaly at all.
   * Default `serializable`.
   */
  readonly isolation?: Isolation;
  /**
   * Which order of transactions counts beside what they read and wrote: `none`, the order of each `process` (strong session), or `realtime` (strict:
   * what had returned before another one was invoked comes before it). Default `none`.
   */
  readonly order?: "none" | "process" | "realtime";
}

/**
 * Problems, each with the transactions it is about: `G1a` (read what a failed transaction appended), `G1b` (read what its transaction went on to append
 * after), `internal` (a transaction does not find its own), `lost-update`, `phantom` (a value that nobody appended), `duplicate` (a value twice in a list),
 * `incompatible-order` (two reads of one list of which neither begins with the other), and for each knot of cycles the gravest one, as short as
 * it was found: `G0`, `G1c`, `G-single`, `G-nonadjacent` (with snapshot isolation), `G2-item`, followed by `-process` or `-realtime` when that order is part of it.
 * Faults `history.bad-operation`, `history.appended-twice`, `history.process-overlaps`.
 */
export function checkListAppend(history: readonly Transaction[], options: ListAppendOptions = {}): Checked {
  checkOperations(history);
  return new ListAppendCheck(history, options.isolation ?? "serializable", options.order ?? "none").run();
}

/** What is known of one list. */
interface List {
  readonly name: string | number;
  /** Who appended each value. */
  readonly writer: Map<Value, number>;
  /** The longest that somebody read, and who. */
  longest: readonly Value[];
  reader: number;
  /** By place in it, who appended it; -1 if nobody did, or failed. */
  writers: Int32Array;
  /** By length of what was read, the first that read it and appended; -1 if nobody did. */
  updater: Int32Array;
  /** Who appended what nobody read, and had not failed. */
  unread: number[];
  /** Who read the longest. */
  upToDate: number[];
}

const none: readonly Value[] = [];

class ListAppendCheck {
  readonly #history: readonly Transaction[];
  readonly #isolation: Isolation;
  readonly #order: "none" | "process" | "realtime";
  readonly #findings: Findings;
  readonly #lists: List[] = [];
  readonly #listOf = new Map<string | number, number>();
  readonly #graph: DependencyGraph;
  /** Acknowledged, or seen. */
  readonly #committed: Uint8Array;
  /** Transactions of one lost update have its number. */
  readonly #lostUpdate = new Map<number, number>();

  constructor(history: readonly Transaction[], isolation: Isolation, order: "none" | "process" | "realtime") {
    this.#history = history;
    this.#isolation = isolation;
    this.#order = order;
    this.#findings = new Findings(history.length);
    this.#graph = new DependencyGraph(history.length);
    this.#committed = Uint8Array.from(history, ({ outcome }) => (outcome === "ok" ? 1 : 0));
  }

  run(): Checked {
    this.#collect();
    for (const [at, list] of this.#lists.entries()) this.#orderOf(list, at);
    for (let place = 0; place < this.#history.length; place++) if (this.#transaction(place).outcome === "ok") this.#reads(place);
    for (const [at, list] of this.#lists.entries()) this.#afterAllReads(list, at);
    if (this.#order === "process") this.#processOrder();
    if (this.#order === "realtime") this.#realTimeOrder();
    for (const cycle of nameCycles(this.#graph, this.#isolation, this.#order)) this.#report(cycle);
    this.#findings.states = this.#graph.edges;
    return this.#findings.checked();
  }

  #transaction(place: number): Transaction {
    return this.#history[place] as Transaction;
  }

  #list(name: string | number): number {
    let at = this.#listOf.get(name);
    if (at === undefined) {
      const empty = new Int32Array(0);
      at = this.#lists.push({ name, writer: new Map(), longest: none, reader: -1, writers: empty, updater: empty, unread: [], upToDate: [] }) - 1;
      this.#listOf.set(name, at);
    }
    return at;
  }

  /** Who appended what, and the longest read of each list. */
  #collect(): void {
    for (let place = 0; place < this.#history.length; place++) {
      const { call, outcome, result } = this.#transaction(place);
      for (let i = 0; i < call.length; i++) {
        const micro = call[i] as MicroOperation;
        const list = this.#lists[this.#list(micro.key)] as List;
        if (micro.kind === "append") {
          if (list.writer.has(micro.value))
            throw Fault.create(
              "history.appended-twice",
              `${json(micro.value)} was appended to list ${micro.key} by operation ${list.writer.get(micro.value)} and by operation ${place}, so reads do not say whose it is`,
              "Let the generator of the history append each value to a list once, also after a failure.",
            );
          list.writer.set(micro.value, place);
        } else if (outcome === "ok") {
          const read = result?.[i];
          if (read && (list.reader < 0 || read.length > list.longest.length)) {
            list.longest = read;
            list.reader = place;
          }
        }
      }
    }
  }

  /** The order of a list's values: the longest read. */
  #orderOf(list: List, at: number): void {
    const { longest, reader, writer } = list;
    list.writers = new Int32Array(longest.length).fill(-1);
    list.updater = new Int32Array(longest.length + 1).fill(-1);
    const seen = new Set<Value>();
    for (let i = 0; i < longest.length; i++) {
      const value = longest[i] as Value;
      const place = writer.get(value);
      if (seen.has(value))
        this.#findings.violation("duplicate", `${this.#name(reader)} read ${list.name} with ${json(value)} twice: ${json(longest)}`, [reader]);
      else if (place === undefined)
        this.#findings.violation("phantom", `${this.#name(reader)} read ${list.name} with ${json(value)}, which nobody appended`, [reader]);
      else if (this.#transaction(place).outcome === "failed")
        this.#findings.violation("G1a", `${this.#name(reader)} read ${list.name} with ${json(value)}, which ${this.#name(place)} appended, and that failed`, [
          reader,
          place,
        ]);
      else {
        list.writers[i] = place;
        this.#committed[place] = 1;
        const before = i > 0 ? (list.writers[i - 1] as number) : -1;
        if (before >= 0) this.#graph.add(before, place, dependency.ww, at);
      }
      seen.add(value);
    }
    for (const [value, place] of writer)
      if (!seen.has(value) && this.#transaction(place).outcome !== "failed" && list.unread.at(-1) !== place) list.unread.push(place);
  }

  /** What a transaction read, held against its own appends and the order of the lists. */
  #reads(place: number): void {
    const { call, result } = this.#transaction(place);
    for (let i = 0; i < call.length; i++) {
      const { kind, key } = call[i] as MicroOperation;
      const read = result?.[i];
      if (kind !== "read" || !read) continue;
      const at = this.#list(key);
      const list = this.#lists[at] as List;
      if (!isPrefix(read, list.longest)) {
        this.#findings.violation(
          "incompatible-order",
          `${this.#name(place)} read ${key} as ${json(read)}, ${this.#name(list.reader)} as ${json(list.longest)}: neither begins with the other`,
          [place, list.reader],
        );
        continue;
      }
      const others = this.#withoutOwn(place, i, read);
      if (others === undefined) {
        const did = call
          .slice(0, i)
          .flatMap((micro, j) =>
            micro.key !== key ? [] : micro.kind === "append" ? [`appended ${json(micro.value)}`] : result?.[j] ? [`read ${json(result[j])}`] : [],
          );
        this.#findings.violation("internal", `${this.#name(place)} ${did.join(", then ")} and then read ${key} as ${json(read)}`, [place]);
      } else if (others.isFirst) this.#external(place, at, others.length);
    }
  }

  /** How much of a read others appended, and whether it tells more than an earlier read of the transaction; `undefined` when it contradicts the transaction itself. */
  #withoutOwn(place: number, i: number, read: readonly Value[]): { readonly length: number; readonly isFirst: boolean } | undefined {
    const { call, result } = this.#transaction(place);
    const { key } = call[i] as MicroOperation;
    if (this.#isolation === "read-committed") {
      // It may see more each time, and others' between its own, but never less of its own.
      const own = call.slice(0, i).flatMap((micro) => (micro.kind === "append" && micro.key === key ? [micro.value] : []));
      return own.every((value) => read.includes(value)) ? { length: read.findLastIndex((value) => !own.includes(value)) + 1, isFirst: true } : undefined;
    }
    // Its own appends since it last read the list stand at the end, and before them what it had read then.
    let length = read.length;
    for (let j = i - 1; j >= 0; j--) {
      const micro = call[j] as MicroOperation;
      if (micro.key !== key) continue;
      if (micro.kind === "append") {
        if (read[--length] !== micro.value) return undefined;
        continue;
      }
      const earlier = result?.[j];
      if (earlier) return earlier.length === length ? { length, isFirst: false } : undefined;
    }
    return { length, isFirst: true };
  }

  /** A transaction that read the first `length` values of a list, not counting its own. */
  #external(place: number, at: number, length: number): void {
    const list = this.#lists[at] as List;
    const from = length === 0 ? -1 : (list.writers[length - 1] as number);
    if (from >= 0 && from !== place) {
      this.#graph.add(from, place, dependency.wr, at);
      const value = list.longest[length - 1] as Value;
      const last = this.#lastAppend(from, list.name);
      if (last !== value)
        this.#findings.violation(
          "G1b",
          `${this.#name(place)} read ${list.name} up to ${json(value)}, in the middle of ${this.#name(from)}, which then appended ${json(last)}`,
          [place, from],
        );
    }
    if (length === list.longest.length) list.upToDate.push(place);
    else if ((list.writers[length] as number) >= 0) this.#graph.add(place, list.writers[length] as number, dependency.rw, at);

    if (this.#lastAppend(place, list.name) === undefined || this.#isolation === "read-committed") return;
    const first = list.updater[length] as number;
    if (first < 0) list.updater[length] = place;
    else if (first !== place) {
      const number = this.#lostUpdate.get(first) ?? this.#lostUpdate.size + 1;
      this.#lostUpdate.set(first, number).set(place, number);
      this.#findings.violation(
        "lost-update",
        `${this.#name(first)} and ${this.#name(place)} both read ${list.name} as ${json(list.longest.slice(0, length))} and then appended to it, ${json(this.#lastAppend(first, list.name))} and ${json(this.#lastAppend(place, list.name))}: one does not know of the other`,
        [first, place],
      );
    }
  }

  #lastAppend(place: number, key: string | number): Value | undefined {
    const { call } = this.#transaction(place);
    for (let i = call.length - 1; i >= 0; i--) {
      const micro = call[i] as MicroOperation;
      if (micro.kind === "append" && micro.key === key) return micro.value;
    }
    return undefined;
  }

  /**
   * What was acknowledged and never read comes after everything that was read, and after everybody who read that. Those who did both stand before all
   * others of them: two rows of joints, of which one reaches the unread up to a place and the other one those from a place on, leave oneself out.
   */
  #afterAllReads({ writers, unread: appended, upToDate }: List, at: number): void {
    const unread = appended.filter((place) => this.#committed[place] === 1);
    if (unread.length === 0) return;
    const { rw, via, ww } = dependency;
    const last = writers.at(-1) ?? -1;
    if (last >= 0) for (const place of unread) this.#graph.add(last, place, ww, at);
    if (upToDate.length === 0) return;
    const upTo = unread.map(() => this.#graph.joint());
    const fromOn = unread.map(() => this.#graph.joint());
    const index = new Map(unread.map((place, i) => [place, i]));
    for (const [i, place] of unread.entries()) {
      this.#graph.add(upTo[i] as number, place, via, at);
      this.#graph.add(fromOn[i] as number, place, via, at);
      if (i > 0) this.#graph.add(upTo[i] as number, upTo[i - 1] as number, via, at);
      if (i > 0) this.#graph.add(fromOn[i - 1] as number, fromOn[i] as number, via, at);
    }
    for (const place of upToDate) {
      const own = index.get(place);
      if (own === undefined) this.#graph.add(place, fromOn[0] as number, rw, at);
      else {
        if (own > 0) this.#graph.add(place, upTo[own - 1] as number, rw, at);
        if (own + 1 < unread.length) this.#graph.add(place, fromOn[own + 1] as number, rw, at);
      }
    }
  }

  #places(): number[] {
    return [...this.#history.keys()].filter((place) => this.#committed[place] === 1);
  }

  #processOrder(): void {
    for (const own of byProcess(this.#history, this.#places()).values()) {
      let ended = -1;
      for (const place of own) {
        if (ended >= 0) this.#graph.add(ended, place, dependency.process);
        if (this.#transaction(place).outcome === "ok") ended = this.#endedAfter(ended, place, dependency.process);
      }
    }
  }

  #realTimeOrder(): void {
    const starting = sortBy(this.#places(), (place) => this.#transaction(place).invokedAt);
    const ending = sortBy(
      starting.filter((place) => this.#transaction(place).outcome === "ok"),
      (place) => endOf(this.#transaction(place)),
    );
    let ended = -1;
    let next = 0;
    for (const place of starting) {
      for (; next < ending.length && endOf(this.#transaction(ending[next] as number)) < this.#transaction(place).invokedAt; next++)
        ended = this.#endedAfter(ended, ending[next] as number, dependency.realtime);
      if (ended >= 0) this.#graph.add(ended, place, dependency.realtime);
    }
  }

  /** A joint that stands for the end of a transaction and of all that ended before it. */
  #endedAfter(before: number, place: number, kind: number): number {
    const joint = this.#graph.joint();
    this.#graph.add(place, joint, kind);
    if (before >= 0) this.#graph.add(before, joint, kind);
    return joint;
  }

  #report({ anomaly, steps }: Cycle): void {
    const places = steps.map(({ from }) => from);
    const lost = this.#lostUpdate.get(places[0] as number);
    if (lost !== undefined && places.every((place) => this.#lostUpdate.get(place) === lost)) return; // said already, by its own name
    const skew = anomaly === "G2-item" && steps.length === 2 && steps.every(({ kind }) => kind === dependency.rw) && steps[0]?.label !== steps[1]?.label;
    const words = steps.map(({ from, to, kind, label }) => this.#step(from, to, kind, this.#lists[label]));
    this.#findings.violation(
      anomaly,
      `${anomaly}${skew ? " (write skew)" : ""}, ${meaning[anomaly.replace(/-(process|realtime)$/, "") as Anomaly]}: ${words.join("; ")}`,
      places,
    );
  }

  #step(from: number, to: number, kind: number, list: List | undefined): string {
    const [one, other] = [this.#name(from), this.#name(to)];
    if (kind === dependency.process) return `${one} came before ${other} in its process`;
    if (kind === dependency.realtime)
      return `${one} had returned at ${this.#transaction(from).returnedAt} before ${other} was invoked at ${this.#transaction(to).invokedAt}`;
    const { name, longest, writers } = list as List;
    if (kind === dependency.ww) {
      const at = writers.findIndex((writer, i) => writer === to && writers[i - 1] === from);
      if (at < 0)
        return `${one} appended ${json(longest.at(-1))} to ${name}, the last that was read, and ${other} ${json(this.#lastAppend(to, name))}, which nobody read`;
      return `${one} appended ${json(longest[at - 1])} to ${name} directly before ${other} appended ${json(longest[at])}`;
    }
    const reader = kind === dependency.wr ? to : from;
    const read = this.#firstRead(reader, name);
    if (kind === dependency.wr) return `${other} read ${name} as ${json(read)}, the last of which ${one} appended`;
    const next = writers.findIndex((writer, i) => writer === to && !read.includes(longest[i] as Value));
    return `${one} read ${name} as ${json(read)}, without ${json(next < 0 ? this.#lastAppend(to, name) : longest[next])}, which ${other} appended`;
  }

  #firstRead(place: number, key: string | number): readonly Value[] {
    const { call, result } = this.#transaction(place);
    return call.flatMap((micro, i) => (micro.kind === "read" && micro.key === key && result?.[i] ? [result[i]] : []))[0] ?? none;
  }

  #name(place: number): string {
    return `T${place} of process ${this.#transaction(place).process}`;
  }
}

const meaning: Readonly<Record<Anomaly, string>> = {
  G0: "writes cross each other",
  G1c: "information flows in a circle",
  "G-single": "a read misses a write that the same transaction depends on",
  "G-nonadjacent": "reads miss writes, no two of them in a row",
  "G2-item": "each reads what another one then changes",
};

function isPrefix(read: readonly Value[], of: readonly Value[]): boolean {
  if (read === of) return true;
  if (read.length > of.length) return false;
  for (let i = 0; i < read.length; i++) if (read[i] !== of[i]) return false;
  return true;
}

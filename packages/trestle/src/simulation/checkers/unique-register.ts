/**
 * A register whose values are each written once, decided in O(n log n): P. Gibbons and E. Korach, "Testing shared memories", SIAM J. Comput.
 * 26(4), 1997, the case in which each read names its write.
 *
 * A write and the reads of its value are a *cluster*; in a legal order they stand together. Let `f` be the first end in a cluster and `s` its last
 * start. A cluster must come before another one if some operation of it ended before some operation of the other began: f < s'. Two clusters that
 * must each come before the other cannot be ordered, and if no two of them do, all can be. Clusters with f < s (zones that go forward) do so when
 * they overlap; one with s <= f (backward) does so with a forward one that contains it; two backward ones never.
 */
import { endOf, identityOf, inWords, json, sortBy, type History, type Operation } from "./history.ts";
import type { Decision } from "./specification.ts";
import type { RegisterCall } from "./specifications.ts";

interface Cluster {
  readonly value: unknown;
  /** Its place, -1 for the initial value. */
  readonly write: number;
  first: number;
  firstEnd: number;
  last: number;
  lastStart: number;
}

export function decideUniqueRegister(operations: History<RegisterCall, unknown>, initial: unknown): Decision | undefined {
  const clusters = new Map<unknown, Cluster>();
  const at = (place: number) => operations[place] as Operation<RegisterCall, unknown>;
  // The initial value was written before everything else.
  clusters.set(identityOf(initial), { value: initial, write: -1, first: -1, firstEnd: -Infinity, last: -1, lastStart: -Infinity });
  for (let place = 0; place < operations.length; place++) {
    const { call, invokedAt } = at(place);
    if (call.kind === "cas") return undefined;
    if (call.kind !== "write") continue;
    const name = identityOf(call.value);
    if (clusters.has(name)) return undefined;
    clusters.set(name, { value: call.value, write: place, first: place, firstEnd: endOf(at(place)), last: place, lastStart: invokedAt });
  }

  for (let place = 0; place < operations.length; place++) {
    const read = at(place);
    if (read.call.kind !== "read" || read.outcome === "unknown") continue;
    const cluster = clusters.get(identityOf(read.result));
    if (cluster === undefined) return wrong([place], `nobody ever wrote what this read: ${inWords(read)}`);
    if (cluster.write >= 0 && endOf(read) < at(cluster.write).invokedAt)
      return wrong([place, cluster.write], `a value was read before it was written: ${inWords(read)}, and only then ${inWords(at(cluster.write))}`);
    if (endOf(read) < cluster.firstEnd) [cluster.first, cluster.firstEnd] = [place, endOf(read)];
    if (read.invokedAt > cluster.lastStart) [cluster.last, cluster.lastStart] = [place, read.invokedAt];
  }

  const forward = sortBy(
    [...clusters.values()].filter(({ firstEnd, lastStart }) => firstEnd < lastStart),
    ({ firstEnd }) => firstEnd,
  );
  for (let i = 1; i < forward.length; i++) {
    const [one, two] = [forward[i - 1] as Cluster, forward[i] as Cluster];
    if (two.firstEnd < one.lastStart) return torn(one, two);
  }
  for (const cluster of clusters.values()) {
    if (cluster.firstEnd < cluster.lastStart) continue;
    // Forward ones do not overlap any more: only the last that begins before this one can contain it.
    let [from, to] = [0, forward.length];
    while (from < to) {
      const middle = (from + to) >> 1;
      if ((forward[middle] as Cluster).firstEnd < cluster.lastStart) from = middle + 1;
      else to = middle;
    }
    const around = forward[from - 1];
    if (around && cluster.firstEnd < around.lastStart) return torn(around, cluster);
  }
  return { ok: true };

  function torn(one: Cluster, two: Cluster): Decision {
    const before = (earlier: Cluster, later: Cluster) =>
      `${earlier.first < 0 ? `${json(earlier.value)}, the initial value,` : `${json(earlier.value)} by ${inWords(at(earlier.first))}`} before ${json(later.value)} by ${inWords(at(later.last))}`;
    const places = [one.first, two.last, two.first, one.last].filter((place, index, all) => place >= 0 && all.indexOf(place) === index);
    return wrong(places, `two values would each have to come before the other: ${before(one, two)}; and ${before(two, one)}`);
  }
}

function wrong(operations: readonly number[], text: string): Decision {
  return { ok: false, operations, text };
}

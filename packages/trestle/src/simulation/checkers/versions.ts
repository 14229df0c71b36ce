/**
 * Checks of reads and writes whose answers carry a version: a number that rises with each write of a key, the same number for everybody who reads that
 * write, 0 for what was never written. A store that says which version it answered with can be held to far more, far cheaper, than one that does not.
 */
import { Findings, type Checked } from "./checked.ts";
import { byProcess, checkOperations, endOf, grouped, inWords, sortBy, type History, type Operation } from "./history.ts";

export type VersionedCall = { readonly kind: "read" } | { readonly kind: "write" };
export interface Versioned {
  readonly version: number;
}
export type VersionedHistory = History<VersionedCall, Versioned>;

export type SessionGuarantee = "read-your-writes" | "monotonic-reads" | "monotonic-writes" | "writes-follow-reads";

/**
 * What a process may expect of one key, whichever replicas serve it: D. Terry et al., "Session Guarantees for Weakly Consistent Replicated Data", 1994. Its
 * reads are not older than what it wrote (`read-your-writes`) or had read (`monotonic-reads`); its writes are ordered after those it had written
 * (`monotonic-writes`) or read (`writes-follow-reads`). What these mean across keys is causal consistency: `checkCausal`. Each problem has the name of the
 * guarantee. Default: all four. Faults `history.bad-operation`, `history.process-overlaps`.
 */
export function checkSessions(
  history: VersionedHistory,
  guarantees: readonly SessionGuarantee[] = ["read-your-writes", "monotonic-reads", "monotonic-writes", "writes-follow-reads"],
): Checked {
  checkOperations(history);
  const findings = new Findings(history.length);
  const answered = [...history.keys()].filter((place) => history[place]?.outcome === "ok");
  for (const own of byProcess(history, answered).values()) {
    for (const places of grouped(own, (place) => history[place]?.key).values()) {
      const latest = { read: -1, write: -1 };
      for (const place of places) {
        const { kind } = (history[place] as Operation<VersionedCall>).call;
        const judge = (guarantee: SessionGuarantee, earlier: number, mayBeSame: boolean) => {
          if (earlier < 0 || !guarantees.includes(guarantee)) return;
          const [had, has] = [versionAt(history, earlier), versionAt(history, place)];
          if (has > had || (mayBeSame && has === had)) return;
          findings.violation(
            guarantee,
            `${inWords(history[place] as Operation)} ${mayBeSame ? "is older than" : "is not after"} ${inWords(history[earlier] as Operation)}`,
            [place, earlier],
          );
        };
        judge(kind === "read" ? "read-your-writes" : "monotonic-writes", latest.write, kind === "read");
        judge(kind === "read" ? "monotonic-reads" : "writes-follow-reads", latest.read, kind === "read");
        if (latest[kind] < 0 || versionAt(history, place) > versionAt(history, latest[kind])) latest[kind] = place;
      }
    }
  }
  return findings.checked();
}

/**
 * No read is older than `maxMs`: when it was invoked, no later version had been acknowledged for longer. With `maxMs: 0` a read has everything that was acknowledged before
 * it began. Moments are milliseconds. Problem `stale`. Fault `history.bad-operation`.
 */
export function checkStaleness(history: VersionedHistory, { maxMs }: { readonly maxMs: number }): Checked {
  checkOperations(history);
  const findings = new Findings(history.length);
  const answered = [...history.keys()].filter((place) => history[place]?.outcome === "ok");
  for (const places of grouped(answered, (place) => history[place]?.key).values()) {
    const kindOf = (place: number) => (history[place] as Operation<VersionedCall>).call.kind;
    const writes = sortBy(
      places.filter((place) => kindOf(place) === "write"),
      (place) => versionAt(history, place),
    );
    // By place in `writes`: of it and all later versions, the one that was acknowledged first.
    const acknowledged = writes.slice();
    for (let i = writes.length - 2; i >= 0; i--) {
      const later = acknowledged[i + 1] as number;
      if (endOf(history[later] as Operation) < endOf(history[acknowledged[i] as number] as Operation)) acknowledged[i] = later;
    }
    for (const place of places) {
      if (kindOf(place) !== "read") continue;
      const version = versionAt(history, place);
      let [from, to] = [0, writes.length];
      while (from < to) {
        const middle = (from + to) >> 1;
        if (versionAt(history, writes[middle] as number) <= version) from = middle + 1;
        else to = middle;
      }
      const newer = acknowledged[from];
      if (newer === undefined) continue;
      const staleMs = (history[place] as Operation).invokedAt - endOf(history[newer] as Operation);
      if (staleMs > maxMs)
        findings.violation(
          "stale",
          `${inWords(history[place] as Operation)} is ${staleMs} ms behind, more than ${maxMs}: ${inWords(history[newer] as Operation)}`,
          [place, newer],
        );
    }
  }
  return findings.checked();
}

/**
 * What only grows (a counter, a position, a version) is never seen smaller than before: by nobody (`everyone`, in real time) or, with `process`, not by the one
 * who saw it larger. Of each key by itself; `valueOf` reads the number off an operation, `undefined` where it has none. Problem `went-back`.
 * Faults `history.bad-operation`, with `process` `history.process-overlaps`.
 */
export function checkMonotonic<Call, Result>(
  history: History<Call, Result>,
  { valueOf, scope = "everyone" }: { readonly valueOf: (operation: Operation<Call, Result>) => number | undefined; readonly scope?: "everyone" | "process" },
): Checked {
  checkOperations(history);
  const findings = new Findings(history.length);
  const value = (place: number) => valueOf(history[place] as Operation<Call, Result>) as number;
  const answered = [...history.keys()].filter((place) => history[place]?.outcome === "ok" && value(place) !== undefined);
  const sequences = scope === "process" ? byProcess(history, answered).values() : [answered];
  for (const sequence of sequences) {
    for (const places of grouped(sequence, (place) => history[place]?.key).values()) {
      // In real time what runs side by side has no order; on a process what ends as the next one begins is before it.
      const ended = (before: number, place: number) => scope === "process" || endOf(history[before] as Operation) < (history[place] as Operation).invokedAt;
      const starting = scope === "process" ? places : sortBy(places, (place) => (history[place] as Operation).invokedAt);
      const ending = scope === "process" ? places : sortBy(places.slice(), (place) => endOf(history[place] as Operation));
      let largest = -1;
      let next = 0;
      for (const place of starting) {
        for (; next < ending.length && ending[next] !== place && ended(ending[next] as number, place); next++) {
          const before = ending[next] as number;
          if (largest < 0 || value(before) > value(largest)) largest = before;
        }
        if (largest >= 0 && value(place) < value(largest))
          findings.violation("went-back", `${inWords(history[place] as Operation)} came after ${inWords(history[largest] as Operation)}`, [place, largest]);
      }
    }
  }
  return findings.checked();
}

function versionAt(history: VersionedHistory, place: number): number {
  return history[place]?.result?.version ?? 0;
}

/**
 * A following projection on one node: reads the log behind its durable position and commits rows and the new position together;
 * see LogFollower for which of several nodes goes ahead.
 */
import { decode, LogFollower, readEvent, type Component, type NodeServices, userKey } from "../component/index.ts";
import { Fault } from "../kernel/index.ts";
import { parseKey, type EventRow, type StoreKey, type Write } from "../store/index.ts";
import { concernedTypes, encodeRow, foldRow, type RowFolds } from "./row-folds.ts";

// Rows read in a batch are preconditions of it, so it stays well below limits.expectationsMax.
const batchEvents = 200;

export function projectionFollower(node: NodeServices, source: Component, folds: RowFolds): LogFollower {
  /** Events of the next step: fewer after rows too large for one commit. */
  let batch = batchEvents;
  return new LogFollower(node, {
    kind: "projection",
    name: folds.name,
    source,
    types: concernedTypes(folds),
    batch: () => batch,
    writes: (events, { epoch }) => rowsAfter(node, source, folds, events, epoch),
    failed(fault) {
      if (!Fault.is(fault, "commit.too-large") || batch === 1) return false;
      // Nothing of it was applied. Rows grow: later steps try the full batch again.
      batch = Math.ceil(batch / 4);
      return true;
    },
    taken: () => void (batch = Math.min(batchEvents, batch * 2)),
  });
}

async function rowsAfter(node: NodeServices, source: Component, folds: RowFolds, rows: readonly EventRow[], epoch: number): Promise<readonly Write[]> {
  const events = [];
  for (const row of rows) {
    const event = await readEvent(source, row, epoch);
    if (event) events.push({ event, key: userKey(folds.name, parseKey(row.stream).tenant, event.key) });
  }
  const keys = [...new Set(events.map(({ key }) => key))];
  const known = await node.store.read.records(keys);
  const states = new Map(keys.map((key, i) => [key, known[i] && (decode(known[i].value) as object)] as const));
  const changed = new Map<StoreKey, object | null>();
  for (const { event, key } of events) {
    const row = foldRow(folds, states.get(key), event);
    if (row === undefined) continue;
    states.set(key, row ?? undefined);
    changed.set(key, row);
  }
  return [...changed].map(([key, row]): Write => (row === null ? { kind: "remove", key } : { kind: "put", key, ...encodeRow(folds, row) }));
}

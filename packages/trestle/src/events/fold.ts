/**
 * Folding a stream: the nearest known state (this node's cache, a snapshot, `initial`), then the events behind it. The log is
 * immutable, so the state of a version never changes, and a fold may be kept for as long as memory allows.
 */
import { createHash } from "node:crypto";
import { decode, encode, readEvent, type Component, type EventSchemas, type Fold, type Invocation, type NodeServices } from "../component/index.ts";
import { limits, parseKey, storeKey, type StoreKey } from "../store/index.ts";

export interface Folding {
  readonly name: string;
  readonly events: EventSchemas;
  readonly initial: (id: string | number) => unknown;
  readonly evolve: Readonly<Record<string, (state: unknown, data: unknown) => unknown>>;
  readonly snapshotEvery: number;
}

export type Until = { readonly version: number } | { readonly atMs: number };

/** The state at a version, or as it was at a moment (of recording). `isTail`: the store has just said that this version is the last. */
export async function foldTo(
  node: NodeServices,
  component: Component,
  folding: Folding,
  stream: StoreKey,
  id: string | number,
  until: Until,
  isTail = false,
): Promise<Fold> {
  const version = "version" in until ? until.version : Number.POSITIVE_INFINITY;
  const atMs = "atMs" in until ? until.atMs : Number.POSITIVE_INFINITY;
  let fold = "version" in until ? await nearest(node, folding, stream, id, version) : { version: 0, state: folding.initial(id) };
  while (fold.version < version) {
    const rows = await node.store.read.stream(stream, { after: fold.version, limit: Math.min(limits.pageRowsMax, version - fold.version) });
    for (const row of rows) {
      if (row.atMs > atMs) return { version: fold.version, state: frozen(fold.state) };
      const event = await readEvent(component, row, node.store.epoch);
      // An event type that was removed from the declaration no longer means anything to the state.
      fold = { version: row.version, state: event ? evolved(folding, event.type, fold.state, event.data) : fold.state };
    }
    if (rows.length < limits.pageRowsMax) break;
  }
  frozen(fold.state);
  if ("version" in until) node.lane.keepFold(stream, fold, isTail);
  return fold;
}

export function evolved(folding: Folding, type: string, state: unknown, data: unknown): unknown {
  return Object.hasOwn(folding.evolve, type) ? folding.evolve[type]?.(state, data) : undefined;
}

/**
 * A state is shared by all who read it, and by the folds behind it: whoever changed it in place would change what others decide on.
 * Plain objects and arrays are frozen; what is frozen already is taken to be so to its leaves.
 */
export function frozen<T>(state: T): T {
  if (typeof state !== "object" || state === null || Object.isFrozen(state)) return state;
  const prototype = Object.getPrototypeOf(state) as unknown;
  if (!Array.isArray(state) && prototype !== Object.prototype && prototype !== null) return state;
  Object.freeze(state);
  for (const member of Object.values(state)) frozen(member);
  return state;
}

// ---- snapshots ------------------------------------------------------------------------------------------------------

interface Snapshot {
  readonly version: number;
  readonly state: unknown;
  /** Of the functions that made it: other code, other state. */
  readonly fingerprint: string;
}

async function nearest(node: NodeServices, folding: Folding, stream: StoreKey, id: string | number, version: number): Promise<Fold> {
  const cached = node.lane.durableFold(stream);
  if (cached && cached.version <= version) return cached;
  if (version >= folding.snapshotEvery) {
    const [row] = await node.store.read.records([snapshotKey(stream)]);
    const snapshot = row && (decode(row.value) as Snapshot);
    if (snapshot && snapshot.version <= version && snapshot.fingerprint === fingerprintOf(folding)) return snapshot;
  }
  return { version: 0, state: folding.initial(id) };
}

/**
 * The snapshot that goes with the commit which crosses a multiple of `snapshotEvery`. It only saves time, so it must not stand in
 * the way: there is none when the state is no JSON (a Map, a Date), too large, or its key too long.
 */
export function stageSnapshot(invocation: Invocation, folding: Folding, stream: StoreKey, before: number, after: Fold): void {
  if (Math.floor(before / folding.snapshotEvery) === Math.floor(after.version / folding.snapshotEvery)) return;
  const key = snapshotKey(stream);
  if (Buffer.byteLength(key) > limits.keyBytesMax) return;
  let value: Uint8Array;
  try {
    value = encode({ version: after.version, state: after.state, fingerprint: fingerprintOf(folding) }, "snapshot");
  } catch {
    return;
  }
  invocation.writeSpare(key, { kind: "put", key, value }, value.byteLength);
}

function snapshotKey(stream: StoreKey): StoreKey {
  const { component, tenant, key } = parseKey(stream);
  return storeKey("~snapshot", tenant, `${component}/${key}`);
}

const fingerprints = new WeakMap<Folding, string>();

function fingerprintOf(folding: Folding): string {
  let fingerprint = fingerprints.get(folding);
  if (fingerprint === undefined) {
    const hash = createHash("sha256").update(String(folding.initial));
    for (const type of Object.keys(folding.evolve).sort()) hash.update(`${type}:${String(folding.evolve[type])}`);
    fingerprint = hash.digest("hex").slice(0, 16);
    fingerprints.set(folding, fingerprint);
  }
  return fingerprint;
}

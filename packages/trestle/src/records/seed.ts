/** Seeds: each is put once in the life of the store. A marker record lists the keys that have been, so a removed one stays removed. */
import { decode, encode, type NodeServices } from "../component/index.ts";
import { limits, storeKey, type IndexEntry, type StoreKey } from "../store/index.ts";

export interface Seed {
  readonly key: StoreKey;
  readonly value: Uint8Array;
  readonly index?: readonly IndexEntry[];
}

// Below limits.expectationsMax and limits.commitBytesMax, with room for the marker.
const chunk = 200;
const chunkBytes = limits.commitBytesMax / 2;

export async function seedRecords(node: NodeServices, name: string, seeds: readonly Seed[]): Promise<void> {
  const marker = storeKey("~seeded", undefined, name);
  for (;;) {
    const [known] = await node.store.read.records([marker]);
    const done = new Set(known ? (decode(known.value) as string[]) : []);
    const missing = seeds.filter(({ key }) => !done.has(key)).slice(0, chunk);
    let sizeBytes = 0;
    const fits = missing.findIndex((seed, at) => (sizeBytes += seed.value.byteLength) > chunkBytes && at > 0);
    if (fits > 0) missing.length = fits;
    if (missing.length === 0) return;
    const present = await node.store.read.records(missing.map(({ key }) => key));
    const absent = missing.filter((_, i) => present[i] === undefined);
    // A conflict means that another node is seeding the same store: look again.
    await node.store.commit({
      id: node.ids.next(),
      expects: [{ kind: "record", key: marker, version: known?.version ?? 0 }, ...absent.map(({ key }) => ({ kind: "record" as const, key, version: 0 }))],
      writes: [
        ...absent.map((seed) => ({ kind: "put" as const, ...seed })),
        { kind: "put", key: marker, value: encode([...done, ...missing.map(({ key }) => key)], "seed marker") },
      ],
    });
  }
}

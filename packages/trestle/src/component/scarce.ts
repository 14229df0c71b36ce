/**
 * Collections that stay empty in most runs of a handler: all of them are one shared empty collection until the first entry. A run
 * would otherwise make about twenty, which is most of what it allocates.
 */
export const noEntries: ReadonlyMap<never, never> = new Map<never, never>();
export const noMembers: ReadonlySet<never> = new Set<never>();

/** The collection with this entry: `this.#reads = withEntry(this.#reads, key, read)`. What is not shared is changed in place. */
export function withEntry<K, V>(map: ReadonlyMap<K, V>, key: K, value: V): ReadonlyMap<K, V> {
  if (map === noEntries) return new Map<K, V>().set(key, value); // without the iterator that its constructor would make
  (map as Map<K, V>).set(key, value);
  return map;
}

export function withMember<T>(set: ReadonlySet<T>, member: T): ReadonlySet<T> {
  if (set === noMembers) return new Set<T>().add(member);
  (set as Set<T>).add(member);
  return set;
}

export function withoutMember<T>(set: ReadonlySet<T>, member: T): void {
  if (set !== noMembers) (set as Set<T>).delete(member);
}

/**
 * records: versioned values by key, with compare-and-set and expiry. What is read in a handler is a precondition of its
 * commit. Guarantees: `records.compare-and-set`, `records.expire`.
 */
import {
  decode,
  declareComponent,
  encode,
  indexEntries,
  listPage,
  changesOf,
  parseNow,
  parseOrFault,
  withResumeId,
  type Annotations,
  type Component,
  type In,
  type Invocation,
  type NodeServices,
  type Out,
  type Page,
  type PageQuery,
  type ReadOptions,
  type Schema,
  type Usable,
  userKey,
} from "../component/index.ts";
import { durationMs, type Duration } from "../kernel/index.ts";
import { keyPrefix, type Merge, type StoreKey } from "../store/index.ts";
import { seedRecords } from "./seed.ts";

/** Values by key. Declared fields of `index` can be filtered by in `list`. */
export function records<K extends Schema<any, string | number>, V extends Schema, const I extends keyof Out<V> & string = never>(
  name: string,
  spec: RecordsSpec<K, V, I>,
): Records<Out<K>, Out<V>, In<V>, I> {
  const { key, value, index, expire, seed, ...annotations } = spec;
  const settings: Settings = { name, value, index, expireMs: expire === undefined ? undefined : durationMs(expire, `records "${name}": expire`) };
  return declareComponent<Records<Out<K>, Out<V>, In<V>, I>>("records", name, {
    annotations,
    uses: {},
    edge: "write",
    role: "any",
    bind: (invocation) => new BoundRecords(settings, invocation),
    ...(seed
      ? {
          prepare: (node: NodeServices) =>
            seedRecords(
              node,
              name,
              seed.map(([seedKey, seedValue]) => ({
                key: userKey(name, undefined, parseNow(key, seedKey, `seed key of records "${name}"`)),
                ...encoded(settings, seedValue),
              })),
            ),
        }
      : {}),
  });
}

export interface RecordsSpec<K extends Schema, V extends Schema, I extends string> extends Annotations {
  readonly key: K;
  readonly value: V;
  readonly index?: readonly I[];
  /** How long a value lives after it was put, by the store's clock; default: for ever. */
  readonly expire?: Duration;
  /** Values that exist before anyone writes: each is put once in the life of the store, unless its key is taken. */
  readonly seed?: readonly (readonly [key: In<K>, value: In<V>])[];
}

export interface Records<Key, Value, Written = Value, Indexed extends string = never>
  extends Component<"records">, Usable<RecordsView<Key, Value, Indexed>, RecordsHandle<Key, Value, Written, Indexed>> {}

export interface RecordsView<Key, Value, Indexed extends string> {
  get(key: Key, options?: ReadOptions): Promise<Value | undefined>;
  getMany(keys: Iterable<Key>, options?: ReadOptions): Promise<ReadonlyMap<Key, Value>>;
  /** In order of key. A snapshot: not a precondition, unless `expectUnchanged` follows. */
  list(
    query: PageQuery & { readonly where?: { readonly [K in Indexed]?: K extends keyof Value ? Value[K] : never } },
    options?: ReadOptions,
  ): Promise<Page<Value>>;
  /** The value now and after each change; `undefined` while there is none. */
  watch(key: Key): AsyncIterable<Value | undefined>;
}
export type RecordsHandle<Key, Value, Written, Indexed extends string> = RecordsView<Key, Value, Indexed> & {
  put(key: Key, value: Written, options?: { readonly expire?: Duration }): void;
  remove(key: Key): void;
  /** Puts it unless the key ever had a value; judged at commit, without a read. */
  setOnce(key: Key, value: Written): void;
  /** Nothing here has been written since this handler began to read: opts what `list` showed in as a precondition. */
  expectUnchanged(): Promise<void>;
} & ([Value] extends [number] ? NumberMerges<Key> : {}) &
  ([Value] extends [readonly string[]] ? SetMerges<Key> : {});

/** Judged at commit on the newest value: no read, no conflict, however hot the key. A missing value counts as 0. */
export interface NumberMerges<Key> {
  /** Refuses the whole commit with `commit.guard-refused` when the sum would leave [min, max]. */
  add(key: Key, amount: number, guard?: { readonly min?: number; readonly max?: number }): void;
  atLeast(key: Key, value: number): void;
  atMost(key: Key, value: number): void;
}
export interface SetMerges<Key> {
  union(key: Key, members: readonly string[]): void;
}

interface Settings {
  readonly name: string;
  readonly value: Schema;
  readonly index: readonly string[] | undefined;
  readonly expireMs: number | undefined;
}

class BoundRecords {
  readonly #settings: Settings;
  readonly #invocation: Invocation;

  constructor(settings: Settings, invocation: Invocation) {
    this.#settings = settings;
    this.#invocation = invocation;
  }

  async get(key: string | number, options?: ReadOptions): Promise<unknown> {
    const bytes = await this.#invocation.record(this.#key(key), options);
    return bytes && this.#read(bytes, key);
  }

  async getMany(keys: Iterable<string | number>, options?: ReadOptions): Promise<ReadonlyMap<string | number, unknown>> {
    const found = new Map<string | number, unknown>();
    for (const [key, value] of await Promise.all([...keys].map(async (one) => [one, await this.get(one, options)] as const)))
      if (value !== undefined) found.set(key, value);
    return found;
  }

  list(query: PageQuery & { readonly where?: Readonly<Record<string, unknown>> }): Promise<Page<unknown>> {
    const { name } = this.#settings;
    return listPage(
      { component: name, tenant: this.#invocation.tenant, order: "key", where: query.where ?? {}, limit: query.limit, cursor: query.cursor },
      (asked) => this.#invocation.list(asked),
      (row) => this.#read(row.value, row.key),
    );
  }

  async *watch(key: string | number): AsyncIterable<unknown> {
    this.#invocation.assertOpen();
    const { node, frame } = this.#invocation;
    const storedKey = this.#key(key);
    let seen = frame.resumeAfter;
    for await (const _ of changesOf(node.store, (changed) => changed === storedKey, frame.signal)) {
      const [row] = await node.store.read.records([storedKey]);
      const id = String(row?.version ?? 0);
      if (id === seen) continue;
      seen = id;
      yield row && withResumeId(await this.#read(row.value, key), id);
    }
  }

  put(key: string | number, value: unknown, options: { readonly expire?: Duration } = {}): void {
    const { name, expireMs } = this.#settings;
    const forMs = options.expire === undefined ? expireMs : durationMs(options.expire, `put into records "${name}": expire`);
    const { value: bytes, index } = encoded(this.#settings, value, this.#invocation);
    this.#invocation.put(this.#key(key), bytes, {
      ...(forMs === undefined ? {} : { expiresAtMs: Math.ceil(this.#invocation.node.storeClock.latestMs()) + forMs }),
      ...(index ? { index } : {}),
    });
  }

  remove(key: string | number): void {
    this.#invocation.remove(this.#key(key));
  }

  setOnce(key: string | number, value: unknown): void {
    this.#merge(key, { kind: "set-once", value: encoded(this.#settings, value).value });
  }

  add(key: string | number, amount: number, guard: { readonly min?: number; readonly max?: number } = {}): void {
    this.#merge(key, { kind: "add", amount, ...guard });
  }

  atLeast(key: string | number, value: number): void {
    this.#merge(key, { kind: "max", value });
  }

  atMost(key: string | number, value: number): void {
    this.#merge(key, { kind: "min", value });
  }

  union(key: string | number, members: readonly string[]): void {
    this.#merge(key, { kind: "union", members });
  }

  async expectUnchanged(): Promise<void> {
    await this.#invocation.expectUnchanged(keyPrefix(this.#settings.name, this.#invocation.tenant));
  }

  #merge(key: string | number, merge: Merge): void {
    this.#invocation.merge(this.#key(key), merge);
  }

  #key(key: string | number): StoreKey {
    return userKey(this.#settings.name, this.#invocation.tenant, key);
  }

  #read(bytes: Uint8Array, key: string | number): Promise<unknown> {
    return parseOrFault(this.#settings.value, decode(bytes), `record ${String(key)} of "${this.#settings.name}"`);
  }
}

function encoded(
  settings: Settings,
  value: unknown,
  invocation?: Invocation,
): { readonly value: Uint8Array; readonly index?: readonly { readonly field: string; readonly value: string | number }[] } {
  const what = `value of records "${settings.name}"`;
  // What is stored is what was written; it is found by what readers get, defaults included.
  const index = indexEntries(settings.index, invocation?.accepted(settings.value, value) ?? parseNow(settings.value, value, what));
  return { value: encode(value, what), ...(index ? { index } : {}) };
}

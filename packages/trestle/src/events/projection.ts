/**
 * projection: rows computed from events, kept by the runtime. `in-commit`: the row changes in the commit that records the
 * event, so whoever wrote it reads it. `following`: after it, at its own pace; position and rows are one commit either way.
 */
import {
  changesOf,
  decode,
  declareComponent,
  listPage,
  pendingEvent,
  withResumeId,
  type Annotations,
  type Component,
  type Event,
  type Invocation,
  type NodeServices,
  type Out,
  type Page,
  type PageQuery,
  type ReadOptions,
  type Schema,
  type Source,
  type StagedEvent,
  type Usable,
  type When,
  userKey,
} from "../component/index.ts";
import { projectionFollower } from "./projection-follower.ts";
import { concernedTypes, concernsRow, encodeRow, foldRow, type RowFolds } from "./row-folds.ts";

export function projection<S extends Source<any, any>, Row extends Schema<any, object>, const I extends keyof Out<Row> & string = never>(
  name: string,
  spec: ProjectionSpec<S, Row, I>,
  folds: Folds<S, Out<Row>>,
): Projection<KeyOf<S>, Out<Row>, I> {
  const { from, row: _row, when = "following", index, ...annotations } = spec;
  const source = from as unknown as Component;
  const rows: RowFolds = { name, index, ...(folds as unknown as Omit<RowFolds, "name" | "index">) };
  return declareComponent<Projection<KeyOf<S>, Out<Row>, I>>("projection", name, {
    annotations,
    uses: {},
    edge: "read",
    follows: [source],
    role: when === "following" ? "worker" : "any",
    bind: (invocation) => new BoundProjection(rows, invocation),
    ...(when === "in-commit"
      ? { inCommit: { source, react: (event: StagedEvent, invocation: Invocation) => projectInCommit(rows, event, invocation) } }
      : { takes: concernedTypes(rows), part: (node: NodeServices) => projectionFollower(node, source, rows) }),
  });
}

export interface ProjectionSpec<S, Row extends Schema, I extends string> extends Annotations {
  readonly from: S;
  /** What a row is; its output is stored, so it must be JSON. */
  readonly row: Row;
  /** Default `following`. */
  readonly when?: When;
  /** Fields that `list` can filter by. */
  readonly index?: readonly I[];
}
/** `creates` makes a row from its first event, `updates` changes one, `removes` ends it. Events not named are ignored. */
export type Folds<S, Row> =
  S extends Source<infer Events, infer Key>
    ? {
        readonly creates: { readonly [K in keyof Events & string]?: (data: Events[K], event: Event<K, Events[K], Key>) => Row };
        readonly updates?: { readonly [K in keyof Events & string]?: (row: Row, data: Events[K], event: Event<K, Events[K], Key>) => Row };
        readonly removes?: readonly (keyof Events & string)[];
      }
    : never;
type KeyOf<S> = S extends Source<any, infer Key> ? Key : never;

export interface Projection<Key, Row, Indexed extends string = never> extends Component<"projection">, Usable<ProjectionView<Key, Row, Indexed>> {}
export interface ProjectionView<Key, Row, Indexed extends string> {
  get(key: Key, options?: ReadOptions): Promise<Row | undefined>;
  /** Newest first. */
  list(query: PageQuery & { readonly where?: { readonly [K in Indexed]?: K extends keyof Row ? Row[K] : never } }, options?: ReadOptions): Promise<Page<Row>>;
  /** The row now and after each change; resumable. */
  watch(key: Key): AsyncIterable<Row>;
}

async function projectInCommit(folds: RowFolds, staged: StagedEvent, invocation: Invocation): Promise<void> {
  if (!concernsRow(folds, staged.type)) return;
  const key = userKey(folds.name, invocation.tenant, staged.key);
  await invocation.record(key);
  const bytes = invocation.peek(key); // what stands now: nothing waits from here to the put
  const row = foldRow(folds, bytes && (decode(bytes) as object), pendingEvent(staged, invocation));
  if (row === null) invocation.remove(key);
  else if (row !== undefined) {
    const { value, index } = encodeRow(folds, row);
    invocation.put(key, value, index ? { index } : {});
  }
}

class BoundProjection {
  readonly #folds: RowFolds;
  readonly #invocation: Invocation;

  constructor(folds: RowFolds, invocation: Invocation) {
    this.#folds = folds;
    this.#invocation = invocation;
  }

  async get(key: string | number, options?: ReadOptions): Promise<unknown> {
    const bytes = await this.#invocation.record(this.#key(key), options);
    return bytes && decode(bytes);
  }

  list(query: PageQuery & { readonly where?: Readonly<Record<string, unknown>> }): Promise<Page<unknown>> {
    return listPage(
      { component: this.#folds.name, tenant: this.#invocation.tenant, order: "newest", where: query.where ?? {}, limit: query.limit, cursor: query.cursor },
      (asked) => this.#invocation.list(asked),
      (row) => decode(row.value),
    );
  }

  async *watch(key: string | number): AsyncIterable<unknown> {
    this.#invocation.assertOpen();
    const { node, frame } = this.#invocation;
    const storedKey = this.#key(key);
    let seen = frame.resumeAfter;
    for await (const _ of changesOf(node.store, (changed) => changed === storedKey, frame.signal)) {
      const [row] = await node.store.read.records([storedKey]);
      if (!row || String(row.version) === seen) continue;
      seen = String(row.version);
      yield withResumeId(decode(row.value), seen);
    }
  }

  #key(key: string | number): string {
    return userKey(this.#folds.name, this.#invocation.tenant, key);
  }
}

/**
 * The port as a program of maps and arrays: slow, obvious, and without a database. What it answers is what an engine must answer.
 * It judges commits one after the other; time is given with each.
 */
import { mintedAtMs } from "../kernel/index.ts";
import { commitIdRetentionMs, type Commit, type CommitOutcome, type Expectation, type Merge, type Version, type Write } from "../store/index.ts";
import { bytes, text } from "./case.ts";

interface ModelRecord {
  readonly value: Uint8Array;
  readonly version: number;
  readonly created: number;
  readonly expiresAtMs: number | undefined;
}
interface State {
  records: Map<string, ModelRecord>;
  tokens: Map<string, { value: Uint8Array; version: number }>;
  /** Of each event its id and the number of its commit. */
  streams: Map<string, { id: string; n: number }[]>;
}

export class CommitModel {
  #state: State = { records: new Map(), tokens: new Map(), streams: new Map() };
  readonly #outcomes = new Map<string, CommitOutcome>();
  readonly #changed: { readonly n: number; readonly keys: readonly string[] }[] = [];
  n = 0;
  position = 0;
  nowMs = 0;
  #takenUs: number | undefined;

  commit(commit: Commit): CommitOutcome {
    if ((mintedAtMs(commit.id) ?? 0) < this.nowMs - commitIdRetentionMs) return { ok: false, refused: "resolved" };
    const known = this.#outcomes.get(commit.id);
    if (known) return known;
    const conflicts = commit.expects.filter((expectation) => !this.#holds(expectation)).map(nameOf);
    if (conflicts.length) return { ok: false, refused: "conflict", keys: conflicts };
    if (commit.writes.length === 0) return { ok: true, epoch: 1, n: this.n };

    const before = this.#state;
    const positionBefore = this.position;
    this.#state = {
      records: new Map(before.records),
      tokens: new Map(before.tokens),
      streams: new Map([...before.streams].map(([name, events]) => [name, [...events]])),
    };
    this.n++;
    this.#takenUs = undefined;
    for (const write of commit.writes) {
      const refusal = this.#apply(write);
      if (!refusal) continue;
      this.#state = before;
      this.position = positionBefore;
      this.n--;
      return refusal;
    }
    this.#changed.push({
      n: this.n,
      keys: commit.writes.flatMap((write) => (write.kind === "put" || write.kind === "remove" || write.kind === "merge" ? [write.key] : [])),
    });
    const outcome: CommitOutcome = { ok: true, epoch: 1, n: this.n };
    this.#outcomes.set(commit.id, outcome);
    return this.#takenUs === undefined ? outcome : { ...outcome, takenUs: this.#takenUs };
  }

  resolve(id: string): CommitOutcome {
    const known = this.#outcomes.get(id);
    if (known) return known;
    const refused: CommitOutcome = { ok: false, refused: "resolved" };
    this.#outcomes.set(id, refused);
    return refused;
  }

  knows = (id: string): boolean => this.#outcomes.has(id);
  record(key: string): ModelRecord | undefined {
    const record = this.#state.records.get(key);
    return record && (record.expiresAtMs === undefined || record.expiresAtMs > this.nowMs) ? record : undefined;
  }
  token = (key: string) => this.#state.tokens.get(key);
  events = (stream: string): readonly string[] => (this.#state.streams.get(stream) ?? []).map(({ id }) => id);
  keys = (): string[] => [...this.#state.records.keys()].filter((key) => this.record(key)).sort();

  #numberOf(version: Version): number {
    if (typeof version === "number") return version;
    const outcome = this.#outcomes.get(version);
    return outcome?.ok ? outcome.n : -1;
  }

  #holds(expectation: Expectation): boolean {
    switch (expectation.kind) {
      case "record":
        return (this.record(expectation.key)?.version ?? 0) === this.#numberOf(expectation.version);
      case "token":
        return (this.token(expectation.key)?.version ?? 0) === this.#numberOf(expectation.version);
      case "stream":
        return (
          this.events(expectation.stream).length === expectation.version &&
          (expectation.after === undefined || this.#state.streams.get(expectation.stream)?.at(-1)?.n === this.#numberOf(expectation.after))
        );
      case "unchanged":
        return !this.#changed.some(({ n, keys }) => n > expectation.since && keys.some((key) => key.startsWith(expectation.prefix)));
      default:
        throw new Error(`the model does not know ${expectation.kind}`);
    }
  }

  #apply(write: Write): CommitOutcome | undefined {
    const { records, tokens, streams } = this.#state;
    switch (write.kind) {
      case "put":
        records.set(write.key, { value: write.value, version: this.n, created: this.record(write.key)?.created ?? this.n, expiresAtMs: write.expiresAtMs });
        return undefined;
      case "remove":
        records.delete(write.key);
        return undefined;
      case "token":
        tokens.set(write.key, { value: write.value, version: this.n });
        return undefined;
      case "append":
        this.position += write.events.length;
        streams.set(write.stream, [...(streams.get(write.stream) ?? []), ...write.events.map(({ id }) => ({ id, n: this.n }))]);
        return undefined;
      case "merge":
        return this.#merge(write.key, write.merge);
      default:
        throw new Error(`the model does not know ${write.kind}`);
    }
  }

  #merge(key: string, merge: Merge): CommitOutcome | undefined {
    const before = this.record(key);
    const put = (value: Uint8Array): undefined => {
      if (before && text(before.value) === text(value) && merge.kind !== "add") return;
      this.#state.records.set(key, { value, version: this.n, created: before?.created ?? this.n, expiresAtMs: before?.expiresAtMs });
    };
    if (merge.kind === "set-once") return before ? undefined : put(merge.value);
    let value: unknown = merge.kind === "union" ? [] : 0;
    try {
      if (before) value = JSON.parse(text(before.value) ?? "");
    } catch {
      value = undefined;
    }
    const unfit: CommitOutcome = { ok: false, refused: "statement", message: "" };
    if (merge.kind === "union") {
      if (!Array.isArray(value) || value.some((member) => typeof member !== "string")) return unfit;
      return put(bytes(JSON.stringify([...new Set([...(value as string[]), ...merge.members])].sort())));
    }
    if (typeof value !== "number") return unfit;
    if (merge.kind === "take") {
      const nowUs = this.nowMs * 1_000;
      const takenUs = Math.min(Math.max(value - nowUs, 0), merge.burstUs) + merge.amountUs;
      if (takenUs > merge.burstUs) return { ok: false, refused: "guard", key, value: takenUs - merge.burstUs };
      this.#takenUs = Math.max(takenUs, 0);
      const fullUs = nowUs + this.#takenUs;
      this.#state.records.set(key, {
        value: bytes(JSON.stringify(fullUs)),
        version: this.n,
        created: before?.created ?? this.n,
        expiresAtMs: Math.ceil(fullUs / 1_000),
      });
      return undefined;
    }
    if (merge.kind === "max") return put(bytes(JSON.stringify(Math.max(value, merge.value))));
    if (merge.kind === "min") return put(bytes(JSON.stringify(Math.min(value, merge.value))));
    const sum = value + merge.amount;
    if (sum < (merge.min ?? -Infinity) || sum > (merge.max ?? Infinity)) return { ok: false, refused: "guard", key, value };
    return put(bytes(JSON.stringify(sum)));
  }
}

function nameOf(expectation: Expectation): string {
  switch (expectation.kind) {
    case "record":
    case "token":
      return expectation.key;
    case "stream":
      return expectation.stream;
    case "unchanged":
      return expectation.prefix;
    default:
      return expectation.kind;
  }
}

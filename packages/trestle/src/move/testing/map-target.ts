/** A target in memory: what a move must have made of it is compared with the source by the move itself, and by tests. */
import type { Moved, MovePart, MoveProgress, MoveRow, MoveTarget } from "../../store/index.ts";

export interface MapTarget extends MoveTarget {
  readonly parts: ReadonlyMap<MovePart, Map<string | number, MoveRow>>;
  /** What was done for the user's own tables. */
  readonly migrated: readonly string[];
  readonly executed: readonly string[];
  readonly opened: { readonly epoch: number; readonly n: number; readonly position: number } | undefined;
}

/** `onLoad` runs before each load, and may throw, as a server that is killed does: then nothing of that load has happened. */
export function mapTarget(options: { readonly clockMs: () => number; readonly onLoad?: (rows: readonly Moved[]) => void | Promise<void> }): MapTarget {
  const parts = new Map<MovePart, Map<string | number, MoveRow>>();
  let progress: MoveProgress | undefined;
  let opened: MapTarget["opened"];
  const of = (part: MovePart) => {
    const known = parts.get(part) ?? new Map<string | number, MoveRow>();
    parts.set(part, known);
    return known;
  };
  const compare = (a: string | number, b: string | number) =>
    typeof a === "number" ? a - (b as number) : Buffer.compare(Buffer.from(a), Buffer.from(b as string));
  const [migrated, executed]: [string[], string[]] = [[], []];
  return {
    parts,
    migrated,
    executed,
    get opened() {
      return opened;
    },
    nowMs: () => Promise.resolve(options.clockMs()),
    progress: () => Promise.resolve(progress),
    take: () => Promise.resolve(progress),
    whileMine: (work) => work(),
    begin: async (first) => void (progress = first),
    async load(rows, next) {
      await options.onLoad?.(rows);
      for (const row of rows) {
        if ("trimmedTo" in row) {
          for (const [id, event] of of("event"))
            if (event.part === "event" && event.stream === row.stream && event.version <= row.trimmedTo) of("event").delete(id);
        } else if ("gone" in row) of(row.part).delete(row.id);
        else of(row.part).set(row.id, row);
      }
      progress = next;
    },
    async page(part, after, limit) {
      const rows = [...of(part).values()]
        .filter(({ id }) => after === undefined || compare(id, after) > 0)
        .sort((a, b) => compare(a.id, b.id))
        .slice(0, limit);
      return { rows, next: rows.length < limit ? undefined : rows.at(-1)?.id };
    },
    async count(part, nowMs) {
      const over = (row: MoveRow) =>
        (row.part === "record" && row.expiresAtMs !== undefined && row.expiresAtMs <= nowMs) || (row.part === "token" && row.keepUntilMs <= nowMs);
      return [...of(part).values()].filter((row) => !over(row)).length;
    },
    look: async (part, ids) => ids.map((id): Moved => of(part).get(id) ?? { part, id, gone: true }),
    async open(cut, last, tables) {
      await tables({ dialect: "postgres", migrate: async (component) => void migrated.push(component), execute: async ({ text }) => void executed.push(text) });
      opened = cut;
      progress = last;
    },
    async abandon() {
      parts.clear();
      progress = undefined;
    },
    close: async () => undefined,
  };
}

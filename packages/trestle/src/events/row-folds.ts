/** Folding one event into its row: what a projection's functions mean, for both ways of running it. */
import { encode, indexEntries, type AnyEvent } from "../component/index.ts";

type AnyFold = AnyEvent<Record<string, unknown>, string | number>;
export interface RowFolds {
  readonly name: string;
  readonly index: readonly string[] | undefined;
  readonly creates: Readonly<Record<string, (data: unknown, event: AnyFold) => object>>;
  readonly updates?: Readonly<Record<string, (row: object, data: unknown, event: AnyFold) => object>>;
  readonly removes?: readonly string[];
}

/** The row after this event; `null` when the event ends it, `undefined` when nothing changes. */
export function foldRow(folds: RowFolds, row: object | undefined, event: AnyFold): object | null | undefined {
  if (folds.removes?.includes(event.type)) return row === undefined ? undefined : null;
  if (row === undefined) return own(folds.creates, event.type)?.(event.data, event);
  return own(folds.updates, event.type)?.(row, event.data, event) ?? undefined;
}

export function concernsRow(folds: RowFolds, type: string): boolean {
  return own(folds.creates, type) !== undefined || own(folds.updates, type) !== undefined || (folds.removes?.includes(type) ?? false);
}

/** Every event type that can change a row. */
export function concernedTypes({ creates, updates = {}, removes = [] }: RowFolds): readonly string[] {
  return [...new Set([...Object.keys(creates), ...Object.keys(updates), ...removes])];
}

/** An event may be called `constructor`: only what was declared counts. */
function own<F>(folds: Readonly<Record<string, F>> | undefined, type: string): F | undefined {
  return folds && Object.hasOwn(folds, type) ? folds[type] : undefined;
}

export function encodeRow(
  folds: RowFolds,
  row: object,
): { readonly value: Uint8Array; readonly index?: readonly { readonly field: string; readonly value: string | number }[] } {
  const index = indexEntries(folds.index, row);
  return { value: encode(row, `row of projection "${folds.name}"`), ...(index ? { index } : {}) };
}

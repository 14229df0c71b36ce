/** The events of one stream, from either end, in pages. */
import { Fault, integerWithin } from "../kernel/index.ts";
import type { StoreKey } from "../store/index.ts";
import type { Component } from "./component.ts";
import type { Invocation } from "./invocation.ts";
import { readEvent, type AnyEvent } from "./source.ts";

export interface HistoryOptions {
  /** Only later versions; default 0. */
  readonly after?: number;
  /** Only earlier versions. */
  readonly before?: number;
  /** Default `oldest` first. */
  readonly order?: "oldest" | "newest";
}

const pageRows = 256;

/** A durable handler that is run again gets the same pages, though events have come since. What retention has removed is not among them. */
export function historyOf(
  invocation: Invocation,
  component: Component,
  stream: StoreKey,
  options: HistoryOptions = {},
): AsyncIterable<AnyEvent<Record<string, unknown>, string | number>> {
  const of = `history of ${component.kind} "${component.name}"`;
  const { after = 0, before = Number.MAX_SAFE_INTEGER, order = "oldest" } = options;
  for (const [option, bound] of Object.entries({ after, before })) integerWithin(bound, `${of}: ${option}`, { least: 0, most: Number.MAX_SAFE_INTEGER });
  if (order !== "oldest" && order !== "newest")
    throw Fault.create("history.bad-option", `${of}: order must be "oldest" or "newest", got ${JSON.stringify(order)}`, "Choose one of them.");
  return pages(invocation, component, stream, { after, before, order });
}

async function* pages(
  invocation: Invocation,
  component: Component,
  stream: StoreKey,
  { after, before, order }: Required<HistoryOptions>,
): AsyncGenerator<AnyEvent<Record<string, unknown>, string | number>> {
  const { store } = invocation.node;
  for (let [low, high] = [after, before]; ;) {
    const query = { after: low, before: high, order, limit: pageRows } as const;
    const asked = order === "newest" ? `before ${high}, after ${low}` : before === Number.MAX_SAFE_INTEGER ? `after ${low}` : `after ${low}, before ${high}`;
    const rows = await invocation.recall(`history of ${stream} ${asked}`, () => store.read.stream(stream, query));
    for (const row of rows) {
      if (order === "newest") high = row.version;
      else low = row.version;
      const event = await readEvent(component, row, store.epoch);
      if (event) yield event;
    }
    if (rows.length < pageRows) return;
  }
}

/**
 * Whatever has events to follow: an aggregate, a topic. This file says what an event is to its reader, how it lies in the
 * log, and what a follower may ask of a source.
 */
import { currentContext, Fault, integerWithin, isoTime, type Instant } from "../kernel/index.ts";
import { parseKey, type EventRow, type NewEvent } from "../store/index.ts";
import { bytesOf, decode, encode } from "./codec.ts";
import type { Component } from "./component.ts";
import { definitionOf, type StagedEvent } from "./definition.ts";
import type { Invocation } from "./invocation.ts";
import { parseNow, parseOrFault, type Schema } from "./schema.ts";

export type EventSchemas = { readonly [type: string]: Schema };
/** By type; 1 where it says nothing. */
export type EventVersions = { readonly [type: string]: number | undefined };
/** How a source's events are written. */
export type Written = Pick<SourceInterior["source"], "versions" | "compressAbove">;

/** Exists for types only: the events as read, and the type of their key. */
export interface Source<Read, Key = string> {
  readonly "~events": Read;
  readonly "~key": Key;
}

/** One recorded fact. */
export interface Event<Type extends string, Data, Key = string> {
  readonly type: Type;
  readonly data: Data;
  /** UUIDv7: the same for every reader. */
  readonly id: string;
  /** The stream it belongs to: the aggregate's id, or the topic's key. */
  readonly key: Key;
  /** When it was committed. In the commit itself: when the handler's segment began. */
  readonly at: Instant;
  /** `epoch-position` in the log; `"pending"` inside the commit that records it. */
  readonly position: string;
  /** Of its stream, from 1; 0 inside a commit that does not know it yet (topics). */
  readonly version: number;
  readonly tenant: string | undefined;
  /** The invocation that recorded it. */
  readonly causedBy: string | undefined;
  readonly meta: EventMeta;
}
/** What an event's envelope says of where it comes from. Set by the runtime; `cloudEvent` gives all of it the names of CloudEvents. */
export interface EventMeta {
  /** `/<app>/<component>`. */
  readonly source: string;
  /** Of the declaration it was recorded under; 1 unless `versions` says otherwise. */
  readonly schemaVersion: number;
  /** Of what set all off. */
  readonly correlationId: string;
  /** The event, message or request it directly follows from. */
  readonly causationId: string;
  /** W3C trace context of the span in which it was recorded. */
  readonly traceparent: string | undefined;
}
export type AnyEvent<Events, Key = string> = { [K in keyof Events & string]: Event<K, Events[K], Key> }[keyof Events & string];

/** `following`: after the commit, once, in order per key. `in-commit`: as part of the commit that records the event. */
export type When = "following" | "in-commit";

/** What a kind with events keeps in its definition's `interior`. */
export interface SourceInterior {
  readonly source: {
    readonly events: EventSchemas;
    readonly versions: EventVersions;
    readonly compressAbove: number | undefined;
    /** The user's key of a stream, as its schema reads it. */
    key(text: string): string | number;
  };
}

/** As it lies in the log, beside type, id, stream, time and data of the row. What is as expected is left out. */
interface Meta {
  /** The invocation that recorded it. */
  readonly by?: string;
  readonly trace?: string;
  readonly app?: string;
  /** Default 1. */
  readonly v?: number;
  /** Default: `by`. */
  readonly correlation?: string;
  /** Default: `by`. */
  readonly cause?: string;
}

function metaOf(invocation: Invocation, version: number | undefined): Meta {
  const { id, correlation, cause } = invocation.frame;
  const trace = currentContext().traceparent;
  return {
    by: id,
    app: invocation.node.app,
    ...(version === undefined || version === 1 ? {} : { v: version }),
    ...(correlation === undefined || correlation === id ? {} : { correlation }),
    ...(cause === undefined || cause === id ? {} : { cause }),
    ...(trace === undefined ? {} : { trace }),
  };
}

/** Checked where it is declared. `of`: `topic "paid"`. */
export function eventVersions(versions: EventVersions | undefined, of: string): EventVersions {
  for (const [type, version] of Object.entries(versions ?? {}))
    if (version !== undefined) integerWithin(version, `${of}: versions.${type}`, { least: 1, most: 1_000_000 });
  return { ...versions };
}

function eventMeta(source: Component, { by = "", trace, app = "", v = 1, correlation = by, cause = by }: Meta): EventMeta {
  return { source: `/${app}/${source.name}`, schemaVersion: v, correlationId: correlation, causationId: cause, traceparent: trace };
}

/** Makes an event of `source` ready for `invocation.append`: checked by its schema, encoded, with an id of its own. */
export function stageEvent(
  invocation: Invocation,
  source: Component,
  stream: string,
  key: string | number,
  type: string,
  data: unknown,
  version: number | undefined,
): { readonly staged: StagedEvent; readonly encoded: NewEvent } {
  const schema = schemaOf(sourceOf(source).events, type);
  if (!schema)
    throw Fault.create("event.unknown-type", `${source.kind} "${source.name}" has no event ${JSON.stringify(type)}`, "Declare the event with its schema.");
  const what = `event ${type} of ${source.kind} "${source.name}"`;
  const id = invocation.newId();
  const meta = metaOf(invocation, sourceOf(source).versions[type]);
  return {
    staged: { source, stream, key, type, id, data, parsed: invocation.accepted(schema, data) ?? parseNow(schema, data, what), version },
    encoded: { id, type, data: encode(data ?? {}, what, sourceOf(source).compressAbove), meta: bytesOf(JSON.stringify(meta)) },
  };
}

/** What travels on from an event to who reacts to it. */
export function carriedBy(row: EventRow): { readonly trace: string | undefined; readonly correlation: string | undefined } {
  const { trace, by, correlation = by } = (row.meta ? decode(row.meta) : {}) as Meta;
  return { trace, correlation };
}

/** What an in-commit follower sees. */
export function pendingEvent(event: StagedEvent, invocation: Invocation): AnyEvent<Record<string, unknown>, string | number> {
  return {
    type: event.type,
    data: event.parsed,
    id: event.id,
    key: event.key,
    at: invocation.now(),
    position: "pending",
    version: event.version ?? 0,
    tenant: invocation.tenant,
    causedBy: invocation.frame.id,
    meta: eventMeta(event.source, metaOf(invocation, sourceOf(event.source).versions[event.type])),
  };
}

/** What a reader of the log sees, at once when its schema answers at once. An event whose type the source no longer declares answers `undefined`. */
export function readEvent(source: Component, row: EventRow, epoch: number): ReadEvent | undefined | Promise<ReadEvent> {
  const { events, key } = sourceOf(source);
  const schema = schemaOf(events, row.type);
  if (!schema) return undefined;
  const read = (data: unknown): ReadEvent => {
    const { key: text, tenant } = parseKey(row.stream);
    const meta = (row.meta ? decode(row.meta) : {}) as Meta;
    return {
      type: row.type,
      data,
      id: row.id,
      key: key(text),
      at: row.atMs,
      position: `${epoch}-${row.position}`,
      version: row.version,
      tenant,
      causedBy: meta.by,
      meta: eventMeta(source, meta),
    };
  };
  const data: unknown = parseOrFault(schema, decode(row.data), `event ${row.type} of ${source.kind} "${source.name}", version ${row.version}`);
  return data instanceof Promise ? data.then(read) : read(data);
}
type ReadEvent = AnyEvent<Record<string, unknown>, string | number>;

/** An event as CloudEvents 1.0 (JSON format), for who is outside: extension attributes for what it has no name for. */
export function cloudEvent(event: AnyEvent<Record<string, unknown>, string | number>): Readonly<Record<string, unknown>> {
  const { meta, version, tenant } = event;
  return {
    specversion: "1.0",
    id: event.id,
    source: meta.source,
    type: event.type,
    subject: String(event.key),
    time: isoTime(event.at),
    datacontenttype: "application/json",
    partitionkey: String(event.key),
    sequence: String(version),
    position: event.position,
    schemaversion: meta.schemaVersion,
    correlationid: meta.correlationId,
    causationid: meta.causationId,
    ...(meta.traceparent === undefined ? {} : { traceparent: meta.traceparent }),
    ...(tenant === undefined ? {} : { tenant }),
    data: event.data,
  };
}

function schemaOf(events: EventSchemas, type: string): Schema | undefined {
  return Object.hasOwn(events, type) ? events[type] : undefined;
}

export function sourceOf(component: Component): SourceInterior["source"] {
  const interior = definitionOf(component).interior as Partial<SourceInterior> | undefined;
  if (interior?.source) return interior.source;
  throw Fault.create("component.not-a-source", `${component.kind} "${component.name}" has no events to follow`, "Follow an aggregate or a topic.");
}

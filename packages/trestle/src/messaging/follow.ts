/**
 * Reading a topic as it grows, from a handler or from outside. Nothing is remembered for the reader: it keeps the position of the
 * last event it has seen, and goes on after it. Only durable events are read, in order of position.
 */
import { changesOf, readEvent, withResumeId, type AnyEvent, type Component, type Invocation, type NodeServices, userKey } from "../component/index.ts";
import { Fault, integerWithin, linkSignals, partitionOf } from "../kernel/index.ts";
import { keyPrefix, parseKey, type Position } from "../store/index.ts";
import { assertRetained } from "./retention.ts";

export interface FollowOptions<Types extends string = string> {
  /** `start`, `now`, or the `position` of the last event seen. Default `now`; an SSE reader who comes back goes on where it was. */
  readonly from?: "start" | "now" | (string & {});
  /** Only the events of this key. */
  readonly key?: string;
  /** Only these; the store does not hand out the others. */
  readonly types?: readonly Types[];
  /** Only the keys of this partition, `partitionOf(key, of) === index`: readers that share the work choose one each. */
  readonly partition?: { readonly index: number; readonly of: number };
}

const pageEvents = 256;

export function followTopic(
  source: Component,
  invocation: Invocation,
  { from, key, types, partition }: FollowOptions,
): AsyncIterable<AnyEvent<Record<string, unknown>, string | number>> {
  const { node, frame } = invocation;
  const concerns =
    key === undefined
      ? (
          (prefix) => (stream: string) =>
            stream.startsWith(prefix)
        )(keyPrefix(source.name, invocation.tenant))
      : (
          (stream) => (written: string) =>
            written === stream
        )(userKey(source.name, invocation.tenant, key));
  if (partition) {
    integerWithin(partition.of, "follow: partition.of", { least: 1, most: 4_096 });
    integerWithin(partition.index, "follow: partition.index", { least: 0, most: partition.of - 1 });
  }
  // Read from outside a handler it is sent to nobody by SSE, and a resume id for each event is 6 % of reading it.
  const resumes = frame.component !== source;
  const inPartition = (stream: string) => !partition || partitionOf(parseKey(stream).key, partition.of) === partition.index;
  // Now, and not when the reader first looks: what is published in between is after it.
  const begin = positionOf(frame.resumeAfter ?? from ?? "now", node, source.name);
  begin.catch(() => undefined); // thrown to the reader
  return {
    async *[Symbol.asyncIterator]() {
      let after = await begin;
      using ends = linkSignals(frame.signal, node.draining);
      for await (const _ of changesOf(node.store, concerns, ends.signal)) {
        for (let atEnd = false; !atEnd && !ends.signal.aborted;) {
          const page = await node.store.read.log({ after, components: [source.name], limit: pageEvents, ...(types ? { types } : {}) });
          for (const row of page.events) {
            if (!concerns(row.stream) || !inPartition(row.stream)) continue;
            const read = readEvent(source, row, page.next.epoch);
            const event = read instanceof Promise ? await read : read;
            if (event) yield resumes ? withResumeId(event, event.position) : event;
          }
          after = page.next;
          atEnd = page.atEnd;
        }
      }
    },
  };
}

async function positionOf(from: string, node: NodeServices, topic: string): Promise<Position> {
  const { store } = node;
  if (from === "start") return { epoch: store.epoch, position: 0 };
  if (from === "now") {
    const { epoch, position } = await store.read.head();
    return { epoch, position };
  }
  const [, epoch, position] = /^(\d{1,15})-(\d{1,15})$/.exec(from) ?? [];
  if (epoch === undefined || position === undefined)
    throw Fault.create(
      "topic.bad-position",
      `from must be "start", "now" or the position of an event, got ${JSON.stringify(from.slice(0, 80))}`,
      "Pass on `event.position` as it came.",
    );
  const asked = { epoch: Number(epoch), position: Number(position) };
  if (asked.epoch === store.epoch) await assertRetained(node, topic, asked);
  return asked;
}

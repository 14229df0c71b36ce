/**
 * Reading a topic as it grows, from a handler or from outside. Nothing is remembered for the reader: it keeps the position of the
 * last event it has seen, and goes on after it. Only durable events are read, in order of position.
 */
import { changesOf, readEvent, withResumeId, type AnyEvent, type Component, type Invocation, userKey } from "../component/index.ts";
import { Fault, linkSignals } from "../kernel/index.ts";
import { keyPrefix, type Position, type Store } from "../store/index.ts";

export interface FollowOptions {
  /** `start`, `now`, or the `position` of the last event seen. Default `now`; an SSE reader who comes back goes on where it was. */
  readonly from?: "start" | "now" | (string & {});
  /** Only the events of this key. */
  readonly key?: string;
}

const pageEvents = 256;

export function followTopic(
  source: Component,
  invocation: Invocation,
  { from, key }: FollowOptions,
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
  // Now, and not when the reader first looks: what is published in between is after it.
  const begin = positionOf(frame.resumeAfter ?? from ?? "now", node.store);
  begin.catch(() => undefined); // thrown to the reader
  return {
    async *[Symbol.asyncIterator]() {
      let after = await begin;
      using ends = linkSignals(frame.signal, node.draining);
      for await (const _ of changesOf(node.store, concerns, ends.signal)) {
        for (let atEnd = false; !atEnd && !ends.signal.aborted;) {
          const page = await node.store.read.log({ after, components: [source.name], limit: pageEvents });
          for (const row of page.events) {
            if (!concerns(row.stream)) continue;
            const event = await readEvent(source, row, page.next.epoch);
            if (event) yield withResumeId(event, event.position);
          }
          after = page.next;
          atEnd = page.atEnd;
        }
      }
    },
  };
}

async function positionOf(from: string, store: Store): Promise<Position> {
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
  return { epoch: Number(epoch), position: Number(position) };
}

/** What is asked of Emmett's event stores, as they come. */
import type { Measured } from "../../harness/benchmark.ts";
import { measureCallers } from "../../harness/callers.ts";
import { eventsEach, measureReads, order, readEvents, streamOf, type Order } from "./events.ts";

interface Placed {
  readonly type: "Placed";
  readonly data: Order & { readonly n?: number };
}
export interface EmmettStore {
  appendToStream(stream: string, events: Placed[]): Promise<unknown>;
  readStream(stream: string): Promise<{ readonly events: readonly { readonly data: unknown }[] }>;
  close?(): Promise<void>;
}

const streamEvents = 10_000;
const placed = (n: number): Placed => ({ type: "Placed", data: { ...order, n } });

export async function measureEmmettAppends(store: EmmettStore, load: number, seconds: number): Promise<Measured> {
  await store.appendToStream("warm-up", [placed(0)]);
  // A stream for each append: two at once on one are a conflict, and the second is refused.
  const measured = await measureCallers(load, seconds, (n) =>
    store.appendToStream(
      `${streamOf(n)}-${n}`,
      Array.from({ length: eventsEach }, () => placed(n)),
    ),
  );
  await store.close?.();
  return measured;
}

/** Streams of 10,000 events, each read whole: there is no read of the whole log but its consumers'. */
export async function measureEmmettReads(store: EmmettStore, seconds: number): Promise<Measured> {
  for (let from = 0; from < readEvents; from += 500)
    await store.appendToStream(
      `orders-${Math.floor(from / streamEvents)}`,
      Array.from({ length: 500 }, (_, i) => placed(from + i)),
    );
  const measured = await measureReads(seconds, async () => {
    let read = 0;
    for (let stream = 0; stream < readEvents / streamEvents; stream++)
      for (const { data } of (await store.readStream(`orders-${stream}`)).events) if ((data as Order).customer === "ada") read += 1;
    return read;
  });
  await store.close?.();
  return measured;
}

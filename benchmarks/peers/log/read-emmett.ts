/** Emmett's PostgreSQL event store: streams of 10,000 events, each read whole; it has no read of the whole log but its consumers'. */
import { getPostgreSQLEventStore } from "@event-driven-io/emmett-postgresql";
import { postgres } from "@trestle/testing";
import type { Variant } from "../../harness/benchmark.ts";
import { measureReads, order, readEvents, type Order } from "./events.ts";

const emmett: Variant = async ({ seconds }) => {
  await using server = await postgres({ settings: { shared_buffers: "256MB", synchronous_commit: "off" } });
  const store = getPostgreSQLEventStore(server.url);
  const streams = readEvents / 10_000;
  for (let stream = 0; stream < streams; stream++)
    for (let from = 0; from < 10_000; from += 500)
      await store.appendToStream(
        `orders-${stream}`,
        Array.from({ length: 500 }, (_, i) => ({ type: "Placed", data: { ...order, n: from + i } })),
      );
  const measured = await measureReads(seconds, async () => {
    let read = 0;
    for (let stream = 0; stream < streams; stream++) {
      const { events } = await store.readStream(`orders-${stream}`);
      for (const { data } of events as readonly { readonly data: Order }[]) if (data.customer === "ada") read += 1;
    }
    return read;
  });
  await store.close();
  return measured;
};
export default emmett;

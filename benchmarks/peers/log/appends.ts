/** Commits at a store's port: each appends `eventsEach` events to one stream. */
import type { Store } from "../../../packages/trestle/src/store/index.ts";
import type { Measured } from "../../harness/benchmark.ts";
import { measureCallers } from "../../harness/callers.ts";
import { eventsEach, newId, orderText, streamOf } from "./events.ts";

export async function measureAppends(store: Store, load: number, seconds: number): Promise<Measured> {
  const data = Buffer.from(orderText);
  const measured = await measureCallers(load, seconds, async (n) => {
    const outcome = await store.commit({
      id: newId(),
      expects: [],
      writes: [{ kind: "append", stream: `orders//${streamOf(n)}`, events: Array.from({ length: eventsEach }, () => ({ id: newId(), type: "Placed", data })) }],
    });
    if (!outcome.ok) throw new Error(outcome.refused);
  });
  await store.close();
  return measured;
}

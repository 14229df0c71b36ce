/** One process on a server of its own. */
import { postgres } from "@trestle/testing";
import type { Variant } from "../harness/benchmark.ts";
import { measureCallers } from "../harness/callers.ts";
import { makeTables, work, type Kind } from "./work.ts";

export const alone =
  (kind: Kind): Variant =>
  async ({ load, seconds }) => {
    await using server = await postgres({ settings: { shared_buffers: "256MB" } });
    if (kind !== "trestle") await makeTables(server.url);
    const one = await work(kind, server.url);
    const measured = await measureCallers(load, seconds, () => one.once());
    await one.close();
    return measured;
  };

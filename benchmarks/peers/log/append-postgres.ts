/** The store on PostgreSQL. */
import { openPostgres } from "@trestle/postgres";
import { postgres } from "@trestle/testing";
import type { Variant } from "../../harness/benchmark.ts";
import { measureAppends } from "./appends.ts";

const trestle: Variant = async ({ load, seconds }) => {
  await using server = await postgres({ settings: { shared_buffers: "256MB" } });
  return await measureAppends(await openPostgres({ url: server.url }), load, seconds);
};
export default trestle;

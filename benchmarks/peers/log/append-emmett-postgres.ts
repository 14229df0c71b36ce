import { getPostgreSQLEventStore } from "@event-driven-io/emmett-postgresql";
import { postgres } from "@trestle/testing";
import type { Variant } from "../../harness/benchmark.ts";
import { measureEmmettAppends } from "./emmett.ts";

const emmett: Variant = async ({ load, seconds }) => {
  await using server = await postgres({ settings: { shared_buffers: "256MB" } });
  return await measureEmmettAppends(getPostgreSQLEventStore(server.url), load, seconds);
};
export default emmett;

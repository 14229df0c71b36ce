import { getPostgreSQLEventStore } from "@event-driven-io/emmett-postgresql";
import { postgres } from "@trestle/testing";
import type { Variant } from "../../harness/benchmark.ts";
import { measureEmmettReads } from "./emmett.ts";

const emmett: Variant = async ({ seconds }) => {
  await using server = await postgres({ settings: { shared_buffers: "256MB", synchronous_commit: "off" } });
  return await measureEmmettReads(getPostgreSQLEventStore(server.url), seconds);
};
export default emmett;

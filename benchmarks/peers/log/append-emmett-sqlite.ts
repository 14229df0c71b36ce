import { join } from "node:path";
import { getSQLiteEventStore } from "@event-driven-io/emmett-sqlite";
import type { Variant } from "../../harness/benchmark.ts";
import "../sqlite3/index.ts"; // what the store imports as "sqlite3"
import { measureEmmettAppends, type EmmettStore } from "./emmett.ts";

const emmett: Variant = ({ load, seconds, scratch }) =>
  measureEmmettAppends(getSQLiteEventStore({ fileName: join(scratch, "events.db") }) as EmmettStore, load, seconds);
export default emmett;

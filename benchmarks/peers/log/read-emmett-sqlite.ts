import { join } from "node:path";
import { getSQLiteEventStore } from "@event-driven-io/emmett-sqlite";
import type { Variant } from "../../harness/benchmark.ts";
import "../sqlite3/index.ts"; // what the store imports as "sqlite3"
import { measureEmmettReads, type EmmettStore } from "./emmett.ts";

const emmett: Variant = ({ seconds, scratch }) => measureEmmettReads(getSQLiteEventStore({ fileName: join(scratch, "events.db") }) as EmmettStore, seconds);
export default emmett;

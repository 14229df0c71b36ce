/** Trestle on one SQLite file that all processes share. */
import { join } from "node:path";
import type { Contender } from "./contender.ts";
import { trestle } from "./trestle.ts";

const contender: Contender = { settings: ["default"], store: "sqlite", open: ({ directory }) => trestle(`sqlite:${join(directory, "peers.db")}`) };
export default contender;

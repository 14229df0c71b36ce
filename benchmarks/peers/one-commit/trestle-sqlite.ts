/** Trestle on a SQLite file. */
import { join } from "node:path";
import { trestle } from "./trestle.ts";

export default trestle(({ directory }) => `sqlite:${join(directory, "orders.db")}`);

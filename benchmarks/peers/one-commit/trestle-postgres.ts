/** Trestle on PostgreSQL. */
import { trestle } from "./trestle.ts";

export default trestle(({ postgres }) => postgres);

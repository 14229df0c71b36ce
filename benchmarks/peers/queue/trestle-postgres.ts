/** Trestle on PostgreSQL. */
import type { Contender } from "./contender.ts";
import { trestle } from "./trestle.ts";

const contender: Contender = { settings: ["default"], store: "postgres", open: ({ postgres }) => trestle(postgres as `postgres://${string}`) };
export default contender;

import { fileURLToPath } from "node:url";
import type { Variant } from "../harness/benchmark.ts";
import { measureStarts } from "./started.ts";

const variant: Variant = ({ scratch }) => measureStarts(fileURLToPath(new URL("./trestle-server.ts", import.meta.url)), scratch);
export default variant;

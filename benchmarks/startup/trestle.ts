import type { Variant } from "../harness/bench.ts";
import { measureStarts } from "./started.ts";

const variant: Variant = ({ scratch }) => measureStarts("trestle-server", scratch);
export default variant;

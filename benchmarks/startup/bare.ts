import type { Variant } from "../harness/benchmark.ts";
import { measureStarts } from "./started.ts";

const variant: Variant = ({ scratch }) => measureStarts("bare-server", scratch);
export default variant;

import type { Variant } from "../benchmark.ts";
import { measureCallers } from "../callers.ts";

const slow: Variant = ({ load, seconds }) => measureCallers(load, seconds, () => new Promise((resolve) => void setTimeout(resolve, 10)));
export default slow;

import type { Variant } from "../benchmark.ts";
import { measureCallers } from "../callers.ts";

const quick: Variant = ({ load, seconds }) => measureCallers(load, seconds, () => new Promise((resolve) => void setTimeout(resolve, 1)));
export default quick;

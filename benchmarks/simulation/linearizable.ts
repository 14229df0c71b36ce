/** A search for each key, of `load` operations over a hundredth as many keys by ten callers. The bar: 100,000 operations in 300 ms. */
import { checkLinearizable, register } from "../../packages/trestle/src/simulation/checkers/index.ts";
import type { Variant } from "../harness/benchmark.ts";
import { measureCheck, registerHistory } from "./checkers.ts";

const linearizable: Variant = ({ load, seconds }) => {
  const history = registerHistory({ operations: load, keys: Math.ceil(load / 100), callers: 10 });
  return Promise.resolve(measureCheck(load, seconds, () => checkLinearizable(history, register())));
};
export default linearizable;

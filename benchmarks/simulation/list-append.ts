/** `load` transactions of twenty callers, held to strict serializability. The bar: 300,000 in 3 s and below 1 GB, the history included. */
import { checkListAppend } from "../../packages/trestle/src/simulation/checkers/index.ts";
import type { Variant } from "../harness/benchmark.ts";
import { heldAtMost, listAppendHistory, measureCheck } from "./checkers.ts";

const listAppend: Variant = ({ load, seconds }) => {
  const history = listAppendHistory({ transactions: load, callers: 20 });
  const measured = measureCheck(load, seconds, () => checkListAppend(history, { order: "realtime" }));
  heldAtMost(1_000);
  return Promise.resolve(measured);
};
export default listAppend;

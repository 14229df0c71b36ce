/** A ledger of deliveries out of what became durable: whoever looks after each commit writes down what was not there before. */
import type { DeliveryCall, SeedHistory } from "../index.ts";

/** `ids`: of the messages of this key whose effect is there, in the order in which they had it; what was there at the last look comes first. */
export function nowReceived(history: SeedHistory, key: string, ids: readonly (string | number)[]): void {
  const before = history.history<DeliveryCall>().filter((one) => one.key === key && one.call.kind === "receive").length;
  for (const id of ids.slice(before)) history.invoke({ kind: "receive", id } satisfies DeliveryCall, key).ok();
}

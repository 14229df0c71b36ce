/** A ledger of deliveries out of what became durable: whoever looks after each commit writes down what was not there before. */
import type { DeliveryCall, SeedHistory } from "../index.ts";

/** `ids`: of the messages of this key whose effect is there, as often as it is there; in the order in which they had it, where that is known. */
export function nowReceived(history: SeedHistory, key: string, ids: readonly (string | number)[]): void {
  const before = new Map<string | number, number>();
  for (const { key: of, call } of history.history<DeliveryCall>())
    if (of === key && call.kind === "receive") before.set(call.id, (before.get(call.id) ?? 0) + 1);
  for (const id of ids) {
    const known = before.get(id) ?? 0;
    if (known > 0) before.set(id, known - 1);
    else history.invoke({ kind: "receive", id } satisfies DeliveryCall, key).ok();
  }
}

/**
 * Whether the books agree: what the shop answered, what its orders say, what was charged, what was mailed, what is in stock.
 * A pure function over what was observed, so that a load run, a crash test and its negative control ask the same questions.
 */
import type { LedgerEntry } from "./payments/payments.ts";
import type { SentMessage } from "./mail/mail-sink.ts";

export interface Asked {
  /** The Idempotency-Key; also in the customer's name, so an order that no answer mentions is found as well. */
  readonly key: string;
  readonly customer: string;
  readonly items: readonly { readonly sku: string; readonly quantity: number }[];
  /** Every id ever answered under this key. */
  readonly ids: ReadonlySet<string>;
}
export interface SeenOrder {
  readonly id: string;
  readonly customer: string;
  readonly status: "placed" | "paid" | "shipped" | "cancelled";
  readonly totalCents: number;
  readonly paymentId?: string | undefined;
}
export interface Observed {
  readonly asked: readonly Asked[];
  /** Every order of the shop whose customer belongs to this run. */
  readonly orders: readonly SeenOrder[];
  readonly charges: readonly LedgerEntry[];
  readonly messages: readonly SentMessage[];
  readonly stockBefore: ReadonlyMap<string, number>;
  readonly stockAfter: ReadonlyMap<string, number>;
  /** Orders that may stand still: their job is parked as undetermined, and says so. */
  readonly undetermined: ReadonlySet<string>;
  /** How many letters may have been sent twice under their one id: those in flight when the shop died. 0 when the sink honours ids. */
  readonly mailedTwiceMax: number;
}

export interface LedgerCheck {
  readonly violations: readonly string[];
  readonly counts: {
    readonly orders: number;
    readonly shipped: number;
    readonly cancelled: number;
    readonly unfinished: number;
    readonly captured: number;
    readonly declined: number;
    readonly mails: number;
    readonly mailedTwice: number;
  };
}

export function checkLedgers(observed: Observed): LedgerCheck {
  const { orders, charges, messages } = observed;
  const violations: string[] = [];
  const byCustomer = grouped(orders, ({ customer }) => customer);
  const chargesOf = grouped(charges, ({ orderId }) => orderId);
  const ours = new Set(orders.map(({ id }) => id));

  for (const asked of observed.asked) {
    const placed = byCustomer.get(asked.customer) ?? [];
    if (asked.ids.size > 1) violations.push(`key ${asked.key} was answered with ${asked.ids.size} orders: ${[...asked.ids].join(", ")}`);
    if (asked.ids.size > 0 && placed.length !== 1)
      violations.push(`key ${asked.key} has ${placed.length} orders, not 1: ${placed.map(({ id }) => id).join(", ")}`);
    if (asked.ids.size === 0 && placed.length > 1) violations.push(`key ${asked.key}, never answered, has ${placed.length} orders`);
    for (const id of asked.ids)
      if (!placed.some((order) => order.id === id)) violations.push(`order ${id} was answered under key ${asked.key} and does not exist`);
  }

  for (const order of orders) {
    const captured = (chargesOf.get(order.id) ?? []).filter(({ status }) => status === "captured");
    if (captured.length > 1) violations.push(`order ${order.id} was charged ${captured.length} times`);
    if (order.status === "paid" || order.status === "shipped") {
      if (captured.length !== 1) violations.push(`order ${order.id} is ${order.status} and has ${captured.length} captured charges`);
      else if (captured[0]?.amountCents !== order.totalCents)
        violations.push(`order ${order.id} costs ${order.totalCents} and was charged ${captured[0]?.amountCents}`);
      if (order.paymentId !== undefined && captured[0] && captured[0].paymentId !== order.paymentId)
        violations.push(`order ${order.id} names payment ${order.paymentId}, the ledger ${captured[0].paymentId}`);
    }
    if (order.status === "cancelled" && captured.length > 0) violations.push(`order ${order.id} is cancelled and was charged all the same`);
    if ((order.status === "placed" || order.status === "paid") && !observed.undetermined.has(order.id))
      violations.push(`order ${order.id} is stuck: ${order.status}`);
  }
  for (const charge of charges) {
    if (charge.status === "captured" && !ours.has(charge.orderId)) violations.push(`payment ${charge.paymentId} belongs to no order (${charge.orderId})`);
  }

  const mailedTwice = checkMail(observed, violations);
  checkStock(observed, violations);

  const withStatus = (...statuses: string[]) => orders.filter(({ status }) => statuses.includes(status)).length;
  return {
    violations,
    counts: {
      orders: orders.length,
      shipped: withStatus("shipped"),
      cancelled: withStatus("cancelled"),
      unfinished: withStatus("placed", "paid"),
      captured: charges.filter(({ status }) => status === "captured").length,
      declined: charges.filter(({ status }) => status === "declined").length,
      mails: messages.length,
      mailedTwice,
    },
  };
}

/** One letter per order that ended; sent again only by a death between sending and noting it, and then under its own id. */
function checkMail({ orders, messages, mailedTwiceMax }: Observed, violations: string[]): number {
  const byOrder = new Map<string, SentMessage[]>();
  for (const message of messages) {
    const orderId = /[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}/.exec(message.text)?.[0] ?? "";
    byOrder.set(orderId, [...(byOrder.get(orderId) ?? []), message]);
  }
  let mailedTwice = 0;
  for (const order of orders) {
    const sent = byOrder.get(order.id) ?? [];
    const ids = new Set(sent.map(({ id }) => id));
    const ended = order.status === "shipped" || order.status === "cancelled";
    if (ended && ids.size === 0) violations.push(`order ${order.id} is ${order.status} and no mail says so`);
    if (ids.size > 1) violations.push(`order ${order.id} was mailed under ${ids.size} message ids`);
    if (!ended && ids.size > 0) violations.push(`order ${order.id} is ${order.status} and was mailed already`);
    mailedTwice += Math.max(0, sent.length - ids.size);
  }
  if (mailedTwice > mailedTwiceMax) violations.push(`${mailedTwice} mails were sent twice, and ${mailedTwiceMax} may have been`);
  return mailedTwice;
}

function checkStock({ asked, orders, stockBefore, stockAfter, undetermined }: Observed, violations: string[]): void {
  const itemsOf = new Map(asked.map(({ customer, items }) => [customer, items]));
  const taken = new Map<string, number>();
  const uncertain = new Set<string>();
  for (const order of orders) {
    for (const { sku, quantity } of itemsOf.get(order.customer) ?? []) {
      if (order.status === "paid" || order.status === "shipped") taken.set(sku, (taken.get(sku) ?? 0) + quantity);
      if (undetermined.has(order.id)) uncertain.add(sku);
    }
  }
  for (const [sku, before] of stockBefore) {
    const after = stockAfter.get(sku) ?? Number.NaN;
    const expected = before - (taken.get(sku) ?? 0);
    if (after < 0) violations.push(`${sku} has a stock of ${after}`);
    if (after !== expected && !uncertain.has(sku))
      violations.push(`${sku}: ${before} before, ${taken.get(sku) ?? 0} taken, so ${expected} should be left, and ${after} are`);
  }
}

function grouped<T>(items: readonly T[], keyOf: (item: T) => string): Map<string, T[]> {
  const groups = new Map<string, T[]>();
  for (const item of items) {
    const group = groups.get(keyOf(item));
    if (group) group.push(item);
    else groups.set(keyOf(item), [item]);
  }
  return groups;
}

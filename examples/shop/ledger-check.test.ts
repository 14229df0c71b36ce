import assert from "node:assert/strict";
import { test } from "node:test";
import { checkLedgers, type Observed } from "./ledger-check.ts";

const id = "0197a1b2-0000-7000-8000-000000000001";
const agreed: Observed = {
  asked: [{ key: "k1", customer: "Ada 1", items: [{ sku: "TRE-001", quantity: 2 }], ids: new Set([id]) }],
  orders: [{ id, customer: "Ada 1", status: "shipped", totalCents: 37800, paymentId: "pay_1" }],
  charges: [{ seq: 1, key: id, orderId: id, amountCents: 37800, status: "captured", paymentId: "pay_1", reason: null, asked: 1, atMs: 0 }],
  messages: [{ seq: 1, id: "m1", to: "ada@example.com", subject: "", text: `order ${id} has left`, atMs: 0 }],
  stockBefore: new Map([["TRE-001", 1000]]),
  stockAfter: new Map([["TRE-001", 998]]),
  undetermined: new Set(),
  mailedTwiceMax: 0,
};
const [order] = agreed.orders;
const [charge] = agreed.charges;
const [message] = agreed.messages;
assert(order && charge && message);
const other = "0197a1b2-0000-7000-8000-000000000002";

test("books that agree have no violations", () => {
  const { violations, counts } = checkLedgers(agreed);

  assert.deepEqual(violations, []);
  assert.deepEqual(counts, { orders: 1, shipped: 1, cancelled: 0, unfinished: 0, captured: 1, declined: 0, mails: 1, mailedTwice: 0 });
});

const disagreements: readonly [name: string, change: Partial<Observed>, says: RegExp][] = [
  [
    "two orders under one key",
    {
      orders: [order, { ...order, id: other }],
      charges: [charge, { ...charge, orderId: other }],
      messages: [message, { ...message, id: "m2", text: other }],
      stockAfter: new Map([["TRE-001", 996]]),
    },
    /key k1 has 2 orders/,
  ],
  ["an answered order that is not there", { orders: [], charges: [], messages: [], stockAfter: agreed.stockBefore }, /does not exist/],
  [
    "one key, two answers",
    { asked: [{ key: "k1", customer: "Ada 1", items: [{ sku: "TRE-001", quantity: 2 }], ids: new Set([id, other]) }] },
    /answered with 2 orders/,
  ],
  ["a shipped order nobody paid for", { charges: [] }, /has 0 captured charges/],
  ["an order charged twice", { charges: [charge, { ...charge, seq: 2, key: "k2", paymentId: "pay_2" }] }, /charged 2 times/],
  ["a charge of another amount", { charges: [{ ...charge, amountCents: 1 }] }, /was charged 1/],
  ["a charge without an order", { charges: [charge, { ...charge, orderId: other, paymentId: "pay_2" }] }, /belongs to no order/],
  ["a cancelled order that was charged", { orders: [{ ...order, status: "cancelled" }], stockAfter: agreed.stockBefore }, /cancelled and was charged/],
  ["an order that stands still", { orders: [{ ...order, status: "placed" }], messages: [], stockAfter: agreed.stockBefore }, /stuck: placed/],
  ["a missing mail", { messages: [] }, /no mail says so/],
  ["two mails under two ids", { messages: [message, { ...message, id: "m2" }] }, /under 2 message ids/],
  ["more repeated mails than could have been in flight", { messages: [message, message] }, /1 mails were sent twice, and 0 may/],
  ["stock that does not add up", { stockAfter: new Map([["TRE-001", 997]]) }, /998 should be left, and 997 are/],
];

for (const [name, change, says] of disagreements) {
  test(`the check notices ${name}`, () => {
    const { violations } = checkLedgers({ ...agreed, ...change });

    assert.equal(violations.length >= 1, true);
    assert.match(violations.join("\n"), says);
  });
}

test("a repeated mail under one id is no violation where one may have been in flight", () => {
  const { violations, counts } = checkLedgers({ ...agreed, messages: [message, message], mailedTwiceMax: 1 });

  assert.deepEqual(violations, []);
  assert.equal(counts.mailedTwice, 1);
});

test("an order whose job is parked as undetermined may stand still, with its stock held", () => {
  const { violations } = checkLedgers({ ...agreed, orders: [{ ...order, status: "placed" }], messages: [], undetermined: new Set([id]) });

  assert.deepEqual(violations, []);
});

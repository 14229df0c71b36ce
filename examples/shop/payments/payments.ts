/**
 * The payment provider: a system that is not ours, with its own process and its own ledger.
 *
 *   POST /charges {orderId, amountCents} + Idempotency-Key   → 200 {status:"captured", paymentId} or {status:"declined", reason}
 *   GET  /charges/:key                                        → what became of a key: the same answer, or 404
 *   GET  /ledger?cursor&limit                                 → {items, total, next?}: every entry, in the order it was written
 *   GET  /_identity · GET|PUT /_stub {latencyMs, failRate, hang, declineRate, seed}
 *
 * One key is one entry and one answer for ever; the entry is on disk before anyone is told. The same key with another
 * charge is 422. It declines amounts whose cents end in 13, and the share `declineRate` of all keys.
 */
import { randomUUID } from "node:crypto";
import { join } from "node:path";
import { openDurableLedger } from "../foreign/durable-ledger.ts";
import { ledgerPage, problem, type Answer, type ForeignSystem } from "../foreign/foreign-server.ts";
import { drawnByKey, numberWithin, type Checked } from "../foreign/misbehaviour.ts";

export interface PaymentsStub {
  /** Share of the keys whose charge is declined, 0 to 1. Default 0. */
  readonly declineRate: number;
}

export interface LedgerEntry {
  readonly seq: number;
  readonly key: string;
  readonly orderId: string;
  readonly amountCents: number;
  readonly status: "captured" | "declined";
  readonly paymentId: string | null;
  readonly reason: string | null;
  /** How often this key was asked for. */
  readonly asked: number;
  readonly atMs: number;
}

interface Charge {
  readonly orderId: string;
  readonly amountCents: number;
}

const schema = `
  CREATE TABLE IF NOT EXISTS charge (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, key TEXT NOT NULL UNIQUE, order_id TEXT NOT NULL, amount_cents INTEGER NOT NULL,
    status TEXT NOT NULL, payment_id TEXT UNIQUE, reason TEXT, asked INTEGER NOT NULL, at_ms INTEGER NOT NULL
  ) STRICT`;
const columns = "seq, key, order_id AS orderId, amount_cents AS amountCents, status, payment_id AS paymentId, reason, asked, at_ms AS atMs";

export function openPayments(dataDirectory: string): { readonly system: ForeignSystem<PaymentsStub>; close(): void } {
  const dataFile = join(dataDirectory, "payments.db");
  const ledger = openDurableLedger(dataFile, schema);
  const byKey = ledger.database.prepare(`SELECT ${columns} FROM charge WHERE key = ?`);
  const add = ledger.database.prepare(
    "INSERT INTO charge (key, order_id, amount_cents, status, payment_id, reason, asked, at_ms) VALUES (?, ?, ?, ?, ?, ?, 1, ?)",
  );
  const askAgain = ledger.database.prepare("UPDATE charge SET asked = asked + 1 WHERE key = ?");
  const page = ledger.database.prepare(`SELECT ${columns} FROM charge WHERE seq > ? ORDER BY seq LIMIT ?`);
  const count = ledger.database.prepare("SELECT count(*) AS total FROM charge");

  const entryOf = (key: string) => byKey.get(key) as unknown as LedgerEntry | undefined;

  /** Inside the ledger's transaction: the first charge of a key decides, every later one is told the same. */
  function charge(key: string, { orderId, amountCents }: Charge, declineRate: number): Answer {
    const earlier = entryOf(key);
    if (earlier) {
      if (earlier.orderId !== orderId || earlier.amountCents !== amountCents) return problem(422, "key-reused", `the key ${key} belongs to another charge`);
      askAgain.run(key);
      return answerOf(earlier);
    }
    const reason = amountCents % 100 === 13 ? "card-declined" : drawnByKey(key, declineRate) ? "insufficient-funds" : null;
    const paymentId = reason === null ? `pay_${randomUUID().replaceAll("-", "")}` : null;
    add.run(key, orderId, amountCents, reason === null ? "captured" : "declined", paymentId, reason, Date.now());
    return reason === null ? { status: 200, body: { status: "captured", paymentId } } : { status: 200, body: { status: "declined", reason } };
  }

  const system: ForeignSystem<PaymentsStub> = {
    name: "trestle-example-payments",
    dataFile,
    stubOptions: { declineRate: numberWithin(0, 1) },
    routes: [
      {
        method: "POST",
        path: /^\/charges$/,
        misbehaves: true,
        answer: ({ headers, body, stub }) => {
          const key = headers["idempotency-key"];
          if (typeof key !== "string" || key === "" || key.length > 255)
            return problem(400, "no-idempotency-key", "a charge needs an Idempotency-Key of 1 to 255 characters");
          const parsed = parseCharge(body);
          return parsed.ok ? ledger.write(() => charge(key, parsed.value, stub.declineRate ?? 0)) : problem(422, "bad-charge", parsed.problem);
        },
      },
      {
        method: "GET",
        path: /^\/charges\/([^/]+)$/,
        misbehaves: true,
        answer: ({ params: [key = ""] }) => {
          const entry = entryOf(key);
          return entry ? answerOf(entry) : problem(404, "no-such-charge", `nothing was ever charged under ${key}`);
        },
      },
      {
        method: "GET",
        path: /^\/ledger$/,
        misbehaves: false,
        answer: ({ query }) =>
          ledgerPage(query, (after, limit) => ({
            items: page.all(after, limit) as unknown as LedgerEntry[],
            total: Number(count.get()?.["total"]),
          })),
      },
    ],
  };
  return { system, close: () => ledger.close() };
}

function answerOf(entry: LedgerEntry): Answer {
  return {
    status: 200,
    body: entry.status === "captured" ? { status: entry.status, paymentId: entry.paymentId } : { status: entry.status, reason: entry.reason },
  };
}

function parseCharge(body: unknown): Checked<Charge> {
  const { orderId, amountCents } = (typeof body === "object" && body !== null ? body : {}) as Record<string, unknown>;
  if (typeof orderId !== "string" || orderId === "" || orderId.length > 100) return { ok: false, problem: "orderId must be a text of 1 to 100 characters" };
  if (typeof amountCents !== "number" || !Number.isSafeInteger(amountCents) || amountCents < 0)
    return { ok: false, problem: "amountCents must be an integer of at least 0" };
  return { ok: true, value: { orderId, amountCents } };
}

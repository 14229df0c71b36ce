/**
 * The endpoint that every contender serves, and what it is asked about it afterwards.
 *
 *   POST /orders  with `Idempotency-Key` → 201 `{ id, status }`: one order and one mail job per key, and the same answer whenever the key comes again
 *   GET /audit    → `{ orders: [{ id, customer }], mails: [[id, times]] }`
 */
import { z } from "zod";

export const PlaceOrder = z.object({
  customer: z.string().min(1).max(200),
  email: z.email().max(320),
  items: z
    .array(z.object({ sku: z.string().regex(/^[A-Z]{3}-\d{3}$/), quantity: z.int().positive().max(100) }))
    .min(1)
    .max(50),
});

export interface Audit {
  readonly orders: readonly { readonly id: string; readonly customer: string }[];
  readonly mails: readonly (readonly [id: string, times: number])[];
}

export interface Where {
  readonly postgres: string;
  readonly directory: string;
  readonly port: number;
  /** Is the mail worker part of this process? */
  readonly works: boolean;
}

/** Serves until the process ends. */
export type Serve = (where: Where) => Promise<void>;

export const tables = `
  create table if not exists orders (id uuid primary key, customer text not null, body jsonb not null);
  create table if not exists mails (order_id uuid not null);
  create table if not exists idempotency (key text primary key, fingerprint text not null, status integer, answer text)`;

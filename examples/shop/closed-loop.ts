/**
 * A closed loop over the shop, and then the question whether the books agree.
 *
 * Every order has its Idempotency-Key; a broken connection, a 5xx, a 409 (in flight) or a 429 is asked again under the same
 * key, and every twentieth order is asked twice at once. Then it waits until all orders have ended and their mail is out, and
 * compares orders, payments, mail and stock.
 */
import { randomBytes } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { seededChance } from "./foreign/misbehaviour.ts";
import { jsonClient, type JsonClient } from "./json-client.ts";
import { checkLedgers, type Asked, type LedgerCheck, type SeenOrder } from "./ledger-check.ts";
import type { SentMessage } from "./mail/mail-sink.ts";
import type { LedgerEntry } from "./payments/payments.ts";

export interface LoadOptions {
  readonly url: string;
  readonly paymentsUrl: string;
  readonly mailUrl: string;
  readonly orders: number;
  readonly concurrency: number;
  /** What a caller rests between an answer and its next order, in milliseconds. Default 0: as fast as the shop takes orders, which is faster than it ships them. */
  readonly thinkMs?: number | undefined;
  /** How many products the orders spread over; `undefined`: the furniture, without the boxes of screws. */
  readonly skus?: number | undefined;
  readonly seed: number;
  /** How long one order is asked for again before the run gives up on it. Default 60,000. */
  readonly retryForMs?: number;
  /** How long to wait, after the last order was placed, until all have ended. Default 120,000. */
  readonly endWithinMs?: number;
  readonly mailedTwiceMax?: number;
  /** Every so many orders are asked twice at once, under one key; 0: none. Default 20. */
  readonly twiceEvery?: number;
  /** The orders whose jobs are parked as undetermined, asked for when some have not ended. */
  readonly undetermined?: () => Promise<ReadonlySet<string>>;
  /** Asked before each order; `orders` is then the most there can be. */
  readonly stopWhen?: () => boolean;
  readonly onProgress?: (progress: Progress) => void;
}
export interface Progress {
  readonly phase: "placing" | "ending";
  readonly done: number;
  readonly of: number;
}
export interface LoadReport {
  readonly run: string;
  readonly orders: number;
  readonly concurrency: number;
  readonly skus: number;
  readonly placed: { readonly seconds: number; readonly perSecond: number; readonly p50Ms: number; readonly p99Ms: number; readonly maxMs: number };
  /** From the first request until the last order had ended. */
  readonly ended: { readonly seconds: number; readonly perSecond: number };
  /** Answers by status, and broken connections by error code. */
  readonly answers: Readonly<Record<string, number>>;
  /** Orders that never got an answer, and why the last attempt failed. */
  readonly unanswered: readonly string[];
  readonly check: LedgerCheck;
}

/** The load cannot be run as it was asked for; the message says what to change. */
export class LoadFault extends Error {}

interface Product {
  readonly sku: string;
}
interface PageOf<T> {
  readonly items: readonly T[];
  readonly next?: string;
}

export async function runLoad(options: LoadOptions): Promise<LoadReport> {
  const shop = jsonClient(options.url, options.concurrency);
  const payments = jsonClient(options.paymentsUrl, 2);
  const mail = jsonClient(options.mailUrl, 2);
  try {
    const run = randomBytes(4).toString("hex");
    const skus = await chooseSkus(shop, options.skus);
    const stockBefore = await readStock(shop, skus);
    const chargesBefore = (await payments.get<{ total: number }>("/ledger?limit=1")).total;
    const mailsBefore = (await mail.get<{ total: number }>("/ledger?limit=1")).total;

    const placing = await placeOrders(shop, run, skus, options);
    const endedAtMs = await untilEnded(shop, placing, options);
    const orders = await ordersOf(shop, run, placing.asked.length);
    const unfinished = orders.some(({ status }) => status === "placed" || status === "paid");
    const messages = await untilMailed(mail, mailsBefore, orders, options.endWithinMs ?? 120_000);

    const check = checkLedgers({
      asked: placing.asked,
      orders,
      charges: (await everything<LedgerEntry>(payments, chargesBefore)).filter(
        ({ orderId }) => orders.some(({ id }) => id === orderId) || placing.asked.some(({ ids }) => ids.has(orderId)),
      ),
      messages,
      stockBefore,
      stockAfter: await readStock(shop, skus),
      undetermined: unfinished && options.undetermined ? await options.undetermined() : new Set(),
      mailedTwiceMax: options.mailedTwiceMax ?? 0,
    });
    return report(run, skus.length, placing, endedAtMs, check, options);
  } finally {
    for (const client of [shop, payments, mail]) client.close();
  }
}

// ---- placing --------------------------------------------------------------------------------------------------------

interface Placing {
  readonly asked: Asked[];
  readonly startedAtMs: number;
  readonly placedAtMs: number;
  readonly tookMs: readonly number[];
  readonly answers: ReadonlyMap<string, number>;
  readonly unanswered: readonly string[];
}

async function placeOrders(
  shop: JsonClient,
  run: string,
  skus: readonly string[],
  { orders, concurrency, thinkMs = 0, seed, retryForMs = 60_000, twiceEvery = 20, stopWhen = () => false, onProgress }: LoadOptions,
): Promise<Placing> {
  const chance = seededChance(seed);
  const asked: Asked[] = [];
  const tookMs: number[] = [];
  const unanswered: string[] = [];
  const answers = new Map<string, number>();
  const count = (what: string) => answers.set(what, (answers.get(what) ?? 0) + 1);
  const again: Promise<void>[] = [];
  const startedAtMs = performance.now();
  let next = 0;

  async function placeOne(number: number): Promise<void> {
    const items = someItems(skus, chance);
    const key = `${run}-${number}-${randomBytes(8).toString("hex")}`;
    const customer = `Load ${run} ${number}`;
    const ids = new Set<string>();
    const order = { customer, email: `load-${run}-${number}@example.com`, items };
    asked.push({ key, customer, items, ids });

    const note = (answer: OrderAnswer) => void (answer.ok ? ids.add(answer.id) : unanswered.push(`${key}: ${answer.why}`));
    const beganAtMs = performance.now();
    const asking = askUntilAnswered(shop, key, order, retryForMs, count);
    // The second asking meets a 409 and waits; the loop does not wait for it.
    if (twiceEvery > 0 && number % twiceEvery === 0) again.push(askUntilAnswered(shop, key, order, retryForMs, count).then(note));
    note(await asking);
    tookMs.push(performance.now() - beganAtMs);
    onProgress?.({ phase: "placing", done: tookMs.length, of: orders });
  }

  await Promise.all(
    Array.from({ length: Math.min(concurrency, orders) }, async () => {
      while (next < orders && !stopWhen()) {
        await placeOne(next++);
        if (thinkMs > 0) await sleep(thinkMs);
      }
    }),
  );
  const placedAtMs = performance.now();
  await Promise.all(again);
  return { asked, startedAtMs, placedAtMs, tookMs, answers, unanswered };
}

/** One or two products, mostly one of each: a piece of furniture is rarely bought by the dozen. */
function someItems(skus: readonly string[], chance: () => number): { sku: string; quantity: number }[] {
  const chosen = new Set<string>();
  const kinds = chance() < 0.25 ? 2 : 1;
  for (let kind = 0; kind < kinds; kind++) chosen.add(skus[Math.floor(chance() * skus.length)] ?? "");
  return [...chosen].map((sku) => ({ sku, quantity: chance() < 0.1 ? 2 : 1 }));
}

type OrderAnswer = { readonly ok: true; readonly id: string } | { readonly ok: false; readonly why: string };

async function askUntilAnswered(shop: JsonClient, key: string, order: object, retryForMs: number, count: (what: string) => void): Promise<OrderAnswer> {
  const untilMs = performance.now() + retryForMs;
  let why = "";
  for (let attempt = 1; performance.now() < untilMs; attempt++) {
    let waitMs = Math.min(500, 10 * 2 ** attempt);
    try {
      const { status, body, headers } = await shop.ask("POST", "/orders", { body: order, headers: { "idempotency-key": key } });
      count(String(status));
      if (status === 201) return { ok: true, id: String((body as { id: unknown }).id) };
      why = `${status} ${JSON.stringify(body)}`;
      if (status < 500 && status !== 409 && status !== 429 && status !== 408) return { ok: false, why };
      if (headers["retry-after"] !== undefined) waitMs = Math.min(1_000, Number(headers["retry-after"]) * 1_000 || waitMs);
    } catch (error) {
      why = (error as NodeJS.ErrnoException).code ?? String(error);
      count(why);
    }
    await pause(waitMs * (0.5 + Math.random()));
  }
  return { ok: false, why: `no answer in ${retryForMs} ms; last: ${why}` };
}

// ---- looking --------------------------------------------------------------------------------------------------------

async function chooseSkus(shop: JsonClient, count: number | undefined): Promise<readonly string[]> {
  const products: Product[] = [];
  for (let cursor = ""; ;) {
    const page = await shop.get<PageOf<Product>>(`/products?limit=100${cursor}`);
    products.push(...page.items);
    if (page.next === undefined) break;
    cursor = `&cursor=${encodeURIComponent(page.next)}`;
  }
  const [screws, furniture] = [true, false].map((isScrew) => products.map(({ sku }) => sku).filter((sku) => sku.startsWith("SCR-") === isScrew)) as [
    string[],
    string[],
  ];
  if (count === undefined) return furniture;
  if (screws.length < count)
    throw new LoadFault(`--skus ${count} needs ${count} boxes of screws and the shop sells ${screws.length}: start it with SHOP_SPARE_PARTS=${count}`);
  return screws.slice(0, count);
}

async function readStock(shop: JsonClient, skus: readonly string[]): Promise<Map<string, number>> {
  const levels = new Map<string, number>();
  const rest = [...skus];
  await Promise.all(
    Array.from({ length: 8 }, async () => {
      for (let sku = rest.pop(); sku !== undefined; sku = rest.pop())
        levels.set(sku, (await insistently(() => shop.get<{ available: number }>(`/stock/${sku}`))).available);
    }),
  );
  return levels;
}

/** Looks at the oldest orders first; when one batch has ended, at the next. Answers when the last one was seen to have ended. */
async function untilEnded(shop: JsonClient, { asked, placedAtMs }: Placing, { endWithinMs = 120_000, onProgress }: LoadOptions): Promise<number> {
  const open = asked.flatMap(({ ids }) => [...ids]);
  const all = open.length;
  let endedAtMs = placedAtMs;
  while (open.length > 0 && performance.now() < placedAtMs + endWithinMs) {
    const batch = open.splice(0, 50);
    const seen = await Promise.all(
      batch.map((id) =>
        insistently(async () => {
          const { body } = await shop.ask("GET", `/orders/${id}`);
          return (body as SeenOrder).status;
        }),
      ),
    );
    const still = batch.filter((_, index) => seen[index] === "placed" || seen[index] === "paid");
    endedAtMs = performance.now();
    open.unshift(...still);
    onProgress?.({ phase: "ending", done: all - open.length, of: all });
    if (still.length > 0) await pause(100);
  }
  return endedAtMs;
}

async function ordersOf(shop: JsonClient, run: string, expected: number): Promise<SeenOrder[]> {
  const found: SeenOrder[] = [];
  for (let cursor = ""; ;) {
    const page = await insistently(() => shop.get<PageOf<SeenOrder>>(`/orders?limit=100${cursor}`));
    const ours = page.items.filter(({ customer }) => customer.startsWith(`Load ${run} `));
    found.push(...ours);
    if (page.next === undefined || (ours.length === 0 && found.length >= expected)) return found;
    cursor = `&cursor=${encodeURIComponent(page.next)}`;
  }
}

async function untilMailed(mail: JsonClient, after: number, orders: readonly SeenOrder[], withinMs: number): Promise<SentMessage[]> {
  const ours = new Set(orders.map(({ id }) => id));
  const ended = orders.filter(({ status }) => status === "shipped" || status === "cancelled").length;
  const untilMs = performance.now() + withinMs;
  for (;;) {
    const messages = (await everything<SentMessage>(mail, after)).filter(({ text }) => ours.has(/[0-9a-f-]{36}/.exec(text)?.[0] ?? ""));
    if (new Set(messages.map(({ id }) => id)).size >= ended || performance.now() > untilMs) return messages;
    await pause(200);
  }
}

async function everything<T>(client: JsonClient, after: number): Promise<T[]> {
  const items: T[] = [];
  for (let cursor = String(after); ;) {
    const page = await insistently(() => client.get<PageOf<T>>(`/ledger?cursor=${cursor}`));
    items.push(...page.items);
    if (page.next === undefined) return items;
    cursor = page.next;
  }
}

/** The shop may be on its way back up. */
async function insistently<T>(look: () => Promise<T>): Promise<T> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await look();
    } catch (error) {
      if (attempt === 60) throw error;
      await pause(Math.min(500, 20 * attempt));
    }
  }
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

// ---- reporting ------------------------------------------------------------------------------------------------------

function report(run: string, skus: number, placing: Placing, endedAtMs: number, check: LedgerCheck, { concurrency }: LoadOptions): LoadReport {
  const orders = placing.asked.length;
  const sorted = [...placing.tookMs].sort((one, other) => one - other);
  const quantile = (share: number) => rounded(sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))] ?? 0);
  const placedSeconds = (placing.placedAtMs - placing.startedAtMs) / 1000;
  const endedSeconds = (endedAtMs - placing.startedAtMs) / 1000;
  return {
    run,
    orders,
    concurrency,
    skus,
    placed: {
      seconds: rounded(placedSeconds),
      perSecond: rounded(orders / placedSeconds),
      p50Ms: quantile(0.5),
      p99Ms: quantile(0.99),
      maxMs: rounded(sorted.at(-1) ?? 0),
    },
    ended: { seconds: rounded(endedSeconds), perSecond: rounded((check.counts.shipped + check.counts.cancelled) / endedSeconds) },
    answers: Object.fromEntries([...placing.answers].sort(([one], [other]) => one.localeCompare(other))),
    unanswered: placing.unanswered,
    check,
  };
}

function rounded(value: number): number {
  return Math.round(value * 100) / 100;
}

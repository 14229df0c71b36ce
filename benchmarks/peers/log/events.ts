/** What is appended and read: an order of about 200 B, on streams of ten events. */
import { topic } from "trestle";
import { systemClock, systemRandom, uuidv7Ids } from "trestle/kernel";
import { z } from "zod";

const ids = uuidv7Ids(systemClock, systemRandom);
export const newId = (): string => ids.next();
export const newIdBytes = (): Buffer => Buffer.from(ids.next().replaceAll("-", ""), "hex");

export const order = { customer: "ada", email: "ada@example.com", items: [{ sku: "TRE-001", quantity: 2 }], note: "x".repeat(100) };
export type Order = typeof order;
export const orderText = JSON.stringify(order);
/** How many events an append has. */
export const eventsEach = Number(process.env["EVENTS_EACH"] ?? 1);
/** The stream of append `n`: ten events long. */
export const streamOf = (n: number): string => `order-${Math.floor((n * eventsEach) / 10)}`;

const Order = z.object({ customer: z.string(), email: z.string(), items: z.array(z.object({ sku: z.string(), quantity: z.int() })), note: z.string() });
export const orders = topic("orders", { events: { Placed: Order.extend({ n: z.int() }) }, key: ({ data }) => streamOf(data.n) });

export const readEvents = 200_000;
export const pageEvents = 1_000;

/** Reads everything again and again for so many seconds. */
export async function measureReads(seconds: number, readAll: () => Promise<number>): Promise<{ opsPerSec: number; p50Ms: number; p99Ms: number }> {
  await readAll();
  const times: number[] = [];
  let events = 0;
  const fromMs = performance.now();
  while (performance.now() - fromMs < seconds * 1_000) {
    const beganMs = performance.now();
    const read = await readAll();
    if (read < readEvents) throw new Error(`${read} of ${readEvents} events were read`);
    events += read;
    times.push(performance.now() - beganMs);
  }
  times.sort((a, b) => a - b);
  return { opsPerSec: events / ((performance.now() - fromMs) / 1_000), p50Ms: times[Math.floor(times.length / 2)] ?? 0, p99Ms: times.at(-1) ?? 0 };
}

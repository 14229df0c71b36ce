/**
 * A load over a shop that dies again and again, at instants drawn from a seed. What is left afterwards is for the caller to judge.
 *
 * Nobody dies before the first order was answered: however slow the machine is, the load is under way by then. Each round: let it run for a
 * while, end it, do what the kind of death does to the disk, start it again. When all deaths have been died, the load stops placing orders, waits
 * until the last one has ended, and checks the books.
 */
import { seededChance } from "../foreign/misbehaviour.ts";
import { runLoad, type LoadReport } from "../closed-loop.ts";
import type { ShopProcesses } from "./shop-processes.ts";

export interface CrashRun {
  readonly deaths: number;
  readonly seed: number;
  readonly concurrency: number;
  readonly thinkMs?: number;
  /** How long it lives, from ready to dead. Default 100 to 700 ms. */
  readonly livesMs?: { readonly min: number; readonly max: number };
  /** After it died and before it starts again: what a power loss takes with it. */
  readonly afterDeath?: (death: number) => void | Promise<void>;
  /** The first order was answered: from now on anything may die. */
  readonly underLoad?: () => void;
  readonly mailedTwiceMax?: number;
  readonly endWithinMs?: number;
  readonly undetermined?: () => Promise<ReadonlySet<string>>;
}
export interface CrashReport extends LoadReport {
  readonly deaths: number;
}

export async function loadThroughCrashes(
  shop: ShopProcesses,
  { deaths, seed, concurrency, livesMs = { min: 100, max: 700 }, afterDeath, underLoad, ...rest }: CrashRun,
): Promise<CrashReport> {
  const chance = seededChance(seed);
  const answered = Promise.withResolvers<void>();
  let died = 0;
  await shop.start();

  const loading = runLoad({
    url: shop.url,
    paymentsUrl: shop.paymentsUrl,
    mailUrl: shop.mailUrl,
    orders: 100_000,
    concurrency,
    seed,
    stopWhen: () => died === deaths,
    onProgress: () => answered.resolve(),
    ...rest,
  });
  const dying = (async () => {
    await Promise.race([answered.promise, loading]);
    underLoad?.();
    while (died < deaths) {
      await new Promise((resolve) => setTimeout(resolve, livesMs.min + chance() * (livesMs.max - livesMs.min)));
      await shop.kill();
      await afterDeath?.(died);
      await startAsSupervised(shop);
      died++;
    }
  })();
  dying.catch(() => {
    died = deaths;
  });
  const [report] = await Promise.all([loading, dying]);
  return { ...report, deaths: died };
}

/** As whatever supervises it would: when it ends because its store is not back yet, it is started again, for a minute. */
export async function startAsSupervised(one: { start(): Promise<unknown> }): Promise<void> {
  for (const untilMs = performance.now() + 60_000; ;) {
    try {
      await one.start();
      return;
    } catch (error) {
      if (!(error as Error).message.includes("store.unreachable") || performance.now() > untilMs) throw error;
    }
  }
}

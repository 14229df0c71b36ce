/** What goes wrong, and when: what the dependency, its callers and the judge agree on. Times are milliseconds since the start that all were given. */

export const troubles = ["rush", "brown-out", "slow", "hang", "stall"] as const;
export type Trouble = (typeof troubles)[number];

/** As many calls at once go at full speed; more of them slow each other down, and all together get less done. */
export const knee = 16;
export const serviceMs = 80;
const thrash = 0.3;

export const forMs = 18_000;
export const [fromMs, untilMs] = [4_000, 9_000];
export const isWrong = (atMs: number): boolean => atMs >= fromMs && atMs < untilMs;

/** Calls a second: what people wait for, of which a third of the dependency can still do all, and what is only fetched ahead, which grows twelve-fold in a rush. */
export const perSecond = (trouble: Trouble, atMs: number): { readonly critical: number; readonly prefetch: number } => ({
  critical: 50,
  prefetch: trouble === "rush" && isWrong(atMs) ? 12 * 90 : 90,
});

/** How long a call takes that begins with so many others at work; `undefined`: it is not answered. */
export function takesMs(trouble: Trouble | undefined, atMs: number, active: number, chance: number): number | undefined {
  const wrong = isWrong(atMs) ? trouble : undefined;
  if (wrong === "hang") return undefined;
  const most = wrong === "brown-out" ? knee / 3 : wrong === "slow" ? 3 * knee : knee;
  const over = Math.max(0, active - most) / most;
  return serviceMs * (0.5 + chance) * (wrong === "slow" ? 3 : 1) * (1 + over) * (1 + thrash * over);
}

/** What could be done in a second by whoever knew what the dependency can do. */
export function possible(trouble: Trouble, atMs: number): number {
  const asked = perSecond(trouble, atMs);
  const usual = (1_000 / serviceMs) * knee;
  const most = isWrong(atMs) && trouble === "brown-out" ? usual / 3 : isWrong(atMs) && trouble === "hang" ? 0 : usual;
  return Math.min(most, asked.critical + asked.prefetch);
}

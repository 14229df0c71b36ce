/** What an engine gives and what it costs, as data: `trestle plan` compares two of them before a URL is changed. */
export interface EngineProfile {
  readonly engine: string;
  /** Ids of the guarantees it provides. */
  readonly guarantees: readonly string[];
  /** What an operation costs, in words; the same names on every engine. Figures with their commands are in benchmarks/. */
  readonly costs: Readonly<Record<EngineCost, string>>;
}
export const engineCosts = ["commit", "read by key", "job", "processes", "change notices", "transaction", "backup", "clock"] as const;
export type EngineCost = (typeof engineCosts)[number];

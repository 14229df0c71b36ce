/**
 * What every queue of `queue-peers` must be able to do, through its public API only. A contender runs in processes of its own; who fills
 * a queue, who works on it and who sends at a steady rate are different processes, as they would be in a fleet.
 */
export interface Job {
  readonly n: number;
  /** When it was sent, on the machine's monotonic clock, in milliseconds. */
  readonly sentMs: number;
  readonly text: string;
}

export interface Servers {
  readonly postgres: string;
  /** Where the machine has a Redis. */
  readonly redis?: string | undefined;
  /** An empty directory that outlives a process, for embedded stores. */
  readonly directory: string;
}

export interface Opened {
  /** Resolves when the library says that the job will not be lost. */
  send(job: Job): Promise<void>;
  /** The library's fastest public way to send many. */
  sendMany(jobs: readonly Job[]): Promise<void>;
  work(handler: (job: Job) => void): Promise<void>;
  /**
   * Works, and writes one row per job into a table of the same server: with the job's end where the library can do that, before it otherwise.
   * That is what a user's handler would do.
   */
  workWithEffect(effect: (n: number) => Promise<void>): Promise<void>;
  /** How often each of these jobs took effect; left out: look at the table. */
  effects?(ns: readonly number[]): Promise<ReadonlyMap<number, number>>;
  close(): Promise<void>;
}

export interface Contender {
  /** Names of the ways it is set up: as it comes, and as its documentation says it is fastest. */
  readonly settings: readonly ("default" | "tuned")[];
  /** Who keeps its jobs, for the table. */
  readonly store: "postgres" | "redis" | "sqlite";
  open(servers: Servers, setting: "default" | "tuned"): Promise<Opened>;
}

export const monotonicMs = (): number => Number(process.hrtime.bigint()) / 1e6;

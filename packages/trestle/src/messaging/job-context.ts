/** The third argument of a queue's handler: what surrounds any durable handler, and what only a job can say. */
import { WorkContext, type DurableContext, type Invocation } from "../component/index.ts";
import { durationMs, Fault, type Duration } from "../kernel/index.ts";
import { AskedEnd, type JobRun } from "./job-run.ts";

export interface JobContext extends DurableContext {
  /**
   * Stop trying, keep it for a person: `return job.dead("no such customer")`. Discards what was staged since the last recovery
   * point, like a throw.
   */
  dead(reason: string): JobEnd;
  /**
   * Not now: does not count as a failed attempt. Discards what was staged since the last recovery point. Answers of calls are kept, so
   * that nothing is done twice; what was only a question to wait for the answer of is asked once more when `again` names its step.
   */
  later(delay: Duration, why?: string | LaterOptions): JobEnd;
  /** How far it has come, for people; written at most once a second, beside the commit. */
  progress(done: number, of: number): void;
}
export interface LaterOptions {
  readonly reason?: string;
  /** Steps, by name, whose answers are thrown away: the next run makes them again, under the same keys. Nothing may have been called since. */
  readonly again?: readonly string[];
}
export type JobEnd = void | { readonly end: "dead" | "later" };

// Members are bound when looked at: handlers take the context apart.
export class JobWorkContext extends WorkContext implements JobContext {
  readonly #run: JobRun;

  constructor(invocation: Invocation, run: JobRun) {
    super(invocation);
    this.#run = run;
  }

  get dead(): JobContext["dead"] {
    return (reason): AskedEnd => new AskedEnd("dead", { reason });
  }
  get later(): JobContext["later"] {
    return (delay, why = {}): AskedEnd =>
      new AskedEnd("later", { delayMs: durationMs(delay, "job.later: delay"), ...(typeof why === "string" ? { reason: why } : why) });
  }
  get progress(): JobContext["progress"] {
    return (done, of) => {
      if (!(Number.isFinite(done) && Number.isFinite(of) && of >= 0))
        throw Fault.create("job.bad-progress", `progress takes two numbers, how much of how much; got ${done} of ${of}`, "Report numbers.");
      this.#run.progress(done, of);
    };
  }
}

/** schedule: a handler that runs by the clock. Once per tick in the whole fleet; a tick and its effect are one commit. */
import {
  declareComponent,
  type Component,
  type DurableContext,
  type Handles,
  type Inherit,
  type NodePart,
  type NodeServices,
  type Uses,
  type WorkSpec,
} from "../component/index.ts";
import { durationMs, Fault, type Cron, type Duration } from "../kernel/index.ts";
import type { Handling } from "./job-run.ts";
import { retryOf } from "./retry.ts";
import { Ticker, type Tick, type TickerSpec } from "./ticker.ts";
import { ticksOf, type Rhythm } from "./ticks.ts";
import { Worker } from "./worker.ts";

export function schedule<U extends Uses = {}>(
  name: string,
  spec: ScheduleSpec<U>,
  handler: (tick: Tick, uses: Handles<U>, context: DurableContext) => void | Promise<void>,
): Schedule & Inherit<U> {
  const {
    overlap = "skip",
    missed = "once",
    uses,
    role = "worker",
    timeout = "30s",
    cron: _cron,
    zone: _zone,
    every: _every,
    ...annotations
  } = spec as ScheduleSpec<U> & { readonly cron?: Cron; readonly zone?: string; readonly every?: Duration };
  const of = `schedule "${name}"`;
  if (!["skip", "queue", "allow"].includes(overlap))
    throw Fault.create("schedule.bad-option", `${of}: overlap must be "skip", "queue" or "allow", got ${JSON.stringify(overlap)}`, "Choose one of them.");
  if (!["once", "each", "drop"].includes(missed))
    throw Fault.create("schedule.bad-option", `${of}: missed must be "once", "each" or "drop", got ${JSON.stringify(missed)}`, "Choose one of them.");
  const ticks = ticksOf(spec as Rhythm, of);
  const timeoutMs = durationMs(timeout, `${of}: timeout`);
  const component: Schedule = declareComponent<Schedule>("schedule", name, {
    annotations,
    uses: uses ?? {},
    edge: "call",
    role,
    part: (node) =>
      new ScheduleWork(
        node,
        { schedule: component, ticks, overlap, missed },
        {
          component,
          queue: name,
          uses,
          timeoutMs,
          concurrency: 16,
          retry: retryOf(undefined, of),
          exhausted: "dead",
          operation: () => "",
          handle: (tick, handles, context) => (handler as (tick: unknown, uses: object, context: DurableContext) => unknown)(tick, handles, context),
        },
      ),
  });
  return component as Schedule & Inherit<U>;
}

export type ScheduleSpec<U extends Uses> = WorkSpec<U> & {
  /** A tick that finds the last one still running, waiting or about to be tried again. Default `skip`. */
  readonly overlap?: "skip" | "queue" | "allow";
  /** Ticks missed while nothing ran. Default `once`: one run, for the latest of them. `drop`: none that is more than a minute late. */
  readonly missed?: "once" | "each" | "drop";
} & (
    | {
        readonly cron: Cron;
        /** IANA name; default `UTC`. */
        readonly zone?: string;
      }
    | {
        /** At least 10ms. */
        readonly every: Duration;
      }
  );

export interface Schedule extends Component<"schedule"> {}
export type { Tick } from "./ticker.ts";

class ScheduleWork implements NodePart {
  readonly name: string;
  readonly #ticker: Ticker;
  readonly #worker: Worker;

  constructor(node: NodeServices, spec: TickerSpec, handling: Handling) {
    this.name = `schedule ${spec.schedule.name}`;
    this.#ticker = new Ticker(node, spec);
    this.#worker = new Worker(node, handling);
  }

  async start(): Promise<void> {
    await this.#worker.start();
    await this.#ticker.start();
  }
  drain(withinMs: number): Promise<void> {
    return this.#worker.drain(withinMs);
  }
  async stop(): Promise<void> {
    await this.#worker.stop();
    this.#ticker.stop();
  }
  idle(): Promise<boolean> {
    return this.#worker.idle();
  }
}

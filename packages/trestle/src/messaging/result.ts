/**
 * What a job answered: a record beside the job, written by the commit that ends it and kept for a time. Whoever waits is woken by
 * the change of that record; nothing is polled.
 */
import { changesOf, decode, encode, parse, type Invocation, type Schema } from "../component/index.ts";
import { Fault, linkSignals } from "../kernel/index.ts";
import { storeKey, type JobId, type JobRow, type JobState, type StoreKey, type Write } from "../store/index.ts";

export type JobResult<Result> =
  | { readonly ok: true; readonly value: Result }
  /** It is kept for a person, who may put it back. */
  | { readonly ok: false; readonly refused: "failed"; readonly state: "dead" | "parked" | "undetermined"; readonly error: string }
  /** It has not ended within the time. */
  | { readonly ok: false; readonly refused: "pending"; readonly state: "waiting" | "running" }
  /** It was cancelled or never sent, or its result is not kept any more. */
  | { readonly ok: false; readonly refused: "unknown" };

/** What a handler's answer becomes; see `JobRun.conclude`. */
export class Returned {
  readonly value: Uint8Array;
  constructor(value: Uint8Array) {
    this.value = value;
  }
}

interface Stored {
  readonly value?: unknown;
  /** It ended without a value. */
  readonly failed?: true;
}

const failed = encode({ failed: true } satisfies Stored, "result");

export function resultKey(tenant: string | undefined, job: JobId): StoreKey {
  return storeKey("~result", tenant, job);
}

/** Checks it against the queue's `returns`. Faults: `payload.invalid`. */
export function returned(schema: Schema, answer: unknown, what: string): Returned | Promise<Returned> {
  const parsed = parse(schema, answer);
  const done = (result: Awaited<typeof parsed>): Returned => {
    if (!result.ok)
      throw Fault.create(
        "payload.invalid",
        `${what} does not fit its schema: ${result.issues.map(({ path, message }) => `${path} ${message}`).join("; ")}`,
        "Return what `returns` accepts.",
        {
          details: { issues: result.issues },
        },
      );
    return new Returned(encode({ value: answer } satisfies Stored, what));
  };
  return parsed instanceof Promise ? parsed.then(done) : done(parsed);
}

/** `undefined`: it did not end with a value, and whoever waits is told so. */
export function resultWrite(tenant: string | undefined, job: JobId, value: Uint8Array | undefined, expiresAtMs: number): Write {
  return { kind: "put", key: resultKey(tenant, job), value: value ?? failed, expiresAtMs };
}

export interface Waiting {
  readonly queue: string;
  readonly job: JobId;
  readonly schema: Schema;
  readonly withinMs: number;
  /** The row of the job as it stands. */
  readonly row: () => Promise<JobRow | undefined>;
}

/** Looks, and looks again whenever the result changes, until there is one or the time is over. */
export async function awaitResult(invocation: Invocation, { queue, job, schema, withinMs, row }: Waiting): Promise<JobResult<unknown>> {
  const { node, frame } = invocation;
  const key = resultKey(invocation.tenant, job);
  const over = new AbortController();
  using ends = linkSignals(frame.signal, node.draining, over.signal);
  const look = async (): Promise<JobResult<unknown>> => {
    for (let again = false; ; again = true) {
      const [record] = await node.store.read.records([key]);
      const stored = record && (decode(record.value) as Stored);
      if (stored && !stored.failed) return { ok: true, value: await valueOf(schema, stored.value, `result of queue "${queue}"`) };
      const found = await row();
      if (found) return standing(found);
      // It may have ended between the two looks.
      if (again || stored) return { ok: false, refused: "unknown" };
    }
  };
  const timer = withinMs > 0 ? node.clock.after(withinMs, () => over.abort()) : undefined;
  try {
    if (withinMs > 0)
      for await (const _ of changesOf(node.store, (changed) => changed === key, ends.signal)) {
        const result = await look();
        if (result.ok || result.refused !== "pending") return result;
      }
    return await look();
  } finally {
    timer?.cancel();
  }
}

function standing({ state, error }: JobRow): JobResult<never> {
  const pending: Partial<Record<JobState, "waiting" | "running">> = { waiting: "waiting", running: "running" };
  const now = pending[state];
  if (now) return { ok: false, refused: "pending", state: now };
  if (state === "done") return { ok: false, refused: "unknown" };
  return { ok: false, refused: "failed", state: state as "dead" | "parked" | "undetermined", error: error ?? "" };
}

async function valueOf(schema: Schema, stored: unknown, what: string): Promise<unknown> {
  const parsed = await parse(schema, stored);
  if (parsed.ok) return parsed.value;
  throw Fault.create("payload.invalid", `the ${what} does not fit its schema any more`, "Let the schema accept what was returned before.", {
    details: { issues: parsed.issues },
  });
}

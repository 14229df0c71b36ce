/**
 * How far a running job has come, for people: a small record beside the job, written at most once a second and removed with the
 * job's end. It is not part of the handler's commit, so it is seen while the handler runs; it may be lost.
 */
import { decode, encode, type NodeServices } from "../component/index.ts";
import type { Timer } from "../kernel/index.ts";
import { storeKey, type Claim, type JobId, type Reader, type StoreKey } from "../store/index.ts";

export interface Progress {
  readonly done: number;
  readonly of: number;
}

const everyMs = 1_000;
/** A job that died without removing it leaves it this long. */
const keptMs = 3_600_000;

export function progressKey(job: JobId): StoreKey {
  return storeKey("~progress", undefined, job);
}

/** What these jobs last reported, in the order asked for. */
export async function readProgress(read: Pick<Reader, "records">, jobs: readonly JobId[]): Promise<readonly (Progress | undefined)[]> {
  return (await read.records(jobs.map(progressKey))).map((row) => row && (decode(row.value) as Progress));
}

export class ProgressReport {
  readonly #node: NodeServices;
  readonly #claim: Claim;
  #latest: Progress | undefined;
  #pause: Timer | undefined;
  #ended = false;

  constructor(node: NodeServices, claim: Claim) {
    this.#node = node;
    this.#claim = claim;
  }

  report(done: number, of: number): void {
    if (this.#ended) return;
    this.#latest = { done, of };
    if (!this.#pause) this.#write();
  }

  end(): void {
    this.#ended = true;
    this.#pause?.cancel();
  }

  #write(): void {
    if (!this.#latest || this.#ended) return;
    const value = encode(this.#latest, "progress of a job");
    this.#latest = undefined;
    this.#pause = this.#node.clock.after(everyMs, () => {
      this.#pause = undefined;
      this.#write();
    });
    const { id, fence } = this.#claim;
    this.#node.store
      .commit({
        id: this.#node.ids.next(),
        expects: [{ kind: "claim", job: id, fence }],
        writes: [{ kind: "put", key: progressKey(id), value, expiresAtMs: Math.ceil(this.#node.storeClock.latestMs()) + keptMs }],
      })
      .catch(() => undefined); // the next report, or none: nothing rests on it
  }
}

/** The order of docs/concepts/queue.md as a program of arrays: every line is a list, and the head is its first member. */
import type { JobEnd } from "../store/index.ts";

export interface ModelJob {
  readonly name: string;
  readonly key: string | undefined;
  readonly priority: number;
  readonly unique: string | undefined;
  state: "scheduled" | "joined" | "running" | "retrying" | "parked" | "undetermined" | "dead";
  dueAtMs: number;
  readonly seq: number;
  /** Place among the lines. */
  place: number;
  attempt: number;
  leaseUntilMs: number;
  cancelled: boolean;
  /** Which of its claims holds. */
  claim: number;
}

export class QueueModel {
  readonly #jobs = new Map<string, ModelJob>();
  /** The members of each key, head first. Members: all that have joined and are not done, dead or cancelled. */
  readonly #lines = new Map<string, ModelJob[]>();
  #counter = 0;
  #claims = 0;
  nowMs = 0;

  #line(job: ModelJob): ModelJob[] {
    // A job without a key is a line of its own.
    const name = job.key === undefined ? `\u0000${job.name}` : job.key;
    let line = this.#lines.get(name);
    if (!line) this.#lines.set(name, (line = []));
    return line;
  }
  #leave(job: ModelJob): void {
    const line = this.#line(job);
    const at = line.indexOf(job);
    if (at >= 0) line.splice(at, 1);
  }

  /** What falls due joins: by due time, then by order of sending. */
  tick(nowMs: number): void {
    this.nowMs = nowMs;
    const due = [...this.#jobs.values()]
      .filter((job) => (job.state === "scheduled" || job.state === "retrying") && job.dueAtMs <= nowMs)
      .sort((a, b) => a.dueAtMs - b.dueAtMs || a.seq - b.seq);
    for (const job of due) {
      if (job.state === "scheduled") this.#line(job).push(job);
      job.state = "joined";
      job.place = ++this.#counter;
    }
  }

  send(name: string, options: { key?: string; priority: number; unique?: string; dueAtMs?: number }): void {
    if (
      options.unique !== undefined &&
      [...this.#jobs.values()].some((job) => job.unique === options.unique && ["scheduled", "joined", "retrying"].includes(job.state))
    )
      return;
    const seq = ++this.#counter;
    const dueAtMs = Math.max(options.dueAtMs ?? this.nowMs, this.nowMs);
    const job: ModelJob = {
      name,
      key: options.key,
      priority: options.priority,
      unique: options.unique,
      state: dueAtMs > this.nowMs ? "scheduled" : "joined",
      dueAtMs,
      seq,
      place: seq,
      attempt: 0,
      leaseUntilMs: 0,
      cancelled: false,
      claim: 0,
    };
    this.#jobs.set(name, job);
    if (job.state === "joined") this.#line(job).push(job);
  }

  claim(limit: number, leaseMs: number): { name: string; attempt: number; claim: number }[] {
    for (const job of this.#jobs.values()) {
      if (job.state !== "running" || job.leaseUntilMs > this.nowMs) continue;
      if (job.cancelled) this.#remove(job);
      else job.state = "joined";
    }
    const heads = [...this.#lines.values()]
      .flatMap((line) => (line[0]?.state === "joined" ? [line[0]] : []))
      .sort((a, b) => a.priority - b.priority || a.place - b.place);
    return heads.slice(0, limit).map((job) => {
      job.state = "running";
      job.attempt++;
      job.leaseUntilMs = this.nowMs + leaseMs;
      job.claim = ++this.#claims;
      return { name: job.name, attempt: job.attempt, claim: job.claim };
    });
  }

  holds(name: string, claim: number): boolean {
    const job = this.#jobs.get(name);
    return job?.state === "running" && job.claim === claim;
  }

  /** Answers whether the claim held. */
  end(name: string, claim: number, end: JobEnd): boolean {
    if (!this.holds(name, claim)) return false;
    const job = this.#jobs.get(name) as ModelJob;
    if (end.kind === "done" || (job.cancelled && (end.kind === "retry" || end.kind === "later"))) this.#remove(job);
    else if (end.kind === "retry" || end.kind === "later") {
      job.state = end.dueAtMs > this.nowMs ? "retrying" : "joined";
      job.dueAtMs = Math.max(end.dueAtMs, this.nowMs);
      job.place = ++this.#counter;
      if (end.kind === "later") job.attempt--;
    } else {
      job.state = end.kind;
      if (end.kind === "dead") this.#leave(job);
    }
    return true;
  }

  extend(name: string, claim: number, leaseMs: number): boolean {
    const job = this.#jobs.get(name);
    if (!this.holds(name, claim) || job?.cancelled) return false;
    (job as ModelJob).leaseUntilMs = this.nowMs + leaseMs;
    return true;
  }

  cancel(name: string): void {
    const job = this.#jobs.get(name);
    if (job?.state === "running") job.cancelled = true;
    else if (job) this.#remove(job);
  }

  redrive(name: string): void {
    const job = this.#jobs.get(name);
    if (!job || !["dead", "parked", "undetermined"].includes(job.state)) return;
    if (job.state === "dead") this.#line(job).push(job);
    job.state = "joined";
    job.dueAtMs = this.nowMs;
    job.place = ++this.#counter;
    job.attempt = 0;
    job.cancelled = false;
  }

  states(): Record<string, number> {
    const counts: Record<string, number> = { waiting: 0, running: 0, dead: 0, parked: 0, undetermined: 0 };
    for (const { state } of this.#jobs.values()) {
      const name = state === "scheduled" || state === "joined" || state === "retrying" ? "waiting" : state;
      counts[name] = (counts[name] ?? 0) + 1;
    }
    return counts;
  }

  #remove(job: ModelJob): void {
    this.#leave(job);
    this.#jobs.delete(job.name);
  }
}

/** The order of docs/concepts/queue.md as a program of arrays: every line is a list, and the head is its first member. */
import type { JobEnd, QueuePolicy } from "../store/index.ts";

export interface ModelJob {
  readonly name: string;
  readonly key: string | undefined;
  readonly priority: number;
  readonly unique: string | undefined;
  group: string | undefined;
  startByMs: number;
  readonly sentAtMs: number;
  /** It has been handed out before. */
  tried: boolean;
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
  /** Who was served last, and how many it may still take in its turn. */
  #turn: { readonly group: string | undefined; left: number } | undefined;
  nowMs = 0;
  paused = false;

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

  send(
    name: string,
    options: {
      key?: string;
      priority: number;
      unique?: string;
      dueAtMs?: number;
      group?: string;
      startByMs?: number;
      replace?: { readonly atMostMs?: number };
    },
  ): void {
    let sentAtMs = this.nowMs;
    let dueAtMs = Math.max(options.dueAtMs ?? this.nowMs, this.nowMs);
    const twins = [...this.#jobs.values()].filter(
      (job) => options.unique !== undefined && job.unique === options.unique && ["scheduled", "joined", "retrying"].includes(job.state),
    );
    if (options.replace) {
      const first = twins.findLast((job) => !job.tried);
      if (first) {
        sentAtMs = first.sentAtMs;
        dueAtMs = Math.max(this.nowMs, Math.min(dueAtMs, sentAtMs + (options.replace.atMostMs ?? Infinity)));
        this.#remove(first);
      }
    } else if (twins.length > 0) return;
    const seq = ++this.#counter;
    const job: ModelJob = {
      name,
      key: options.key,
      priority: options.priority,
      unique: options.unique,
      group: options.group,
      startByMs: options.startByMs ?? Infinity,
      sentAtMs,
      tried: false,
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

  /** One at a time: who may go next, by turn, then by priority and place. */
  claim(limit: number, leaseMs: number, policy: QueuePolicy = {}): { name: string; attempt: number; claim: number }[] {
    for (const job of this.#jobs.values()) {
      if (job.state !== "running" || job.leaseUntilMs > this.nowMs) continue;
      if (job.cancelled) this.#remove(job);
      else job.state = "joined";
    }
    const counted = policy.concurrency !== undefined || policy.perGroup !== undefined || policy.weights !== undefined;
    const taken: { name: string; attempt: number; claim: number }[] = [];
    while (taken.length < limit && !this.paused) {
      const running = [...this.#jobs.values()].filter(({ state }) => state === "running");
      if (running.length >= (policy.concurrency ?? Infinity)) break;
      const mayGo = (group: string | undefined) =>
        running.filter((job) => (job.group ?? "") === (group ?? "")).length < (policy.perGroup?.concurrency ?? Infinity);
      const heads = [...this.#lines.values()].flatMap((line) => (line[0]?.state === "joined" && mayGo(line[0].group) ? [line[0]] : []));
      const group = this.#nextGroup(new Set(heads.map((job) => job.group)));
      if (!group) break;
      const [job] = heads.filter((head) => head.group === group.name).sort((a, b) => a.priority - b.priority || a.place - b.place) as [ModelJob];
      if (job.startByMs < this.nowMs) {
        job.state = "dead";
        this.#leave(job);
        continue;
      }
      const weight = policy.weights?.[group.name ?? ""] ?? 1;
      this.#turn = { group: group.name, left: (group.again && this.#turn ? this.#turn.left : weight) - 1 };
      if (counted) job.group ??= "";
      job.state = "running";
      job.tried = true;
      job.attempt++;
      job.leaseUntilMs = this.nowMs + leaseMs;
      job.claim = ++this.#claims;
      taken.push({ name: job.name, attempt: job.attempt, claim: job.claim });
    }
    return taken;
  }

  /** Of these, whoever was served last while its turn lasts, else the next name. */
  #nextGroup(open: ReadonlySet<string | undefined>): { readonly name: string | undefined; readonly again: boolean } | undefined {
    if (open.size === 0) return undefined;
    const last = this.#turn;
    if (last && last.left > 0 && open.has(last.group)) return { name: last.group, again: true };
    const isAfter = (a: string, b: string) => Buffer.compare(Buffer.from(a), Buffer.from(b)) > 0;
    const names = [...open].filter((name) => name !== undefined).sort((a, b) => (isAfter(a, b) ? 1 : -1));
    const later = last && names.find((name) => last.group === undefined || isAfter(name, last.group));
    return { name: later ?? (open.has(undefined) ? undefined : names[0]), again: false };
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
    job.startByMs = Infinity;
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

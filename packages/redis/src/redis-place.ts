/**
 * Buckets in Redis: one key for each, and one call of a script for each draw, decided by the server's clock.
 *
 * Draws that are made in one turn of the event loop are written at once. A script that the server has forgotten (a restart, `SCRIPT FLUSH`) is sent again in full. While the server is away a draw
 * fails at once, so the limit's policy answers; the client goes on connecting, after 50 ms to 1 s. Before the first connection draws wait for it, as long as the limit lets them.
 */
import { readFileSync } from "node:fs";
import { Cluster, Redis } from "ioredis";
import type { Draw, Drawn, LimitPlace, LimitPlaceOptions } from "trestle/limits";
import { Fault, type Clock } from "trestle/kernel";

const seenEveryMs = 10_000;
/** Of those that start together, too, each knows the others soon. */
const seenAgainMs = 1_000;
const seenForMs = 30_000;
/** A command without an answer has failed. Limits wait less (`within`); this is for what they no longer wait for. */
const answerWithinMs = 2_000;

const script = (name: string): string => readFileSync(new URL(`./${name}.lua`, import.meta.url), "utf8");

/** Runs the two scripts, by their digests. */
interface Scripts {
  trestleDraw(key: string, ...of: readonly number[]): Promise<[granted: string, taken: string]>;
  trestleSeen(key: string, id: string, forMs: number): Promise<number>;
}

interface Batch {
  trestleDraw(
    key: string,
    ...of: readonly [...numbers: readonly number[], told: (error: Error | null | undefined, drawn: [granted: string, taken: string]) => void]
  ): unknown;
}

/** `redis://user:password@host:port/database`, `rediss://` for TLS; `?cluster=true` finds the nodes of a cluster from there. Faults: `limits.url-unknown`. */
export function openLimits(options: LimitPlaceOptions): LimitPlace {
  return new RedisPlace(options);
}

class RedisPlace implements LimitPlace {
  processes = 1;
  readonly #client: (Redis | Cluster) & Scripts;
  readonly #clock: Clock;
  readonly #id: string;
  readonly #prefix: string;
  #batch: Batch | undefined;
  /** Set until the first connection stands. */
  #connecting: Promise<void> | undefined;
  #seeAtMs = 0;
  #sawBefore = false;

  constructor({ url, app, id, clock }: LimitPlaceOptions) {
    this.#client = clientOf(url);
    this.#clock = clock;
    this.#id = id;
    this.#prefix = `trestle:${app}:`;
    // Draws are told; this event would otherwise be an exception that nobody catches.
    this.#client.on("error", () => undefined);
    this.#connecting = new Promise((resolve) => {
      this.#client.once("ready", () => {
        this.#connecting = undefined;
        resolve();
      });
    });
  }

  async draw({ key, perMs, burst, least, wanted, back }: Draw): Promise<Drawn> {
    if (this.#connecting) await this.#connecting;
    this.#beSeen();
    const [granted, taken] = await this.#run(`${this.#prefix}limit:${key}`, 1_000 / perMs, burst, least, wanted, back);
    return { granted: Number(granted), taken: Number(taken) };
  }

  /** A pipeline for all draws of a turn costs half of what the client's own batching does, which a cluster needs: it knows which node has which key. */
  #run(key: string, ...of: readonly number[]): Promise<[granted: string, taken: string]> {
    if (this.#client instanceof Cluster) return this.#client.trestleDraw(key, ...of);
    const batch = (this.#batch ??= this.#newBatch(this.#client));
    return new Promise((resolve, reject) => batch.trestleDraw(key, ...of, (error, drawn) => (error ? reject(error) : resolve(drawn))));
  }
  #newBatch(client: Redis): Batch {
    const batch = client.pipeline();
    void Promise.resolve().then(() => {
      this.#batch = undefined;
      // What fails is told to each draw.
      return batch.exec().catch(() => undefined);
    });
    return batch as typeof batch & Batch;
  }

  /** Beside the draw that it comes with: nobody waits for it, and what fails is tried again with a later one. */
  #beSeen(): void {
    const nowMs = this.#clock.monotonicMs();
    if (nowMs < this.#seeAtMs) return;
    this.#seeAtMs = nowMs + (this.#sawBefore ? seenEveryMs : seenAgainMs);
    this.#sawBefore = true;
    this.#client.trestleSeen(`${this.#prefix}processes`, this.#id, seenForMs).then(
      (count) => (this.processes = Math.max(1, count)),
      () => undefined,
    );
  }

  async close(): Promise<void> {
    this.#client.disconnect();
  }
}

function clientOf(text: string): (Redis | Cluster) & Scripts {
  const url = parsed(text);
  const cluster = url.searchParams.get("cluster") === "true";
  const at = { host: url.hostname.replace(/^\[|\]$/g, ""), port: Number(url.port || 6379) };
  const own = {
    db: Number(url.pathname.slice(1) || 0),
    ...(url.username && { username: decodeURIComponent(url.username) }),
    ...(url.password && { password: decodeURIComponent(url.password) }),
    ...(url.protocol === "rediss:" && { tls: {} }),
    commandTimeout: answerWithinMs,
    connectTimeout: answerWithinMs,
    maxRetriesPerRequest: 0,
  };
  const again = (attempt: number) => Math.min(1_000, 25 * 2 ** Math.min(attempt, 10));
  const both = {
    enableOfflineQueue: false,
    scripts: { trestleDraw: { lua: script("draw"), numberOfKeys: 1 }, trestleSeen: { lua: script("seen"), numberOfKeys: 1 } },
  };
  const client = cluster
    ? new Cluster([at], { redisOptions: own, clusterRetryStrategy: again, enableAutoPipelining: true, ...both })
    : new Redis({ ...at, ...own, retryStrategy: again, ...both });
  return client as typeof client & Scripts;
}

/** A cluster has one database, and knows no other parameter than that it is one. */
function isKnown({ searchParams, pathname }: URL): boolean {
  if ([...searchParams.keys()].some((name) => name !== "cluster") || !["true", "false", null].includes(searchParams.get("cluster"))) return false;
  return searchParams.get("cluster") !== "true" || Number(pathname.slice(1) || 0) === 0;
}

function parsed(text: string): URL {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  if (url !== undefined && (url.protocol === "redis:" || url.protocol === "rediss:") && url.hostname !== "" && /^(\/\d*)?$/.test(url.pathname) && isKnown(url))
    return url;
  throw Fault.create(
    "limits.url-unknown",
    "counters must be a URL like redis://host:6379/0, rediss://host or redis://host?cluster=true",
    "Name the server by such a URL, or leave it out: limits are then counted in the store.",
  );
}

/**
 * Buckets in Redis: one key for each, decided by a script and the server's clock.
 *
 * Draws that are made in one turn of the event loop share calls of the script: most of what a draw costs, here and there, is the call. In a cluster each has its own, because their keys are on different nodes. A
 * script that the server has forgotten (a restart, `SCRIPT FLUSH`) is sent again in full.
 *
 * While the server is away a draw fails at once, so the limit's policy answers; the client goes on connecting, after 50 ms to 1 s. Draws that come before the first attempt to connect has ended wait
 * for that.
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

/** Draws in one call of the script. With more of them server and client wait for one another: 64 callers get 88,000 a second with 32, 107,000 with 16, 93,000 with 8 (`npm run bench -- rate-limit-fleet`). */
const drawsMax = 16;

/** Runs the two scripts, by their digests. */
interface Scripts {
  trestleDraw(keys: number, ...of: readonly (string | number)[]): Promise<readonly number[]>;
  trestleSeen(keys: number, key: string, id: string, forMs: number): Promise<number>;
}

/** Who waits for a draw. */
interface Asked {
  readonly draw: Draw;
  readonly drawn: (drawn: Drawn) => void;
  readonly failed: (cause: unknown) => void;
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
  /** Those of this turn. */
  #asked: Asked[] = [];
  /** Set until the first attempt to connect has ended. */
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
    this.#connecting = this.#firstAttempt();
  }

  draw(draw: Draw): Promise<Drawn> {
    return new Promise((drawn, failed) => {
      if (this.#asked.push({ draw, drawn, failed }) === 1) void Promise.resolve(this.#connecting).then(() => this.#send());
    });
  }

  #send(): void {
    const asked = this.#asked;
    this.#asked = [];
    this.#beSeen();
    const atOnce = this.#client instanceof Cluster ? 1 : drawsMax;
    for (let from = 0, to; from < asked.length; from = to) {
      const { perMs, burst } = (asked[from] as Asked).draw;
      for (to = from + 1; to < asked.length && to < from + atOnce; to++) {
        const { draw } = asked[to] as Asked;
        if (draw.perMs !== perMs || draw.burst !== burst) break;
      }
      this.#run(asked.slice(from, to), perMs, burst);
    }
  }

  #run(asked: readonly Asked[], perMs: number, burst: number): void {
    const of: (string | number)[] = asked.map(({ draw }) => `${this.#prefix}limit:${draw.key}`);
    of.push(1_000 / perMs, burst);
    for (const { draw } of asked) of.push(draw.least === draw.wanted && draw.back === 0 ? draw.wanted : `${draw.wanted} ${draw.least} ${draw.back}`);
    this.#client.trestleDraw(asked.length, ...of).then(
      (answer) => tell(asked, perMs, answer),
      (cause: unknown) => asked.forEach(({ failed }) => failed(cause)),
    );
  }

  #firstAttempt(): Promise<void> {
    return new Promise((resolve) => {
      const ended = () => {
        this.#connecting = undefined;
        timer.cancel();
        resolve();
      };
      const timer = this.#clock.after(answerWithinMs, ended);
      this.#client.once("ready", ended).once("close", ended);
    });
  }

  /** Beside the draw that it comes with: nobody waits for it, and what fails is tried again with a later one. */
  #beSeen(): void {
    const nowMs = this.#clock.monotonicMs();
    if (nowMs < this.#seeAtMs) return;
    this.#seeAtMs = nowMs + (this.#sawBefore ? seenEveryMs : seenAgainMs);
    this.#sawBefore = true;
    this.#client.trestleSeen(1, `${this.#prefix}processes`, this.#id, seenForMs).then(
      (count) => (this.processes = Math.max(1, count)),
      () => undefined,
    );
  }

  async close(): Promise<void> {
    this.#client.disconnect();
  }
}

/** What the script has answered: see there. */
function tell(asked: readonly Asked[], perMs: number, answer: readonly number[]): void {
  let parts = asked.length;
  asked.forEach(({ draw, drawn }, nth) => {
    const us = answer[nth] as number;
    if (us >= 0) drawn({ granted: draw.wanted, taken: (us / 1_000) * perMs });
    else drawn({ granted: (answer[parts++] as number) / 1e6, taken: ((-1 - us) / 1_000) * perMs });
  });
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
    scripts: { trestleDraw: { lua: script("draw") }, trestleSeen: { lua: script("seen") } },
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

/** The thread of a store's heartbeats: it keeps, or takes back, what the holders of its process have claimed, over a connection of its own. */
import { parentPort, workerData } from "node:worker_threads";
import { systemClock, systemRandom } from "trestle/kernel";
import { watch, type HeartbeatOptions } from "trestle/store";
import { openPool } from "./sessions.ts";

export interface HeartbeatData {
  readonly url: string;
  readonly schema: string;
  readonly answerWithinMs: number;
  /** The store's time is the holder's, and not the server's: for tests. */
  readonly holdersTime: boolean;
}
export type ToHeartbeats = { readonly watch: number; readonly heartbeat: HeartbeatOptions } | { readonly stop: number };
export interface FromHeartbeats {
  /** A batch that took claims back, with the queues that have work again. */
  readonly released: { readonly epoch: number; readonly n: number; readonly queues: readonly string[] };
}

const { url, schema, answerWithinMs, holdersTime } = workerData as HeartbeatData;
const port = parentPort as NonNullable<typeof parentPort>;
const pool = openPool({ url, name: "trestle heartbeat", size: 1, answerWithinMs, clock: systemClock, random: systemRandom });
const stops = new Map<number, () => void>();

function start(options: HeartbeatOptions): () => void {
  const { holder, leaseMs } = options;
  const storeTime = (nowMs: number) => (holdersTime ? nowMs : null);
  return watch(options, {
    clock: systemClock,
    async keep(nowMs) {
      const [made] = await pool.query<{ epoch: number; n: string }>({
        name: "keep",
        text: `select h.epoch, h.newest as n from "${schema}".keep_jobs_v1($1, $2, $3), "${schema}".read_head_v1() h`,
        values: [storeTime(nowMs), holder, Math.ceil(leaseMs)],
      });
      return made as { epoch: number; n: string };
    },
    async release(nowMs, madeUpTo) {
      for (let more = true; more;) {
        const [row] = await pool.query<{ epoch: number; n: string; queues: string[] | null; more: boolean }>({
          name: "release",
          text: `select * from "${schema}".release_jobs_v2($1, $2, $3, $4)`,
          values: [storeTime(nowMs), holder, madeUpTo.epoch, madeUpTo.n],
        });
        more = row?.more === true;
        if (row?.queues) port.postMessage({ released: { epoch: row.epoch, n: Number(row.n), queues: row.queues } } satisfies FromHeartbeats);
      }
    },
  });
}

port.on("message", (message: ToHeartbeats) => {
  if ("watch" in message) return void stops.set(message.watch, start(message.heartbeat));
  stops.get(message.stop)?.();
  stops.delete(message.stop);
});

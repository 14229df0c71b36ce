/**
 * Heartbeats: one thread for a store, with one connection, both made when the first holder asks. A thread that ends is started again, and goes on
 * with those that still beat; until then leases run as they are.
 */
import { Worker } from "node:worker_threads";
import type { Clock, Timer } from "trestle/kernel";
import { beating, type Heartbeat, type HeartbeatOptions } from "trestle/store";
import type { FromHeartbeats, HeartbeatData, ToHeartbeats } from "./heartbeat-thread.ts";
import type { Applied } from "./lane.ts";

export interface Heartbeats {
  heartbeat(holder: string, options: { readonly leaseMs: number; readonly blockedMsMax: number }): Heartbeat;
  close(): Promise<void>;
}

const startAgainMs = 1_000;

export function openHeartbeats(options: { readonly data: HeartbeatData; readonly clock: Clock; readonly applied: (batch: Applied) => void }): Heartbeats {
  const { data, clock, applied } = options;
  const watched = new Map<number, HeartbeatOptions>();
  let ids = 0;
  let worker: Worker | undefined;
  let starting: Timer | undefined;
  let closed = false;

  const tell = (message: ToHeartbeats) => worker?.postMessage(message);

  function start(): void {
    const thread = new Worker(new URL(import.meta.url.endsWith(".ts") ? "./heartbeat-thread.ts" : "./heartbeat-thread.js", import.meta.url), {
      workerData: data,
      name: "trestle-heartbeats",
      execArgv: [],
    });
    worker = thread;
    thread.unref();
    thread.on("message", ({ released }: FromHeartbeats) => {
      const { epoch, n, queues } = released;
      applied({ epoch, head: n, commits: [{ n, keys: queues.map((queue) => `q${queue}`) }] });
    });
    thread.on("error", () => undefined); // it exits as well
    thread.on("exit", () => {
      if (worker !== thread) return;
      worker = undefined;
      if (!closed) starting = clock.after(startAgainMs, start);
    });
    for (const [id, heartbeat] of watched) tell({ watch: id, heartbeat });
  }

  return {
    heartbeat: (holder, how) =>
      beating(holder, how, clock, (heartbeat) => {
        const id = ++ids;
        watched.set(id, heartbeat);
        if (!worker && !starting && !closed) start();
        else tell({ watch: id, heartbeat });
        return () => {
          watched.delete(id);
          tell({ stop: id });
        };
      }),
    async close() {
      closed = true;
      starting?.cancel();
      const thread = worker;
      worker = undefined;
      await thread?.terminate();
    },
  };
}

/** The lane in a worker thread, seen from the main thread. */
import { Fault } from "../kernel/index.ts";
import type { SqlResult } from "../store/index.ts";
import { packOne, packOperations, unpackReply, type Packed } from "./wire.ts";
import { takeThread } from "./ahead.ts";
import type { Durability } from "./connection.ts";
import { Pace } from "./pace.ts";
import { thrownOf } from "./questions.ts";
import type { FromThread, ToThread } from "./writer-thread.ts";
import type { Notice, TransactionEnd, Writer } from "./writer.ts";

interface Pending {
  readonly resolve: (answer: never) => void;
  readonly reject: (error: unknown) => void;
}

/** Opens the file in a thread, in the one that waits for this if there is one; rejects with what kept the file from being opened. */
export async function threadWriter(file: { readonly path: string; readonly durability: Durability }): Promise<Writer> {
  const worker = takeThread();
  // Answers come in the order of the questions.
  const pending: Pending[] = [];
  let epoch = 0;
  let gone: unknown;
  let closed = false;
  let heartbeats = 0;
  const pace = new Pace();

  let noticed: (notice: Notice) => void = () => undefined;

  worker.on("message", (message: FromThread) => {
    if ("change" in message || "missedSince" in message) return noticed(message);
    const waiting = pending.shift();
    if (!waiting) return; // told already that the thread had ended
    const { resolve, reject } = waiting;
    if ("failed" in message) reject(thrownOf(message.failed));
    else if ("answer" in message) resolve(message.answer as never);
    else if ("opened" in message) resolve(message.opened as never);
    else if ("closed" in message) resolve(undefined as never);
    else {
      const reply = unpackReply(message.packed, epoch);
      pace.learn(message, reply.results.length);
      resolve(reply as never);
    }
    // An idle store keeps no process alive; one that owes an answer does.
    if (pending.length === 0) worker.unref();
  });
  const lose = (cause: unknown) => {
    if (gone !== undefined) return;
    gone = cause;
    // What was on its way may have been committed.
    const fault = Fault.create(
      "commit.unknown",
      `the writer thread ended: ${(cause as Error).message}`,
      "Open the store again, and submit the same commits again.",
      { cause },
    );
    for (const { reject } of pending.splice(0)) reject(fault);
  };
  worker.on("error", lose);
  worker.on("exit", (code) => lose(new Error(`exit code ${code}`)));

  const waits = <T>() => new Promise<T>((resolve, reject) => void pending.push({ resolve: resolve as (answer: never) => void, reject }));
  function ask<T>(question: ToThread, transfer: ArrayBuffer[] = []): Promise<T> {
    if (gone !== undefined)
      return Promise.reject(Fault.create("store.closed", `the writer thread has ended: ${(gone as Error).message}`, "Open the store again.", { cause: gone }));
    worker.ref();
    const answer = waits<T>();
    worker.postMessage(question, transfer);
    return answer;
  }
  const packedTransfer = (packed: Packed | undefined): ArrayBuffer[] => (packed ? [packed.bytes] : []);

  epoch = await ask<number>({ ask: "open", ...file });
  return {
    epoch,
    batchesInFlightMax: 4,
    followersMin: () => pace.followersMin,
    apply(operations, nowMs) {
      const packed = packOperations(operations);
      return ask({ ask: "apply", packed, nowMs }, [packed.bytes]);
    },
    begin: (nowMs, withinMs) => ask({ ask: "begin", nowMs, withinMs }),
    execute: (statement) => ask<SqlResult>({ ask: "execute", statement }),
    end(commit) {
      const packed = commit && packOne(commit);
      return ask<TransactionEnd>({ ask: "end", commit: packed }, packedTransfer(packed));
    },
    abandon: () => (gone === undefined ? ask({ ask: "abandon" }) : undefined),
    notices: (listener) => void (noticed = listener),
    heartbeat(options) {
      const id = ++heartbeats;
      // Not answered. A thread that is gone says so to whoever claims.
      const tell = (message: ToThread) => void (gone === undefined && !closed && worker.postMessage(message));
      tell({ ask: "heartbeat", id, options });
      return () => tell({ ask: "stopHeartbeat", id });
    },
    async close() {
      if (closed) return;
      closed = true;
      if (gone === undefined) await ask({ ask: "close" });
      await worker.terminate();
    },
  };
}

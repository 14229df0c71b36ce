/** The lane in a worker thread, of this process or of another one, seen from the main thread: the thread finds out which, and `client.ts` asks it. */
import { Fault, systemClock, systemRandom } from "../kernel/index.ts";
import type { SqlResult } from "../store/index.ts";
import { takeThread } from "./ahead.ts";
import { Client } from "./client.ts";
import type { Durability } from "./connection.ts";
import { toFault } from "./operation.ts";
import { Pace } from "./pace.ts";
import { thrownOf, type Answer, type Question } from "./questions.ts";
import { newSession } from "./session.ts";
import { packOne, packOperations, unpackReply } from "./wire.ts";
import type { FromThread, ToThread } from "./writer-thread.ts";
import type { Notice, TransactionEnd, Writer } from "./writer.ts";

/** Opens the file in a thread, in the one that waits for this if there is one; rejects with what kept the file from being opened. */
export async function threadWriter({ path, durability }: { readonly path: string; readonly durability: Durability }): Promise<Writer> {
  const worker = takeThread();
  let epoch = 0;
  let gone: unknown;
  let closing: Promise<void> | undefined;
  let heartbeats = 0;
  const pace = new Pace();
  let noticed: (notice: Notice) => void = () => undefined;
  const opened = Promise.withResolvers<void>();
  const closed = Promise.withResolvers<void>();

  const tell = (message: ToThread) => void (gone === undefined && worker.postMessage(message));
  const session = newSession(systemRandom);
  const client = new Client({
    session,
    durability,
    clock: systemClock,
    random: systemRandom,
    tell,
    notice: (notice) => noticed(notice),
    begun(of) {
      epoch = of;
      opened.resolve();
    },
    refused: (fault) => opened.reject(fault),
  });

  worker.on("message", (message: FromThread) => {
    if ("place" in message) client.found(message.place);
    else if ("change" in message) client.changed(message.change);
    else if ("missedSince" in message) noticed(message);
    else if ("unopened" in message) opened.reject(toFault(message.unopened));
    else if ("closed" in message) closed[message.why ? "reject" : "resolve"](message.why && (toFault(message.why) as never));
    else client.answered(message);
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
    opened.reject(fault);
    closed.resolve();
    client.fail(fault);
  };
  worker.on("error", lose);
  worker.on("exit", (code) => lose(new Error(`exit code ${code}`)));

  function ask<T>(question: Question, meaning: (answer: Answer & { readonly failed?: never }) => T): Promise<T> {
    if (gone !== undefined)
      return Promise.reject(Fault.create("store.closed", `the writer thread has ended: ${(gone as Error).message}`, "Open the store again.", { cause: gone }));
    worker.ref();
    return new Promise<T>((resolve, reject) =>
      client.ask(question, (answer) => {
        // An idle store keeps no process alive; one that is owed an answer does.
        if (!client.isAsking) worker.unref();
        if ("failed" in answer) reject(thrownOf(answer.failed));
        else resolve(meaning(answer as Answer & { readonly failed?: never }));
      }),
    );
  }
  const answerOf = <T>(answer: Answer): T => (answer as { readonly answer: unknown }).answer as T;

  tell({ ask: "open", path, durability, session });
  try {
    await opened.promise;
  } catch (error) {
    // The thread may have found a writer that the main thread cannot reach.
    client.close();
    tell({ ask: "close" });
    await closed.promise.catch(() => undefined);
    throw error;
  }
  worker.unref();
  return {
    epoch,
    batchesInFlightMax: 4,
    followersMin: () => pace.followersMin,
    apply: (operations, nowMs) =>
      ask({ ask: "apply", packed: packOperations(operations), nowMs }, (answer) => {
        if (!("packed" in answer)) throw new Error("a batch was not answered as one");
        const reply = unpackReply(answer.packed, epoch);
        pace.learn(answer, reply.results.length);
        return reply;
      }),
    begin: (nowMs, withinMs) => ask({ ask: "begin", nowMs, withinMs }, () => undefined),
    execute: (statement) => ask({ ask: "execute", statement }, answerOf<SqlResult>),
    end: (commit) => ask({ ask: "end", commit: packOne(commit) }, answerOf<TransactionEnd>),
    abandon: () => (gone === undefined ? ask({ ask: "abandon" }, () => undefined) : undefined),
    notices: (listener) => void (noticed = listener),
    heartbeat(options) {
      const id = ++heartbeats;
      // Not answered. A thread that is gone says so to whoever claims.
      if (!closing) tell({ ask: "heartbeat", id, options });
      return () => void (closing || tell({ ask: "stopHeartbeat", id }));
    },
    close() {
      closing ??= (async () => {
        client.close();
        worker.ref();
        tell({ ask: "close" });
        if (gone === undefined) await closed.promise;
        await worker.terminate();
      })();
      return closing;
    },
  };
}

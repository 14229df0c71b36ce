/** Heartbeats in the writer thread, which asks like any other of its process, of whoever writes. */
import type { Clock } from "../kernel/index.ts";
import { watch, type HeartbeatOptions } from "../store/index.ts";
import { thrownOf } from "./questions.ts";
import type { Operation } from "./operation.ts";
import type { Seat } from "./seat.ts";
import { packOperations, unpackReply } from "./wire.ts";
import type { Notice } from "./writer.ts";

interface Surroundings {
  /** Its answers stay here. */
  readonly seat: Pick<Seat, "beat">;
  readonly clock: Clock;
  readonly notice: (notice: Notice) => void;
}

/** Answers how to stop. */
export function startHeartbeat(options: HeartbeatOptions, { seat, clock, notice }: Surroundings): () => void {
  const { holder, leaseMs } = options;
  const apply = (operation: Operation, nowMs: number) =>
    new Promise<{ readonly n: number; readonly queues: readonly string[] }>((resolve, reject) =>
      seat.beat({ ask: "apply", packed: packOperations([operation]), nowMs }, (answer) => {
        if ("packed" in answer) resolve(unpackReply(answer.packed, 0));
        else reject("failed" in answer ? thrownOf(answer.failed) : new Error("a batch was not answered as one"));
      }),
    );
  return watch(options, {
    clock,
    keep: async (nowMs) => (await apply({ kind: "keep", holder, leaseMs }, nowMs)).n,
    async release(nowMs, madeUpTo) {
      const { n, queues } = await apply({ kind: "release", holder, madeUpTo }, nowMs);
      notice({ change: { n, keys: [], queues } });
    },
  });
}

/** A process with a small heap judges a history that is too hard: 2,000 operations of 20 callers on one queue, all side by side. */
import { seededRandom } from "../../../kernel/index.ts";
import { checkLinearizable, fifoQueue, type Operation, type QueueCall } from "../index.ts";
import { below, chance } from "./histories.ts";

const random = seededRandom("hard-history");
const operations: Operation<QueueCall, unknown>[] = [];
const sent: number[] = [];
for (let round = 0; round < 100; round++)
  for (let process = 0; process < 20; process++) {
    const invokedAt = round * 100 + below(random, 40);
    const times = { process, invokedAt, outcome: "ok", returnedAt: round * 100 + 60 + below(random, 39) } as const;
    if (process < 10) operations.push({ ...times, call: { kind: "enqueue", value: sent.push(sent.length) - 1 } });
    // Nearly the order of sending: one who looks at it has to try.
    else operations.push({ ...times, call: { kind: "dequeue" }, result: Math.max(0, round * 10 + process - 10 - (chance(random, 0.5) ? 3 : 0)) });
  }
const { verdict, explored } = checkLinearizable(operations, fifoQueue(), { memoryBytesMax: 64 * 1_024 * 1_024 });
console.log(JSON.stringify({ verdict, states: explored.states, maxRssMb: Math.round(process.resourceUsage().maxRSS / 1_024) }));

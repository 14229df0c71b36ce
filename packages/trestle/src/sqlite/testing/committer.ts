/**
 * A process that commits as fast as it can until it is killed, and says on stdout what it was told about each commit: `<name> <answer>`, one per line,
 * written after the answer. `node committer.ts <file> <full|normal> <callers> <commits per caller> <round>`.
 */
import { writeSync } from "node:fs";
import { MessageChannel } from "node:worker_threads";
import { Fault, sleep, systemClock, systemRandom, uuidv7Ids } from "../../kernel/index.ts";
import { openSqlite } from "../index.ts";

const [path, durability, callers, each, round] = process.argv.slice(2) as [string, "full" | "normal", string, string, string];
const ids = uuidv7Ids(systemClock, systemRandom);
const store = await openSqlite({ path, durability });
const payload = new Uint8Array(200).fill(120);

/** A pipe that is full for the moment says EAGAIN. */
function say(line: string): void {
  for (;;) {
    try {
      return void writeSync(1, line);
    } catch (error) {
      if ((error as { code?: string }).code !== "EAGAIN") throw error;
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1);
    }
  }
}

// The kernel's timers keep no process alive; an open port does.
const alive = new MessageChannel();
alive.port1.on("message", () => undefined);

say("ready -\n");
await Promise.all(
  Array.from({ length: Number(callers) }, async (_, caller) => {
    for (let i = 0; i < Number(each); i++) {
      const name = `${round}-${caller}-${i}`;
      let answer: string;
      try {
        const outcome = await store.commit({
          id: ids.next(),
          expects: [{ kind: "stream", stream: `s//${name}`, version: 0 }],
          writes: [
            { kind: "append", stream: `s//${name}`, events: [{ id: ids.next(), type: "T", data: payload }] },
            { kind: "enqueue", job: { id: ids.next(), queue: "q", payload: new TextEncoder().encode(name), priority: 1 } },
            { kind: "put", key: `r//${name}`, value: payload },
          ],
        });
        answer = outcome.ok ? "applied" : outcome.refused;
      } catch (error) {
        answer = Fault.is(error) ? error.code : String(error);
      }
      say(`${name} ${answer}\n`);
      if (answer !== "applied") await sleep(systemClock, 2);
    }
  }),
);
await store.close();
alive.port1.close();

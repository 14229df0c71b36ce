/**
 * A process that commits as fast as it can until it is killed, and says on stdout what it was told about each commit: `<name> <answer>`, one per line,
 * written after the answer. `node committer.ts <file> <full|normal> <callers> <commits per caller> <round>`.
 */
import { writeSync } from "node:fs";
import { Fault, systemClock, systemRandom, uuidv7Ids } from "../../kernel/index.ts";
import { openSqlite } from "../index.ts";

const [path, durability, callers, each, round] = process.argv.slice(2) as [string, "full" | "normal", string, string, string];
const ids = uuidv7Ids(systemClock, systemRandom);
const store = await openSqlite({ path, durability });
const payload = new Uint8Array(200).fill(120);

writeSync(1, "ready -\n");
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
      writeSync(1, `${name} ${answer}\n`);
    }
  }),
);
await store.close();

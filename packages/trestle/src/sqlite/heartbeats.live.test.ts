import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { heartbeatCases } from "../conformance/index.ts";
import { systemClock, systemRandom, uuidv7Ids } from "../kernel/index.ts";
import { openSqlite } from "./index.ts";

const directory = mkdtempSync(join(tmpdir(), "trestle-heartbeats-"));
after(() => rmSync(directory, { recursive: true }));
const ids = uuidv7Ids(systemClock, systemRandom);
const still = new Int32Array(new SharedArrayBuffer(4));

for (const { name, guarantee, run } of heartbeatCases) {
  test(`${name} (file, ${guarantee})`, async () => {
    const store = await openSqlite({ path: join(directory, `${ids.next()}.db`) });
    await run({ store, ids, block: (ms) => void Atomics.wait(still, 0, 0, ms) });
    await store.close();
  });
}

/** A store file with `readEvents` orders in it. */
import { join } from "node:path";
import { openSqlite } from "../../../packages/trestle/src/sqlite/index.ts";
import { newId, order, readEvents, streamOf } from "./events.ts";

export async function filled(scratch: string): Promise<string> {
  const path = join(scratch, "store.db");
  const store = await openSqlite({ path, durability: "normal" });
  for (let from = 0; from < readEvents; from += 20_000) {
    await Promise.all(
      Array.from({ length: 200 }, (_, batch) =>
        store.commit({
          id: newId(),
          expects: [],
          writes: Array.from({ length: 10 }, (_, tens) => {
            const n = from + batch * 100 + tens * 10;
            return {
              kind: "append" as const,
              stream: `orders//${streamOf(n)}`,
              events: Array.from({ length: 10 }, (_, i) => ({ id: newId(), type: "Placed", data: Buffer.from(JSON.stringify({ ...order, n: n + i })) })),
            };
          }),
        }),
      ),
    );
  }
  await store.close();
  return path;
}

/** The paged SELECT and JSON.parse. */
import type { Variant } from "../../harness/benchmark.ts";
import { openForWriting } from "../../../packages/trestle/src/sqlite/connection.ts";
import { measureReads, pageEvents, type Order } from "./events.ts";
import { filled } from "./filled.ts";

const floor: Variant = async ({ seconds, scratch }) => {
  const db = openForWriting(await filled(scratch), "full");
  const page = db.prepare("select position, stream, version, id, type, data, meta, at, n from trestle_events where position > ? order by position limit ?");
  page.setReturnArrays(true);
  const decoder = new TextDecoder();
  const measured = await measureReads(seconds, async () => {
    let [read, after] = [0, 0];
    for (;;) {
      const rows = page.all(after, pageEvents) as unknown as readonly (readonly [number, string, number, Uint8Array, string, Uint8Array])[];
      for (const row of rows) if ((JSON.parse(decoder.decode(row[5])) as Order).customer === "ada") read += 1;
      after = rows.at(-1)?.[0] ?? after;
      if (rows.length < pageEvents) return read;
    }
  });
  db.close();
  return measured;
};
export default floor;

/** The store's log, page by page, each event decoded. */
import type { Variant } from "../../harness/benchmark.ts";
import { decode } from "../../../packages/trestle/src/component/index.ts";
import { openSqlite } from "../../../packages/trestle/src/sqlite/index.ts";
import { measureReads, pageEvents, type Order } from "./events.ts";
import { filled } from "./filled.ts";

const port: Variant = async ({ seconds, scratch }) => {
  const store = await openSqlite({ path: await filled(scratch) });
  const measured = await measureReads(seconds, async () => {
    let read = 0;
    for (let [after, atEnd] = [{ epoch: store.epoch, position: 0 }, false]; !atEnd;) {
      const page = await store.read.log({ after, limit: pageEvents });
      for (const { data } of page.events) if ((decode(data) as Order).customer === "ada") read += 1;
      [after, atEnd] = [page.next, page.atEnd];
    }
    return read;
  });
  await store.close();
  return measured;
};
export default port;

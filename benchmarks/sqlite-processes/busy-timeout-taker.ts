import { DatabaseSync } from "node:sqlite";
import { queue, take, type Order } from "./jobs.ts";

const { path } = JSON.parse(process.argv[2] as string) as Order;
const db = new DatabaseSync(path, { timeout: 5_000 });
db.exec("pragma journal_mode = wal; pragma synchronous = full; pragma cache_size = -65536");
const [begin, commit] = [db.prepare("begin immediate"), db.prepare("commit")];
const next = db.prepare(
  "select seq, id, payload from trestle_jobs indexed by trestle_jobs_ready where queue = ? and state = 1 and grp is null order by priority, place limit 1",
);
const taken = db.prepare("update trestle_jobs set state = 2, attempt = attempt + 1, lease = ?, holder = 'bench' where seq = ?");

await take(async () => {
  for (;;) {
    try {
      begin.run();
      break;
    } catch (error) {
      // Its five seconds were over: what people write then is another try.
      if ((error as { errcode?: number }).errcode !== 5) throw error;
    }
  }
  const row = next.get(queue);
  if (row) taken.run(Date.now() + 60_000, row["seq"] as number);
  commit.run();
  await new Promise((resolve) => void setImmediate(resolve)); // the other callers of the process, and its event loop
  return row !== undefined;
});

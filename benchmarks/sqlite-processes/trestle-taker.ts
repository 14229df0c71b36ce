import { openSqlite } from "../../packages/trestle/src/sqlite/index.ts";
import { queue, take, type Order } from "./jobs.ts";

const { path } = JSON.parse(process.argv[2] as string) as Order;
const store = await openSqlite({ path });
await take(async () => (await store.claim({ holder: "bench", leaseMs: 60_000, queues: [{ queue, limit: 1 }] })).jobs.length === 1);

/**
 * A neighbour of the store: an HTTP route on the same event loop that does not touch it, asked 200 times a second from another process,
 * while `load` callers commit. Open loop: an answer's time counts from when it should have been asked for.
 */
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import type { Variant } from "../harness/benchmark.ts";
import { runClient } from "../harness/clients.ts";
import { copyOfHistory } from "../harness/store-file.ts";
import { openSqlite } from "../../packages/trestle/src/sqlite/index.ts";
import { nextOrder, payload } from "./order.ts";

const neighbour: Variant = async ({ load, seconds, scratch }) => {
  const store = await openSqlite({ path: copyOfHistory(scratch) });
  const server = createServer((_, response) => response.end("pong"));
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  let running = true;
  const callers = Array.from({ length: load }, async () => {
    while (running) {
      const { id, key, stream, event, job } = nextOrder();
      await store.commit({
        id,
        expects: [{ kind: "record", key, version: 0 }],
        writes: [
          { kind: "put", key, value: payload },
          { kind: "append", stream, events: [{ id: event, type: "OrderPlaced", data: payload }] },
          { kind: "enqueue", job: { id: job, queue: "mail", payload, priority: 1 } },
        ],
      });
    }
  });
  const measured = await runClient("open-loop-client", `http://127.0.0.1:${(server.address() as AddressInfo).port}/`, 200, seconds);
  running = false;
  await Promise.all(callers);
  server.close();
  server.closeAllConnections();
  await store.close();
  return measured;
};
export default neighbour;

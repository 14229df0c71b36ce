/** A service with a route and a durable store, started as `trestle start` starts one; says its URL on stdout when it listens. */
import { loadStoreAhead } from "trestle/ahead";

loadStoreAhead();
const [{ app, get, service, start }, { z }] = await Promise.all([import("trestle"), import("zod")]);

const Name = z.string().min(1).max(100);
const hello = service(
  "hello",
  {},
  {
    greet: get("/hello/:name", { params: z.object({ name: Name }) }, ({ params }) => ({ hello: params.name })),
  },
);
const node = await start(app("bench", [hello]), { store: `sqlite:${process.argv[2]}`, port: 0, host: "127.0.0.1", log: () => undefined });
process.stdout.write(`${node.url}\n`);
// Node keeps what it has compiled when a process exits, and not when a signal ends it.
process.once("SIGTERM", () => process.exit(0));

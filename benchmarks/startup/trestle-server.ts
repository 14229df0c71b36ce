/** A service with a route and a durable store; says its URL on stdout when it listens. */
import { app, get, service, start } from "trestle";
import { z } from "zod";

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

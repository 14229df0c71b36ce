/** Hono on Node's server, one route; says its URL on stdout when it listens. */
import { serve } from "@hono/node-server";
import { Hono } from "hono";
import { z } from "zod";

const Name = z.string().min(1).max(100);
const app = new Hono();
app.get("/hello/:name", (context) => context.json({ hello: Name.parse(context.req.param("name")) }));
serve({ fetch: app.fetch, port: 0, hostname: "127.0.0.1" }, ({ port }) => process.stdout.write(`http://127.0.0.1:${port}\n`));
// Node keeps what it has compiled when a process exits, and not when a signal ends it.
process.once("SIGTERM", () => process.exit(0));

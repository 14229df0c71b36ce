/** Hono and zod on Node's server: parses, validates, answers an id. It stores nothing and promises nothing. */
import type { AddressInfo } from "node:net";
import { randomUUID } from "node:crypto";
import { serve } from "@hono/node-server";
import { Hono } from "hono";
import type { Variant } from "../harness/benchmark.ts";
import { runClient } from "../harness/clients.ts";
import { PlaceOrder } from "./order.ts";

const bare: Variant = async ({ load, seconds }) => {
  const app = new Hono();
  app.post("/orders", async (context) => {
    const order = PlaceOrder.safeParse(await context.req.json());
    if (!order.success) return context.json({ error: "invalid" }, 422);
    return context.json({ id: randomUUID(), status: "placed" }, 201);
  });
  const port = await new Promise<number>((resolve) => {
    serve({ fetch: app.fetch, port: 0, hostname: "127.0.0.1" }, (address: AddressInfo) => resolve(address.port));
  });
  return runClient("closed-loop-client", `http://127.0.0.1:${port}/orders`, load, seconds);
};
export default bare;

import assert from "node:assert/strict";
import { once } from "node:events";
import type { AddressInfo } from "node:net";
import { test } from "node:test";
import { serve, welcomed } from "./server.ts";

test("an Express route hands work to a durable queue", async () => {
  const { server, jobs } = await serve("memory:", 0);
  if (!server.listening) await once(server, "listening");
  const { port } = server.address() as AddressInfo;

  const answer = await fetch(`http://localhost:${port}/sign-up`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: '{"email":"ada@example.com"}',
  });
  while (welcomed.length === 0) await new Promise((resolve) => setTimeout(resolve, 5));

  assert.equal(answer.status, 202);
  assert.deepEqual(welcomed, ["ada@example.com"]);
  server.close();
  await jobs[Symbol.asyncDispose]();
});

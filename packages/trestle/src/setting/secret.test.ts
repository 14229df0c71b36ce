import { test } from "node:test";
import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { inspect } from "node:util";
import { z } from "zod";
import { app, start } from "../app/index.ts";
import { external, query } from "../external/index.ts";
import { Fault } from "../kernel/index.ts";
import { get, service } from "../service/index.ts";
import { secret } from "./index.ts";

const key = secret("AIRLINE_KEY");
const reader = service(
  "reader",
  { uses: { key } },
  {
    seen: get("/seen", {}, (_request, { key }) => ({ json: JSON.stringify({ key }), text: String(key), inspected: inspect({ key }), keys: Object.keys(key) })),
    told: get("/told", {}, (_request, { key }) => key.reveal()),
  },
);
const quiet = { store: "memory:", log: () => undefined } as const;

test("a secret prints, logs and serialises as its name; only reveal() tells it", async () => {
  await using node = await start(app("test", [reader]), { ...quiet, settings: { AIRLINE_KEY: "s3cret" } });
  const ask = async (path: string): Promise<unknown> => (await node.fetch(new Request(`http://x${path}`))).json();

  const seen = await ask("/seen");

  assert.deepEqual(seen, { json: '{"key":"[secret AIRLINE_KEY]"}', text: "[secret AIRLINE_KEY]", inspected: "{ key: [secret AIRLINE_KEY] }", keys: [] });
  assert.equal(await ask("/told"), "s3cret");
  assert.equal(await node.open(key).reveal(), "s3cret");
});

test("a secret nobody gave stops the boot, by name; one in a file is read from there, without its line's end", async () => {
  const directory = mkdtempSync(join(tmpdir(), "trestle-secret-"));
  const path = join(directory, "key");
  writeFileSync(path, "from a file\n");
  const filed = secret("FILED", { from: "file" });
  const own = app("test", [filed]);

  await assert.rejects(start(own, quiet), (thrown) => Fault.is(thrown, "setting.invalid") && thrown.message.includes("FILED"));
  await assert.rejects(start(own, { ...quiet, settings: { FILED_FILE: join(directory, "other") } }), (thrown) => Fault.is(thrown, "setting.invalid"));
  await using node = await start(own, { ...quiet, settings: { FILED_FILE: path } });

  assert.equal(await node.open(filed).reveal(), "from a file");
  rmSync(directory, { recursive: true });
});

test("an external with `auth` sends its secret as a bearer token", async () => {
  const heard: (string | null)[] = [];
  const { fetch } = globalThis;
  globalThis.fetch = async (_url, init) => (
    heard.push(new Headers(init?.headers).get("authorization")),
    new Response("7", { headers: { "content-type": "application/json" } })
  );
  try {
    const airline = external(
      "airline",
      { url: "https://air.example", auth: key },
      {
        seats: query({ input: z.object({}), returns: z.number() }, (_input, wire) => wire.get("/seats")),
      },
    );
    await using node = await start(app("test", [airline]), { ...quiet, settings: { AIRLINE_KEY: "s3cret" } });

    assert.equal(await node.open(airline).seats({}), 7);
    assert.deepEqual(heard, ["Bearer s3cret"]);
  } finally {
    globalThis.fetch = fetch;
  }
});

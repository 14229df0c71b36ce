import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { jsonClient, type JsonClient } from "../json-client.ts";

interface Process {
  readonly url: string;
  readonly client: JsonClient;
  end(signal: NodeJS.Signals): Promise<number | string>;
  [Symbol.asyncDispose](): Promise<void>;
}

function temporaryDirectory(): { readonly path: string; [Symbol.dispose](): void } {
  const path = mkdtempSync(join(tmpdir(), "trestle-foreign-"));
  return { path, [Symbol.dispose]: () => rmSync(path, { recursive: true, force: true }) };
}

async function run(folder: "payments" | "mail", data: string, port = "0"): Promise<Process> {
  const variable = folder === "mail" ? "MAIL_PORT" : "PAYMENTS_PORT";
  const child = spawn(process.execPath, [fileURLToPath(new URL(`../${folder}/main.ts`, import.meta.url))], {
    env: { ...process.env, TRESTLE_DATA: data, [variable]: port },
    stdio: ["ignore", "pipe", "pipe"],
  });
  const exited = new Promise<number | string>((resolve) => child.once("exit", (code, signal) => resolve(code ?? signal ?? "gone")));
  const said: string[] = [];
  child.stderr.on("data", (chunk: Buffer) => said.push(chunk.toString("utf8")));
  const url = await Promise.race([
    new Promise<string>((resolve) => child.stdout.once("data", (chunk: Buffer) => resolve(chunk.toString("utf8").trim()))),
    exited.then((code) => {
      throw new Error(`exit ${code}: ${said.join("")}`);
    }),
  ]);
  const client = jsonClient(url, 64);
  const end = async (signal: NodeJS.Signals) => {
    client.close();
    child.kill(signal);
    return exited;
  };
  return { url, client, end, [Symbol.asyncDispose]: async () => void (await end("SIGKILL")) };
}

const charge = (client: JsonClient, key: string, amountCents = 100) =>
  client.ask("POST", "/charges", { body: { orderId: `order-${key}`, amountCents }, headers: { "idempotency-key": key } });

test("a charge is made once per key, whatever is asked at once and again after a kill", async () => {
  using data = temporaryDirectory();
  await using first = await run("payments", data.path);
  const answers = await Promise.all(Array.from({ length: 64 }, () => charge(first.client, "k")));
  await first.end("SIGKILL");

  await using second = await run("payments", data.path);
  const later = await charge(second.client, "k");
  const ledger = await second.client.get<{ items: { asked: number; paymentId: string }[]; total: number }>("/ledger");

  assert.equal(new Set([...answers, later].map(({ body }) => JSON.stringify(body))).size, 1);
  assert.equal(ledger.total, 1);
  assert.equal(ledger.items[0]?.asked, 65);
});

test("an amount that ends in 13 is declined, and stays declined; a key belongs to one charge", async () => {
  using data = temporaryDirectory();
  await using payments = await run("payments", data.path);

  const declined = await charge(payments.client, "unlucky", 1313);
  const again = await charge(payments.client, "unlucky", 1313);
  const other = await charge(payments.client, "unlucky", 1400);
  const lookup = await payments.client.ask("GET", "/charges/unlucky");
  const unknown = await payments.client.ask("GET", "/charges/nobody");

  assert.deepEqual(declined.body, { status: "declined", reason: "card-declined" });
  assert.deepEqual(again.body, declined.body);
  assert.equal(other.status, 422);
  assert.deepEqual(lookup.body, declined.body);
  assert.equal(unknown.status, 404);
});

test("a stubbed failure strikes before the effect or after it, and the key tells which in the end", async () => {
  using data = temporaryDirectory();
  await using payments = await run("payments", data.path);
  await payments.client.ask("PUT", "/_stub", { body: { failRate: 1, seed: 7 } });
  const failed = await Promise.all(Array.from({ length: 40 }, (_, number) => charge(payments.client, `f${number}`)));
  const { total } = await payments.client.get<{ total: number }>("/ledger");

  await payments.client.ask("PUT", "/_stub", { body: {} });
  const healed = await Promise.all(Array.from({ length: 40 }, (_, number) => charge(payments.client, `f${number}`)));

  assert.equal(
    failed.every(({ status }) => status === 500),
    true,
  );
  assert.equal(total > 5 && total < 35, true, `${total} of 40 took effect`);
  assert.equal(
    healed.every(({ status }) => status === 200),
    true,
  );
  assert.equal((await payments.client.get<{ total: number }>("/ledger")).total, 40);
});

test("a hanging system accepts and never answers, while its instruments do", async () => {
  using data = temporaryDirectory();
  await using payments = await run("payments", data.path);
  await payments.client.ask("PUT", "/_stub", { body: { hang: true } });

  const hung = payments.client.ask("POST", "/charges", { body: { orderId: "o", amountCents: 1 }, headers: { "idempotency-key": "h" }, timeoutMs: 300 });

  await assert.rejects(hung, /no answer in 300 ms/);
  assert.equal((await payments.client.ask("GET", "/ledger")).status, 200);
});

const badCalls: readonly [name: string, method: "POST" | "PUT" | "GET", path: string, body: unknown, headers: Record<string, string>, status: number][] = [
  ["a charge without a key", "POST", "/charges", { orderId: "o", amountCents: 1 }, {}, 400],
  ["a negative amount", "POST", "/charges", { orderId: "o", amountCents: -1 }, { "idempotency-key": "b1" }, 422],
  ["an amount as text", "POST", "/charges", { orderId: "o", amountCents: "1" }, { "idempotency-key": "b2" }, 422],
  ["a body that is no object", "POST", "/charges", [1], { "idempotency-key": "b3" }, 422],
  ["a body of a megabyte", "POST", "/charges", { orderId: "o".repeat(1 << 20), amountCents: 1 }, { "idempotency-key": "b4" }, 400],
  ["a stub option that does not exist", "PUT", "/_stub", { failrate: 1 }, {}, 400],
  ["a stub value out of range", "PUT", "/_stub", { latencyMs: -1 }, {}, 400],
  ["a stub inherited from the prototype", "PUT", "/_stub", JSON.parse('{"__proto__":1}'), {}, 400],
  ["a wrong method", "PUT", "/charges", {}, {}, 405],
  ["a path that does not exist", "GET", "/nothing", undefined, {}, 404],
  ["a cursor it never gave", "GET", "/ledger?cursor=x", undefined, {}, 400],
];

test("what it cannot take is answered with a problem, and changes nothing", async () => {
  using data = temporaryDirectory();
  await using payments = await run("payments", data.path);

  for (const [name, method, path, body, headers, status] of badCalls) {
    const answer = await payments.client.ask(method, path, { ...(body === undefined ? {} : { body }), headers });
    assert.equal(answer.status, status, name);
    assert.equal(answer.headers["content-type"], "application/problem+json", name);
  }
  assert.equal((await payments.client.get<{ total: number }>("/ledger")).total, 0);
});

test("a message id is sent once by a sink that honours ids, and each time by one that does not", async () => {
  using data = temporaryDirectory();
  await using mail = await run("mail", data.path);
  const send = (id: string) =>
    mail.client.ask("POST", "/messages", { body: { to: "ada@example.com", subject: "s", text: "t" }, headers: { "message-id": id } });

  await Promise.all([send("a"), send("a"), send("a")]);
  await mail.client.ask("PUT", "/_stub", { body: { honourIds: false } });
  await Promise.all([send("b"), send("b")]);

  const { items } = await mail.client.get<{ items: { id: string }[] }>("/messages?to=ada%40example.com");
  assert.deepEqual(
    items.map(({ id }) => id),
    ["a", "b", "b"],
  );
  assert.equal((await mail.client.get<{ total: number }>("/ledger")).total, 3);
});

test("a ledger comes in pages that lose nothing", async () => {
  using data = temporaryDirectory();
  await using payments = await run("payments", data.path);
  await Promise.all(Array.from({ length: 25 }, (_, number) => charge(payments.client, `p${number}`)));

  const keys: string[] = [];
  for (let cursor: string | undefined = "0"; cursor !== undefined;) {
    const page: { items: { key: string }[]; next?: string } = await payments.client.get(`/ledger?limit=10&cursor=${cursor}`);
    keys.push(...page.items.map(({ key }) => key));
    cursor = page.next;
  }

  assert.equal(new Set(keys).size, 25);
  assert.equal(keys.length, 25);
});

test("a taken port is named, with exit code 3; SIGTERM ends with 0", async () => {
  using data = temporaryDirectory();
  using other = temporaryDirectory();
  await using payments = await run("payments", data.path);

  await assert.rejects(run("payments", other.path, new URL(payments.url).port), /exit 3: port \d+ is taken: .*PAYMENTS_PORT/);
  assert.equal(await payments.end("SIGTERM"), 0);
});

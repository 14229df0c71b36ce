// Runs alone: it compares times to the first answer.
import assert from "node:assert/strict";
import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { freePort } from "@trestle/testing";

interface Place {
  readonly ports: { readonly shop: number; readonly payments: number; readonly mail: number };
  readonly directory: string;
  start(more?: NodeJS.ProcessEnv): { readonly child: ChildProcess; readonly exited: Promise<number | string>; stderr(): string; stdout(): string };
  [Symbol.asyncDispose](): Promise<void>;
}

/** Where one shop lives: its ports and its directory. Whatever still runs there at the end is ended. */
async function place(): Promise<Place> {
  const directory = mkdtempSync(join(tmpdir(), "trestle-start-"));
  const ports = { shop: await freePort(), payments: await freePort(), mail: await freePort() };
  const children: ChildProcess[] = [];
  return {
    ports,
    directory,
    start(more = {}) {
      const { PAYMENTS_URL: _p, MAIL_URL: _m, ...inherited } = process.env;
      const env = {
        ...inherited,
        TRESTLE_DATA: directory,
        PORT: String(ports.shop),
        PAYMENTS_PORT: String(ports.payments),
        MAIL_PORT: String(ports.mail),
        LINGER_MS: "1500",
        NODE_COMPILE_CACHE: process.env["NODE_COMPILE_CACHE"] ?? join(tmpdir(), "trestle-compile-cache"),
        ...more,
      };
      const child = spawn(process.execPath, ["--disable-warning=ExperimentalWarning", fileURLToPath(new URL("./start.ts", import.meta.url))], {
        env,
        stdio: ["ignore", "pipe", "pipe"],
      });
      children.push(child);
      const said = { stdout: "", stderr: "" };
      for (const from of ["stdout", "stderr"] as const) child[from].on("data", (chunk: Buffer) => (said[from] += chunk.toString("utf8")));
      const exited = new Promise<number | string>((resolve) => child.once("exit", (code, signal) => resolve(code ?? signal ?? "gone")));
      return { child, exited, stderr: () => said.stderr, stdout: () => said.stdout };
    },
    async [Symbol.asyncDispose]() {
      for (const child of children) child.kill("SIGKILL");
      for (const port of [ports.payments, ports.mail]) {
        const pid = await identity(port);
        if (pid !== undefined) process.kill(pid, "SIGKILL");
      }
      rmSync(directory, { recursive: true, force: true });
    },
  };
}

async function identity(port: number): Promise<number | undefined> {
  try {
    const { pid } = (await (await fetch(`http://localhost:${port}/_identity`)).json()) as { pid: number };
    return pid;
  } catch {
    return undefined;
  }
}

async function eventually<T>(what: string, look: () => Promise<T | undefined> | T | undefined, withinMs = 15_000): Promise<T> {
  const untilMs = performance.now() + withinMs;
  for (;;) {
    const seen = await look();
    if (seen !== undefined) return seen;
    if (performance.now() > untilMs) throw new Error(`${what}: not in ${withinMs} ms`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

async function answered(port: number): Promise<true | undefined> {
  try {
    return (await fetch(`http://localhost:${port}/products`)).ok || undefined;
  } catch {
    return undefined;
  }
}

test("the shop brings its payments and mail along, brings them back when they die, finds them after its own death, and takes them with it", async () => {
  await using shop = await place();
  const { ports } = shop;
  const first = shop.start();
  const payments = await eventually("payments", () => identity(ports.payments));
  const mail = await eventually("mail", () => identity(ports.mail));

  process.kill(payments, "SIGKILL");
  const reborn = await eventually("payments again", async () => {
    const pid = await identity(ports.payments);
    return pid === payments ? undefined : pid;
  });

  first.child.kill("SIGKILL");
  await first.exited;
  assert.equal(await identity(ports.mail), mail, "mail outlives a killed shop for a while");
  const second = shop.start();
  await eventually("the second shop", () => answered(ports.shop));
  await new Promise((resolve) => setTimeout(resolve, 2_500)); // longer than an orphan lives
  assert.equal(await identity(ports.mail), mail, "the second shop uses what runs");
  assert.equal(await identity(ports.payments), reborn);

  second.child.kill("SIGTERM");
  assert.equal(await second.exited, 0, second.stderr());
  await new Promise((resolve) => setTimeout(resolve, 4_000)); // nobody asks them any more
  assert.deepEqual([await identity(ports.payments), await identity(ports.mail)], [undefined, undefined], "orphans end");

  assert.match(first.stdout(), new RegExp(`http://localhost:${ports.shop}[^]*/_trestle[^]*curl`));
  assert.match(first.stderr(), /ready in \d+ ms/);
});

test("a taken port is named, with exit code 3", async () => {
  await using shop = await place();
  const taken = createServer();
  await new Promise<void>((resolve) => taken.listen(shop.ports.shop, "localhost", resolve));

  const { exited, stderr } = shop.start();
  const code = await exited;
  await new Promise((resolve) => taken.close(resolve));

  assert.equal(code, 3);
  assert.match(stderr(), new RegExp(String(shop.ports.shop)));
});

// Machines differ and are busy, so a start is compared with that of bare Hono with zod (`npm run bench -- startup` has both in milliseconds),
// turn by turn, the best of each: a quiet machine needs two rounds.
const roundsMax = 20;

test("from the second start on the first answer comes within three times what bare Hono takes", async (t) => {
  await using shop = await place();
  await startToAnswerMs(shop);
  await bareToAnswerMs(shop);
  const took = { shop: [] as number[], bare: [] as number[] };
  const holds = () => Math.min(...took.shop) < 3 * Math.min(...took.bare);
  while (took.shop.length < roundsMax && !(took.shop.length > 1 && holds())) {
    took.bare.push(await bareToAnswerMs(shop));
    took.shop.push(await startToAnswerMs(shop));
  }

  t.diagnostic(`first answers after ${took.shop.join(", ")} ms; bare Hono's after ${took.bare.join(", ")} ms`);
  assert.ok(holds(), `${took.shop.join(", ")} ms; bare: ${took.bare.join(", ")} ms`);
});

test("the first answer after an installation comes within ten times what bare Hono takes later on", async (t) => {
  await using bare = await place();
  await bareToAnswerMs(bare);
  const took = { shop: [] as number[], bare: [] as number[] };
  const holds = () => Math.min(...took.shop) < 10 * Math.min(...took.bare);
  while (took.shop.length < roundsMax && !(took.shop.length > 0 && holds())) {
    took.bare.push(await bareToAnswerMs(bare));
    await using shop = await place();
    took.shop.push(await startToAnswerMs(shop, { NODE_COMPILE_CACHE: join(shop.directory, "compiled") }));
  }

  t.diagnostic(`first answers after ${took.shop.join(", ")} ms; bare Hono's after ${took.bare.join(", ")} ms`);
  assert.ok(holds(), `${took.shop.join(", ")} ms; bare: ${took.bare.join(", ")} ms`);
});

const bareServer = fileURLToPath(new URL("../../benchmarks/startup/bare-server.ts", import.meta.url));

async function bareToAnswerMs({ directory }: Place): Promise<number> {
  const beganAtMs = performance.now();
  const child = spawn(process.execPath, [bareServer], {
    stdio: ["ignore", "pipe", "inherit"],
    env: { ...process.env, NODE_COMPILE_CACHE: join(directory, "compiled-bare") },
  });
  const exited = once(child, "exit");
  const [url] = (await once(child.stdout.setEncoding("utf8"), "data")) as [string];
  assert.ok((await fetch(`${url.trim()}/hello/world`)).ok);
  const tookMs = Math.round(performance.now() - beganAtMs);
  child.kill("SIGTERM");
  await exited;
  return tookMs;
}

async function startToAnswerMs(shop: Place, more: NodeJS.ProcessEnv = {}): Promise<number> {
  const beganAtMs = performance.now();
  const { child, exited } = shop.start(more);
  await eventually("an answer", () => answered(shop.ports.shop));
  const tookMs = Math.round(performance.now() - beganAtMs);
  child.kill("SIGTERM");
  await exited;
  return tookMs;
}

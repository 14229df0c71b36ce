/** RES-06: what a shop needs is killed under load, one system after the other, and comes back. */
import assert from "node:assert/strict";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { test } from "node:test";
import { z } from "zod";
import { external, query } from "../external/index.ts";
import { sleep, systemClock } from "../kernel/index.ts";
import { get, service } from "../service/index.ts";
import { app, start, type StartOptions } from "./index.ts";

const callers = 8;
const enough = 400;

/** A system outside that can be killed, as a process would be: its port refuses, its connections are reset. */
class Elsewhere {
  #server: Server | undefined;
  #port = 0;

  async start(): Promise<void> {
    this.#server = createServer((_request, response) => response.setHeader("content-type", "application/json").end('{"n":1}'));
    await new Promise<void>((resolve) => (this.#server as Server).listen(this.#port, "127.0.0.1", resolve));
    this.#port = (this.#server.address() as AddressInfo).port;
  }
  get url(): string {
    return `http://127.0.0.1:${this.#port}`;
  }
  kill(): void {
    this.#server?.close();
    this.#server?.closeAllConnections();
  }
}

interface Answer {
  readonly route: string;
  readonly status: number;
  readonly rung: string;
}

/** Callers who ask for both routes, one after the other, until they are told to stop. */
function load(url: string, told: (answer: Answer) => void) {
  let stopped = false;
  const caller = async (n: number) => {
    for (let asked = 0; !stopped; asked++) {
      const route = asked % 2 === 0 ? "catalogue" : "reviews";
      const response = await fetch(`${url}/${route}/${(asked + n) % 5}`);
      await response.text();
      told({ route, status: response.status, rung: response.headers.get("trestle-degraded") ?? "full" });
      await sleep(systemClock, 2);
    }
  };
  const running = Promise.all(Array.from({ length: callers }, (_, n) => caller(n)));
  return { stop: () => ((stopped = true), running) };
}

async function world(policies: StartOptions["degradation"]) {
  const systems = { prices: new Elsewhere(), opinions: new Elsewhere() };
  await Promise.all([systems.prices.start(), systems.opinions.start()]);
  const far = (name: keyof typeof systems) =>
    external(
      name,
      {
        url: systems[name].url as "http://x",
        timeout: "500ms",
        retry: false,
        breaker: { cooldown: "300ms" },
        health: { ask: "ask", input: {}, every: "500ms" },
      },
      { ask: query({ input: z.object({}), returns: z.object({ n: z.int() }) }, (_input, wire) => wire.get("/")) },
    );
  const [prices, opinions] = [far("prices"), far("opinions")];
  const returns = z.object({ n: z.int().optional() });
  const shop = service(
    "shop",
    { uses: { prices, opinions } },
    {
      catalogue: get("/catalogue/:page", { returns, degrade: { stale: { for: "1h" }, static: {} } }, (_request, { prices }) => prices.ask({})),
      reviews: get("/reviews/:page", { returns, degrade: { partial: () => ({}) } }, (_request, { opinions }) => opinions.ask({})),
    },
  );
  const lines: string[] = [];
  const node = await start(app("shop", [shop]), {
    store: "memory:",
    port: 0,
    log: (line) => void lines.push(line),
    ...(policies && { degradation: policies }),
  });
  return { systems, node, lines };
}

const policies = {
  version: 1,
  mode: "enforce",
  routes: {
    "shop.catalogue": {
      ladder: ["full", "stale", "static"],
      dwell: "500ms",
      probe: "100ms",
      when: [
        { breaker: "prices", serve: "stale" },
        { health: "prices", serve: "stale" },
      ],
    },
    "shop.reviews": {
      ladder: ["full", "partial"],
      dwell: "500ms",
      probe: "100ms",
      when: [
        { breaker: "opinions", serve: "partial" },
        { health: "opinions", serve: "partial" },
      ],
    },
  },
} as const;

/** Waits for something that comes; how long it may take is for a machine that is busy. */
async function until(what: string, holds: () => boolean): Promise<void> {
  const endMs = systemClock.monotonicMs() + 60_000;
  while (!holds()) {
    assert.ok(systemClock.monotonicMs() < endMs, `not within a minute: ${what}`);
    await sleep(systemClock, 10);
  }
}

test("[RES-06] each dependency is killed in turn under load: at least 99 % of all answers are good, those below full are marked, it is told, and all is whole again unaided", async (t) => {
  const { systems, node, lines } = await world({ policies });
  t.after(() => (systems.prices.kill(), systems.opinions.kill(), node.stop()));
  const answers: Answer[] = [];
  const asking = load(node.url, (answer) => answers.push(answer));
  const since = (from: number, route: string, rung: string) => answers.slice(from).filter((answer) => answer.route === route && answer.rung === rung).length;
  await until("both routes are warm", () => since(0, "catalogue", "full") > enough && since(0, "reviews", "full") > enough);

  for (const [name, route, rung, other] of [
    ["prices", "catalogue", "stale", "reviews"],
    ["opinions", "reviews", "partial", "catalogue"],
  ] as const) {
    const killed = answers.length;
    systems[name].kill();
    await until(`${route} answers with ${rung}`, () => since(killed, route, rung) > enough);
    assert.equal(answers.slice(killed).filter((answer) => answer.route === other && answer.rung !== "full").length, 0, `${other} does not need ${name}`);
    assert.ok(
      lines.some((line) => line.includes(`shop.${route} answers with ${rung}`) && line.includes('"level":"warn"')),
      "somebody is told",
    );
    await systems[name].start();
    const healed = answers.length;
    await until(
      `${route} is whole`,
      () => lines.some((line) => line.includes(`shop.${route} is whole again`)) && answers.slice(-50).every((answer) => answer.rung === "full"),
    );
    t.diagnostic(`${name}: ${killed} answers before, ${healed - killed} while it was gone, ${answers.length - healed} until it was whole`);
  }
  await asking.stop();

  const good = answers.filter(({ status }) => status === 200).length;
  t.diagnostic(`${good} good of ${answers.length}`);
  assert.ok(good >= 0.99 * answers.length, `${good} good of ${answers.length}`);
});

test("without policies the same callers are told of the failure, so the test above can fail", async (t) => {
  const { systems, node } = await world(undefined);
  t.after(() => (systems.prices.kill(), systems.opinions.kill(), node.stop()));
  const answers: Answer[] = [];
  const asking = load(node.url, (answer) => answers.push(answer));
  await until("warm", () => answers.length > enough);

  systems.prices.kill();
  const killed = answers.length;
  await until("some have asked", () => answers.length > killed + enough);
  await asking.stop();

  const failed = answers.slice(killed).filter(({ status }) => status !== 200).length;
  assert.ok(failed > 0.1 * enough, `${failed} failed`);
});

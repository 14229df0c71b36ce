/** The shop as a process: how it starts, what it says, how it ends (`start.ts` has the promises). */
import { resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { Fault, processPlan, start, supervise, supervised, type App, type Node, type StartOptions } from "trestle";
import { spareParts } from "./catalogue.ts";
import shopApp, { products, Sku } from "./shop.ts";
import type { SideProcess } from "./side-processes.ts";
import { storeChoice, type StoreChoice } from "./store-choice.ts";

/** `more`: for tests. */
export async function runShop(app: App = shopApp, more: Pick<StartOptions, "clock"> = {}): Promise<void> {
  const environment = process.env;
  const port = portFrom("PORT", 3000);
  const dataDirectory = resolve(environment["TRESTLE_DATA"] ?? ".trestle");
  const paymentsUrl = environment["PAYMENTS_URL"] ?? `http://localhost:${portFrom("PAYMENTS_PORT", 3001)}`;
  const mailUrl = environment["MAIL_URL"] ?? `http://localhost:${portFrom("MAIL_PORT", 3002)}`;
  const choice = await storeChoice(supervised() ? [] : process.argv.slice(2), environment, dataDirectory);
  if (choice.note !== undefined) process.stderr.write(`${choice.note}\n`);
  // Loaded once the shop answers: until then nobody needs them.
  const keepSides = async (onGivenUp: (why: string) => void): Promise<readonly SideProcess[]> => {
    const { keepSideProcess } = await import("./side-processes.ts");
    const keep = (system: string, folder: string, portVariable: string, url: string): SideProcess[] =>
      environment[portVariable.replace("PORT", "URL")] === undefined
        ? [
            keepSideProcess({
              system,
              script: new URL(`./${folder}/main.ts`, import.meta.url),
              port: Number(new URL(url).port),
              portVariable,
              notBeforeMs: 50,
              onGivenUp,
            }),
          ]
        : [];
    return [...keep("trestle-example-payments", "payments", "PAYMENTS_PORT", paymentsUrl), ...keep("trestle-example-mail", "mail", "MAIL_PORT", mailUrl)];
  };

  const processes = environment["TRESTLE_PROCESSES"];
  if (processes !== undefined && !supervised()) {
    const sides = await keepSides((why) => process.stderr.write(`${why}\n`));
    const code = await supervise({
      plan: processPlan(processes, ["web", "worker"]),
      port,
      env: { PAYMENTS_URL: paymentsUrl, MAIL_URL: mailUrl, TRESTLE_STORE: choice.url },
      onReady(url, ready) {
        process.stdout.write(welcome(url, paymentsUrl, mailUrl));
        process.stderr.write(`ready in ${Math.round(performance.now())} ms as ${ready.map(({ name }) => name).join(", ")}\n`);
      },
    });
    await Promise.all(sides.map((side) => side.stop()));
    await choice[Symbol.asyncDispose]();
    process.exit(code === 130 ? 0 : code);
  }

  const store = choice.url as NonNullable<StartOptions["store"]>;
  const settings = { PAYMENTS_URL: paymentsUrl, MAIL_URL: mailUrl };
  // Its own policies are for this app, and not for what a test makes of it.
  const degradation =
    environment["TRESTLE_DEGRADATION"] ?? (app === shopApp ? fileURLToPath(new URL("./degradation-policies.yaml", import.meta.url)) : undefined);
  const node = await start(app, { port, store, settings, ...(degradation !== undefined && { degradation }), ...more });
  await sellSpareParts(node, Number(environment["SHOP_SPARE_PARTS"] ?? 0));
  const readyMs = performance.now();

  const sides: SideProcess[] = [];
  const stopOnce = stopping(node, choice, sides);
  for (const signal of ["SIGTERM", "SIGINT"] as const) process.on(signal, () => void stopOnce(0));
  sides.push(...(await keepSides((why) => void stopOnce(3, why))));
  if (supervised()) return; // whoever supervises this process says when all are ready
  process.stdout.write(welcome(node.url, paymentsUrl, mailUrl));
  process.stderr.write(`ready in ${Math.round(readyMs)} ms\n`);
}

/** Drains the shop first and its foreign systems after it, once, however often it is asked. */
function stopping(node: Node, store: StoreChoice, sides: readonly SideProcess[]): (exitCode: number, why?: string) => Promise<void> {
  let begun = false;
  return async (exitCode, why) => {
    if (begun) return;
    begun = true;
    if (why !== undefined) process.stderr.write(`${why}\n`);
    await node.drain("15s");
    await node[Symbol.asyncDispose]();
    await store[Symbol.asyncDispose]();
    await Promise.all(sides.map((side) => side.stop()));
    process.exit(exitCode);
  };
}

async function sellSpareParts(node: Node, count: number): Promise<void> {
  const parts = spareParts.slice(0, count);
  for (let first = 0; first < parts.length; first += 200) {
    await node.commit({ products }, ({ products }) => {
      for (const part of parts.slice(first, first + 200)) products.put(Sku.parse(part.sku), part);
    });
  }
}

function welcome(url: string, paymentsUrl: string, mailUrl: string): string {
  return `
  shop      ${url}
  console   ${url}/_trestle
  payments  ${paymentsUrl}/ledger
  mail      ${mailUrl}/ledger

  curl -s ${url}/orders -H 'content-type: application/json' -H 'idempotency-key: my-first-order' \\
    -d '{"customer":"Ada","email":"ada@example.com","items":[{"sku":"TRE-001","quantity":1}]}'

`;
}

function portFrom(variable: string, otherwise: number): number {
  const text = process.env[variable];
  const port = text === undefined || text === "" ? otherwise : Number(text);
  if (Number.isInteger(port) && port >= 0 && port <= 65_535) return port;
  throw Fault.create(
    "shop.bad-port",
    `${variable} must be a port from 0 to 65535, not ${JSON.stringify(text)}`,
    `set ${variable} to a port, or leave it out for ${otherwise}`,
  );
}

/** A fault says what to do; a stack trace would not. */
export function tellAndExit(error: unknown): never {
  const { code, message, remedy, stack } = error as Partial<Fault>;
  process.stderr.write(remedy === undefined ? `${stack ?? message}\n` : `${code}: ${message}\n${remedy}\n`);
  process.exit(remedy === undefined ? 1 : 3);
}

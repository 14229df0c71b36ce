/**
 * The shop and its two foreign systems as real processes, on free ports, with their data in a directory of their own that goes
 * with them. The shop can be killed, stopped and started again; payments and mail stay.
 */
import { tmpdir } from "node:os";
import { join } from "node:path";
import { freePort, guardedDirectory, nodeProcess } from "@trestle/testing";

type System = "payments" | "mail";

export interface ShopProcesses {
  readonly url: string;
  readonly paymentsUrl: string;
  readonly mailUrl: string;
  readonly directory: string;
  /** Everything the shop's processes wrote so far, the last 64 KB of each. */
  output(): string;
  /** Resolves when the shop listens; rejects with its output when it ends instead. Milliseconds it took, from spawn to ready. */
  start(): Promise<number>;
  /** `kill -9`, and the process is gone. */
  kill(): Promise<void>;
  /** SIGTERM; answers the exit code, or the signal that ended it. */
  terminate(): Promise<number | string>;
  /** `kill -9` of a foreign system, whose port refuses from then on; `startSystem` starts it there again, with what it had. */
  killSystem(system: System): Promise<void>;
  startSystem(system: System): Promise<void>;
  stub(system: System, options: Readonly<Record<string, unknown>>): Promise<void>;
  [Symbol.asyncDispose](): Promise<void>;
}
export interface ShopProcessesOptions {
  /** Default: `start.ts`. */
  readonly script?: URL;
  /** For the shop only. */
  readonly env?: Readonly<Record<string, string>>;
}

export async function shopProcesses({ script = new URL("../start.ts", import.meta.url), env = {} }: ShopProcessesOptions = {}): Promise<ShopProcesses> {
  const directory = guardedDirectory("shop");
  const shared = { TRESTLE_DATA: directory.path, NODE_COMPILE_CACHE: process.env["NODE_COMPILE_CACHE"] ?? join(tmpdir(), "trestle-compile-cache") };
  const [paymentsPort, mailPort] = [await freePort(), await freePort()];
  const foreign = (system: System) =>
    nodeProcess({
      script: new URL(`../${system}/main.ts`, import.meta.url),
      name: system,
      ready: /http:\S+/,
      env: { ...shared, PAYMENTS_PORT: String(paymentsPort), MAIL_PORT: String(mailPort) },
    });
  const systems = { payments: await foreign("payments"), mail: await foreign("mail") };
  const { payments, mail } = systems;
  await Promise.all([payments.start(), mail.start()]);
  const [paymentsUrl, mailUrl] = [`http://localhost:${paymentsPort}`, `http://localhost:${mailPort}`];
  const shop = await nodeProcess({ script, name: "shop", ready: /ready in \d+ ms/, env: { ...shared, PAYMENTS_URL: paymentsUrl, MAIL_URL: mailUrl, ...env } });
  const all = [shop, payments, mail];

  return {
    url: shop.url,
    paymentsUrl,
    mailUrl,
    directory: directory.path,
    output: () => all.map((one) => one.log()).join(""),
    start: () => shop.start(),
    kill: () => shop.kill(),
    terminate: async () => (await shop.stop()) ?? "not started",
    killSystem: (system) => systems[system].kill(),
    startSystem: async (system) => void (await systems[system].start()),
    async stub(system, options) {
      const answer = await fetch(`${system === "mail" ? mailUrl : paymentsUrl}/_stub`, { method: "PUT", body: JSON.stringify(options) });
      if (!answer.ok) throw new Error(`the stub of ${system} answered ${answer.status}: ${await answer.text()}`);
    },
    async [Symbol.asyncDispose]() {
      await Promise.all(all.map((one) => one.close()));
      await directory.remove();
    },
  };
}

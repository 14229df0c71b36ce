/**
 * The shop as a fleet on one store: some processes that answer requests, some that do the work behind, and in front of the former a balancer
 * that leads each new connection to the next of them that accepts it. Payments and mail are one each, and stay.
 */
import { connect, createServer, type AddressInfo, type Server, type Socket } from "node:net";
import { once } from "node:events";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { guardedDirectory, nodeProcess, nodeProcesses, type NodeProcess, type NodeProcesses } from "@trestle/testing";

export interface ShopFleet extends AsyncDisposable {
  /** Of the balancer. */
  readonly url: string;
  readonly paymentsUrl: string;
  readonly mailUrl: string;
  readonly processes: NodeProcesses<"web" | "worker">;
  start(): Promise<void>;
}

export async function shopFleet(options: { readonly store: string; readonly web: number; readonly workers: number }): Promise<ShopFleet> {
  const directory = guardedDirectory("shop-fleet");
  const shared = { TRESTLE_DATA: directory.path, NODE_COMPILE_CACHE: process.env["NODE_COMPILE_CACHE"] ?? join(tmpdir(), "trestle-compile-cache") };
  const foreign = (system: "payments" | "mail") =>
    nodeProcess({
      script: new URL(`../${system}/main.ts`, import.meta.url),
      name: system,
      ready: /http:\S+/,
      env: { ...shared, PAYMENTS_PORT: "0", MAIL_PORT: "0" },
    });
  const [payments, mail] = await Promise.all([foreign("payments"), foreign("mail")]);
  await Promise.all([payments.start(), mail.start()]);
  const urlOf = (one: NodeProcess) => /http:\S+/.exec(one.log())?.[0] as string;
  const [paymentsUrl, mailUrl] = [urlOf(payments), urlOf(mail)];
  const processes = await nodeProcesses({
    script: new URL("../start.ts", import.meta.url),
    ready: /ready in \d+ ms/,
    roles: { web: options.web, worker: options.workers },
    env: ({ role }) => ({ ...shared, TRESTLE_STORE: options.store, TRESTLE_ROLES: role, PAYMENTS_URL: paymentsUrl, MAIL_URL: mailUrl }),
  });
  const balancer = await balance(processes.of("web").map(({ port }) => port));

  return {
    url: balancer.url,
    paymentsUrl,
    mailUrl,
    processes,
    start: () => processes.start(),
    async [Symbol.asyncDispose]() {
      balancer.close();
      await processes[Symbol.asyncDispose]();
      await Promise.all([payments.close(), mail.close()]);
      await directory.remove();
    },
  };
}

async function balance(ports: readonly number[]): Promise<{ readonly url: string; close(): void }> {
  const open = new Set<Socket>();
  let turn = 0;
  const server: Server = createServer((client) => {
    open.add(client);
    client.on("error", () => undefined).on("close", () => open.delete(client));
    lead(client, ports.length);
  });

  /** To the next that accepts it, each tried once. */
  function lead(client: Socket, left: number): void {
    if (left === 0 || client.destroyed) return void client.resetAndDestroy();
    const web = connect({ host: "localhost", port: ports[turn++ % ports.length] as number });
    let accepted = false;
    open.add(web);
    web.on("connect", () => {
      accepted = true;
      client.pipe(web).pipe(client);
    });
    web.on("error", () => undefined);
    web.on("close", () => {
      open.delete(web);
      if (accepted) client.destroy();
      else lead(client, left - 1);
    });
    client.on("close", () => web.destroy());
  }
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    close() {
      server.close();
      for (const socket of open) socket.destroy();
    },
  };
}

/**
 * DBOS, with care: the order is a workflow under the client's key; the order and the mail are rows of transactional steps, whose outcome is written in their
 * own transaction, so that a recovered workflow does neither twice. The mail is a workflow on a queue.
 */
import { randomUUID } from "node:crypto";
import { DBOS } from "@dbos-inc/dbos-sdk";
import { PostgresDataSource } from "@dbos-inc/postgres-datasource";
import { PlaceOrder, type Serve } from "./endpoint.ts";
import { glue } from "./glue.ts";

const serve: Serve = async (where) => {
  const { server, listen } = await glue(where);
  const connection = parsed(where.postgres);
  await PostgresDataSource.initializeDBOSSchema(connection);
  const rows = new PostgresDataSource("rows", { ...connection, max: 16 });
  const mail = DBOS.registerWorkflow(
    async (orderId: string) =>
      void (await rows.runTransaction(async () => void (await PostgresDataSource.client`insert into mails values (${orderId})`), { name: "mail" })),
    { name: "mail" },
  );
  const place = DBOS.registerWorkflow(
    async (order: { readonly customer: string }) => {
      const id = await rows.runTransaction(
        async () => {
          const minted = randomUUID();
          await PostgresDataSource.client`insert into orders values (${minted}, ${order.customer}, ${JSON.stringify(order)}::jsonb)`;
          return minted;
        },
        { name: "order" },
      );
      await DBOS.startWorkflow(mail, { queueName: "mails" })(id);
      return { id, status: "placed" };
    },
    { name: "place" },
  );
  DBOS.setConfig({ name: "peers", systemDatabaseUrl: where.postgres, systemDatabasePoolSize: 32, runAdminServer: false, logLevel: "error" } as never);
  await DBOS.launch(where.works ? undefined : ({ listenQueues: [] } as never));
  await DBOS.registerQueue("mails", { minPollingIntervalMs: 50, workerConcurrency: 64 });
  server.post("/orders", async (request, reply) => {
    const key = request.headers["idempotency-key"];
    if (typeof key !== "string") return reply.code(400).send({ error: "no key" });
    const order = PlaceOrder.safeParse(request.body);
    if (!order.success) return reply.code(422).send({ error: "invalid" });
    const handle = await DBOS.startWorkflow(place, { workflowID: key })(order.data);
    return reply.code(201).send(await handle.getResult());
  });
  await listen();
};
export default serve;

function parsed(url: string): { host: string; port: number; database: string; username: string; password: string } {
  const { hostname, port, pathname, username, password } = new URL(url);
  return { host: hostname, port: Number(port), database: pathname.slice(1), username: decodeURIComponent(username), password: decodeURIComponent(password) };
}

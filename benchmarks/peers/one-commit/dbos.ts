/**
 * DBOS, with care: the order is a workflow under the client's key; the order and the mail are rows of transactional steps,
 * so that a recovered workflow writes neither twice. The mail is a workflow on a queue.
 */
import { DBOS } from "@dbos-inc/dbos-sdk";
import { transactionalRows } from "./dbos-rows.ts";
import { PlaceOrder, type Serve } from "./endpoint.ts";
import { glue } from "./glue.ts";

const serve: Serve = async (where) => {
  const { server, pool, listen } = await glue(where);
  const insert = await transactionalRows(pool);
  const mail = DBOS.registerWorkflow((orderId: string) => insert("mail", { name: "mail", text: "insert into mails values ($1)", values: [orderId] }), {
    name: "mail",
  });
  const place = DBOS.registerWorkflow(
    async (order: { readonly customer: string }) => {
      const id = await DBOS.randomUUID();
      await insert("order", { name: "order", text: "insert into orders values ($1, $2, $3)", values: [id, order.customer, order] });
      await DBOS.startWorkflow(mail, { queueName: "mails" })(id);
      return { id, status: "placed" };
    },
    { name: "place" },
  );
  DBOS.setConfig({
    name: "peers",
    systemDatabaseUrl: where.postgres,
    systemDatabasePoolSize: 32,
    runAdminServer: false,
    logLevel: "error",
    ...(where.works ? {} : { listenQueues: [] }),
  });
  await DBOS.launch();
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

/** DBOS: the order is a workflow under the client's key, with the insert as a step and the mail as a workflow on a queue. */
import { randomUUID } from "node:crypto";
import { DBOS } from "@dbos-inc/dbos-sdk";
import { PlaceOrder, type Serve } from "./endpoint.ts";
import { glue } from "./glue.ts";

const serve: Serve = async (where) => {
  const { server, pool, listen } = await glue(where);
  const mail = DBOS.registerWorkflow(
    async (orderId: string) => void (await DBOS.runStep(async () => void (await pool.query("insert into mails values ($1)", [orderId])), { name: "mail" })),
    { name: "mail" },
  );
  const place = DBOS.registerWorkflow(
    async (order: { readonly customer: string }) => {
      const id = await DBOS.runStep(
        async () => {
          const minted = randomUUID();
          await pool.query({ name: "order", text: "insert into orders values ($1, $2, $3)", values: [minted, order.customer, order] });
          return minted;
        },
        { name: "order" },
      );
      await DBOS.startWorkflow(mail, { queueName: "mails" })(id);
      return { id, status: "placed" };
    },
    { name: "place" },
  );
  DBOS.setConfig({ name: "peers", systemDatabaseUrl: where.postgres, runAdminServer: false, logLevel: "error" } as never);
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

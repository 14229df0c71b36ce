/**
 * Fastify, pg and graphile-worker, put together with care: key, order, job and answer in one transaction. Correct, at the price of a transaction of five
 * round trips per order.
 */
import { createHash, randomUUID } from "node:crypto";
import { Logger, run, runMigrations } from "graphile-worker";
import { PlaceOrder, type Serve } from "./endpoint.ts";
import { glue } from "./glue.ts";

const serve: Serve = async (where) => {
  const { server, pool, listen } = await glue(where);
  const logger = new Logger(() => () => undefined);
  await runMigrations({ connectionString: where.postgres, logger });
  if (where.works)
    await run({
      preset: {
        worker: { connectionString: where.postgres, logger, concurrentJobs: 24, maxPoolSize: 25, localQueue: { size: 500 }, completeJobBatchDelay: 0 },
      },
      noHandleSignals: true,
      taskList: { mail: async (payload) => void (await pool.query("insert into mails values ($1)", [(payload as { orderId: string }).orderId])) },
    });
  server.post("/orders", async (request, reply) => {
    const key = request.headers["idempotency-key"];
    if (typeof key !== "string") return reply.code(400).send({ error: "no key" });
    const order = PlaceOrder.safeParse(request.body);
    if (!order.success) return reply.code(422).send({ error: "invalid" });
    const fingerprint = createHash("sha256").update(JSON.stringify(request.body)).digest("hex");
    const id = randomUUID();
    const answer = JSON.stringify({ id, status: "placed" });
    const client = await pool.connect();
    try {
      await client.query("begin");
      const taken = await client.query({
        name: "take",
        text: "insert into idempotency values ($1, $2, 201, $3) on conflict do nothing",
        values: [key, fingerprint, answer],
      });
      if (taken.rowCount === 0) {
        await client.query("rollback");
        const { rows } = await client.query<{ fingerprint: string; status: number; answer: string }>({
          name: "known",
          text: "select fingerprint, status, answer from idempotency where key = $1",
          values: [key],
        });
        const known = rows[0];
        if (!known || known.fingerprint !== fingerprint) return await reply.code(422).send({ error: "key reused" });
        return await reply.code(known.status).type("application/json").send(known.answer);
      }
      await client.query({ name: "order", text: "insert into orders values ($1, $2, $3)", values: [id, order.data.customer, order.data] });
      await client.query({ name: "job", text: "select graphile_worker.add_job('mail', $1)", values: [JSON.stringify({ orderId: id })] });
      await client.query("commit");
      return await reply.code(201).type("application/json").send(answer);
    } catch (error) {
      await client.query("rollback").catch(() => undefined);
      throw error;
    } finally {
      client.release();
    }
  });
  await listen();
};
export default serve;

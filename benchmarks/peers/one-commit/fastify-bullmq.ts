/**
 * Fastify, pg and BullMQ as they are commonly put together: the order in a transaction, then the job, then the answer in the idempotency table. Each
 * write is durable; they are three, and a process may die between them.
 */
import { createHash, randomUUID } from "node:crypto";
import { createPostgresBackend, Queue, Worker } from "bullmq";
import { PlaceOrder, type Serve } from "./endpoint.ts";
import { glue } from "./glue.ts";

const serve: Serve = async (where) => {
  const { server, pool, listen } = await glue(where);
  const connection = { connectionString: where.postgres, migrate: true } as never;
  const mail = new Queue(
    "mail",
    { connection, defaultJobOptions: { removeOnComplete: true, attempts: 8, backoff: { type: "exponential", delay: 1_000 } } },
    createPostgresBackend as never,
  );
  mail.on("error", () => undefined);
  if (where.works) {
    const worker = new Worker(
      "mail",
      async ({ data }) => void (await pool.query("insert into mails values ($1)", [(data as { orderId: string }).orderId])),
      { connection, concurrency: 32 },
      createPostgresBackend as never,
    );
    worker.on("error", () => undefined);
  }
  server.post("/orders", async (request, reply) => {
    const key = request.headers["idempotency-key"];
    if (typeof key !== "string") return reply.code(400).send({ error: "no key" });
    const order = PlaceOrder.safeParse(request.body);
    if (!order.success) return reply.code(422).send({ error: "invalid" });
    const fingerprint = createHash("sha256").update(JSON.stringify(request.body)).digest("hex");
    const { rows } = await pool.query<{ fingerprint: string; status: number; answer: string }>({
      name: "known",
      text: "select fingerprint, status, answer from idempotency where key = $1",
      values: [key],
    });
    const known = rows[0];
    if (known && known.fingerprint !== fingerprint) return reply.code(422).send({ error: "key reused" });
    if (known) return reply.code(known.status).type("application/json").send(known.answer);
    const id = randomUUID();
    await pool.query({ name: "order", text: "insert into orders values ($1, $2, $3)", values: [id, order.data.customer, order.data] });
    await mail.add("shipped", { orderId: id });
    const answer = JSON.stringify({ id, status: "placed" });
    await pool.query({ name: "answer", text: "insert into idempotency values ($1, $2, 201, $3) on conflict do nothing", values: [key, fingerprint, answer] });
    return reply.code(201).type("application/json").send(answer);
  });
  await listen();
};
export default serve;

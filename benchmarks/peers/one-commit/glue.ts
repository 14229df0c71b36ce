/** What the contenders on Fastify share: the tables, the audit, the listening. */
import Fastify, { type FastifyInstance } from "fastify";
import pg from "pg";
import { tables, type Where } from "./endpoint.ts";

export async function glue({ postgres, port }: Where): Promise<{ readonly server: FastifyInstance; readonly pool: pg.Pool; listen(): Promise<void> }> {
  const pool = new pg.Pool({ connectionString: postgres, max: 16 });
  pool.on("error", () => undefined);
  await pool.query(`select pg_advisory_lock(7); ${tables}; select pg_advisory_unlock(7)`);
  const server = Fastify();
  server.get("/audit", async () => {
    const orders = await pool.query("select id, customer from orders");
    const mails = await pool.query<{ order_id: string; times: string }>("select order_id, count(*) as times from mails group by order_id");
    return { orders: orders.rows, mails: mails.rows.map(({ order_id, times }) => [order_id, Number(times)]) };
  });
  return { server, pool, listen: async () => void (await server.listen({ port, host: "127.0.0.1" })) };
}

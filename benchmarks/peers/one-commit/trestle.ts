/** Trestle as it comes: key, order, job and answer are one commit; the mail is a record in the commit that finishes its job. */
import { app, created, get, post, queue, records, service, start } from "trestle";
import { z } from "zod";
import { PlaceOrder, type Audit, type Serve } from "./endpoint.ts";

const Id = z.uuid();
const orders = records("orders", { key: Id, value: PlaceOrder.extend({ id: Id }) });
const mails = records("mails", { key: Id, value: z.number() });
const mail = queue("mail", { input: z.object({ orderId: Id }), uses: { mails } }, ({ orderId }, { mails }) => mails.add(orderId, 1));
const shop = service(
  "shop",
  { uses: { orders, mails, mail } },
  {
    placeOrder: post("/orders", { body: PlaceOrder, idempotent: true }, ({ body }, { orders, mail }, { newId }) => {
      const id = newId(Id);
      orders.put(id, { ...body, id });
      mail.send({ orderId: id });
      return created({ id, status: "placed" });
    }),
    audit: get("/audit", {}, async (_request, { orders, mails }): Promise<Audit> => {
      const all: { id: string; customer: string }[] = [];
      const sent: (readonly [string, number])[] = [];
      for (let cursor: string | undefined; ;) {
        const page = await orders.list({ limit: 200, cursor });
        all.push(...page.items.map(({ id, customer }) => ({ id, customer })));
        sent.push(...(await mails.getMany(page.items.map(({ id }) => id))));
        if (page.next === undefined) return { orders: all, mails: sent };
        cursor = page.next;
      }
    }),
  },
);

export function trestle(store: (where: Parameters<Serve>[0]) => string): Serve {
  return async (where) => {
    await start(app("peers", [shop]), {
      store: store(where) as "memory:",
      port: where.port,
      host: "127.0.0.1",
      roles: where.works ? ["web", "worker"] : ["web"],
      log: () => undefined,
    });
  };
}

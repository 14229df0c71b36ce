// How do I find out whether a mail can be sent twice? An outbox with a mistake in it, to be found by simulation: docs/guides/simulation.md.
import { app, external, mutation, post, records, schedule, service } from "trestle";
import { z } from "zod";

export const Mail = z.object({ id: z.string(), to: z.string() });

export const mailer = external(
  "mailer",
  { timeout: "2s" },
  { deliver: mutation({ input: Mail, returns: z.object({}), outcome: "may-repeat" }, (mail, wire) => wire.post("/mails", mail)) },
);

export const outbox = records("outbox", { key: z.string(), value: Mail });

export const shop = service(
  "shop",
  { uses: { outbox } },
  {
    order: post("/orders", { body: z.object({ email: z.string() }), idempotent: true }, ({ body }, { outbox }, { newId }) => {
      const id = newId();
      outbox.put(id, { id, to: body.email }); // in the commit of the order: it cannot be forgotten
      return { id };
    }),
  },
);

/** Sends what lies in the outbox, and takes it out. `allow`: a tick does not wait for the one before. */
export const senderWith = (overlap: "allow" | "queue") =>
  schedule("sender", { every: "1s", overlap, uses: { outbox, mailer } }, async (_tick, { outbox, mailer }) => {
    const { items } = await outbox.list({ limit: 20 });
    for (const mail of items) {
      await mailer.deliver(mail);
      outbox.remove(mail.id);
    }
  });

export const hasty = app("outbox", [shop, senderWith("allow")]);
export const patient = app("outbox", [shop, senderWith("queue")]);

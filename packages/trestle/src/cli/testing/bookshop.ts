/** A small app for the tests of the command line: a route, a queue that can be told to fail, and what they keep. */
import { z } from "zod";
import { app, post, queue, records, service } from "../../index.ts";

export const letters = records("letters", { key: z.string(), value: z.string() });
export const mail = queue(
  "mail",
  { input: z.object({ to: z.string() }), uses: { letters }, retry: { attempts: 1 }, owner: "post" },
  ({ to }, { letters }, { id }) => {
    if (to === "nobody" && process.env["MAIL_WORKS"] !== "yes") throw new Error("no such mailbox");
    letters.put(id, to);
  },
);
export const desk = service(
  "desk",
  { uses: { mail } },
  {
    write: post("/letters", { body: z.object({ to: z.string() }) }, ({ body }, { mail }) => {
      mail.send(body);
      return { sent: true };
    }),
  },
);

export const bookshop = app("bookshop", [desk]);

/** A topic: every event reaches whoever follows, once, in the order of its key; and what is in the log stays as it is. */
import { z } from "zod";
import { app, post, records, service, subscription, topic } from "../../index.ts";
import { allOf, checkDelivery, scenario, sometimes, type DeliveryCall } from "../index.ts";
import { nowReceived } from "./received.ts";

const names = ["ada", "ben", "cyd"] as const;
const Name = z.enum(names);
const Letter = z.object({ id: z.string(), to: Name });
const letters = topic("letters", {
  events: { Sent: Letter },
  key: ({ data }) => data.to,
  needs: ["topic.gapless", "topic.fifo-per-key", "topic.replay", "topic.survives-power-loss"],
});
/** Ids of letters, in the order in which they came. */
const Ids = z.array(z.string());
const boxes = records("boxes", { key: Name, value: Ids });
const copies = records("copies", { key: Name, value: Ids });

const delivering = subscription(
  "delivering",
  { to: letters, uses: { boxes }, retry: { attempts: 50, from: "20ms", upTo: "500ms" }, partitions: 2 },
  {
    Sent: async ({ data: { id, to } }, { boxes }) => {
      if (Math.random() < 0.15) throw new Error("nobody is at home");
      boxes.put(to, [...((await boxes.get(to)) ?? []), id]);
    },
  },
);
const copying = subscription(
  "copying",
  { to: letters, uses: { copies }, when: "in-commit" },
  { Sent: async ({ data: { id, to } }, { copies }) => copies.put(to, [...((await copies.get(to)) ?? []), id]) },
);
const office = service(
  "office",
  { uses: { letters } },
  {
    send: post("/letters", { body: Letter, idempotent: true }, ({ body }, { letters }) => {
      letters.publish.Sent(body);
      return {};
    }),
    /** Of another post office, which may bring a letter twice: known by the letter's id alone. */
    handOver: post("/hand-overs", { body: Letter }, async ({ body }, { letters }) => ({ isNew: await letters.publishOnce.Sent(body.id, body) })),
  },
);

export const sendingLetters = scenario(app("post", [office, delivering, copying]), {
  uses: { office, letters, boxes, copies },
  for: "10s",
  clients: {
    count: 4,
    times: 4,
    each: async ({ office }, chance, history) => {
      const id = chance.id();
      // What comes twice is sent when the first of them was: one key for those, which is held to no order.
      if (chance.next() < 0.3) {
        const handOver = async (): Promise<void> => {
          const send = history.invoke({ kind: "send", id }, "cyd");
          const answer = await office.handOver({ body: { id, to: "cyd" } });
          if (!answer.ok) return; // nobody knows
          sometimes("a letter is known already", !answer.body.isNew);
          send.ok();
        };
        // At once: whoever looks whether it is known finds nothing yet.
        await Promise.all(Array.from({ length: chance.integer(1, 3) }, handOver));
        return;
      }
      const to = chance.pick(["ada", "ben"] as const);
      const send = history.invoke({ kind: "send", id }, to);
      await office.send({ body: { id, to } });
      send.ok();
    },
  },
  always: {
    "the log only grows, without a gap, and its copy grows with it": async ({ letters, boxes, copies }, history) => {
      for (const name of names) {
        const ids: string[] = [];
        for await (const { version, data } of letters.history({ key: name })) if (ids.push(data.id) !== version) return false;
        const copy = (await copies.get(name)) ?? [];
        if (ids.length !== copy.length || !ids.every((id, at) => id === copy[at])) return false;
        const box = (await boxes.get(name)) ?? [];
        nowReceived(history, name, box);
        if (!box.every((id, at) => id === ids[at])) return false;
      }
      return true;
    },
  },
  eventually: {
    "each letter has come once, in the order of its key": (_world, history) => {
      const deliveries = history.history<DeliveryCall>();
      return allOf(
        checkDelivery(
          deliveries.filter(({ key }) => key !== "cyd"),
          { delivery: "effectively-once", fifo: true },
        ),
        checkDelivery(
          deliveries.filter(({ key }) => key === "cyd"),
          { delivery: "effectively-once" },
        ),
      );
    },
  },
});

/** A list as a precondition: nobody books what somebody else books at the same time, though neither knows the other's key. */
import { z } from "zod";
import { app, post, records, refuse, service } from "../../index.ts";
import { scenario, sometimes } from "../index.ts";

const Booking = z.object({ room: z.enum(["blue", "green"]), from: z.int(), to: z.int() });
const bookings = records("bookings", { key: z.string(), value: Booking, index: ["room"] });
const overlap = (one: z.infer<typeof Booking>, other: z.infer<typeof Booking>): boolean =>
  one.room === other.room && one.from < other.to && other.from < one.to;

const reception = service(
  "reception",
  { uses: { bookings } },
  {
    book: post("/bookings", { body: Booking, idempotent: true, refuses: { "not-free": 409 } }, async ({ body }, { bookings }, { newId }) => {
      const { items } = await bookings.list({ where: { room: body.room }, limit: 1_000 });
      await bookings.expectUnchanged();
      if (items.some((other) => overlap(body, other))) return refuse("not-free");
      bookings.put(newId(), body);
      return {};
    }),
  },
);

export const bookingRooms = scenario(app("hotel", [reception]), {
  uses: { reception, bookings },
  for: "10s",
  clients: {
    count: 4,
    times: 4,
    each: async ({ reception }, chance) => {
      const from = chance.integer(1, 12);
      const answer = await reception.book({ body: { room: chance.pick(["blue", "green"]), from, to: from + chance.integer(1, 4) } });
      sometimes("a room is booked", answer.ok);
      sometimes("a room is not free", !answer.ok);
    },
  },
  always: {
    "no room is booked twice": async ({ bookings }) => {
      const { items } = await bookings.list({ limit: 1_000 });
      return items.every((one, at) => items.every((other, otherAt) => at === otherAt || !overlap(one, other)));
    },
  },
});

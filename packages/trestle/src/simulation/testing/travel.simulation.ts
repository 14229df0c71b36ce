/** A request that calls other services and the outside: each is asked under one key, whatever dies in between, and what was begun is finished. */
import { z } from "zod";
import { app, external, mutation, post, records, refuse, service } from "../../index.ts";
import { always, model, scenario, sometimes } from "../index.ts";

const Trip = z.object({ id: z.string(), cents: z.int() });
const seats = records("seats", { key: z.string(), value: z.int(), seed: [["left", 8]] });
const reserved = records("reserved", { key: z.string(), value: z.int() });
const trips = records("trips", { key: z.string(), value: z.enum(["begun", "booked", "full"]) });

const airline = service(
  "airline",
  { uses: { seats, reserved } },
  {
    reserve: post(
      "/reservations",
      { body: z.object({ trip: z.string() }), idempotent: true, refuses: { full: 409 } },
      async ({ body: { trip } }, { seats, reserved }) => {
        const left = (await seats.get("left")) ?? 0;
        if (left === 0) return refuse("full");
        seats.put("left", left - 1);
        reserved.put(trip, ((await reserved.get(trip)) ?? 0) + 1);
        return { left: left - 1 };
      },
    ),
  },
);
const bank = external(
  "bank",
  { timeout: "2s", retry: { attempts: 3 } },
  {
    charge: mutation({ input: Trip, returns: z.object({ receipt: z.string() }), lookup: ({ id }, wire) => wire.find(`/charges/${id}`) }, (trip, wire) =>
      wire.post("/charges", trip),
    ),
  },
);
const agency = service(
  "agency",
  { uses: { airline, bank, trips } },
  {
    book: post("/trips", { body: Trip, idempotent: true, timeout: "20s" }, async ({ body }, { airline, bank, trips }) => {
      trips.put(body.id, "begun");
      const seat = await airline.reserve({ body: { trip: body.id } });
      if (!seat.ok) {
        trips.put(body.id, "full");
        return { booked: false };
      }
      await bank.charge(body);
      trips.put(body.id, "booked");
      return { booked: true };
    }),
  },
);

export const bookingTrips = scenario(app("agency", [agency, airline]), {
  uses: { agency, seats, reserved, trips },
  for: "10s",
  outside: [
    model(bank, {
      charge: ({ id }, { memory }) => {
        always("a trip is charged once", !memory.has(id), { id });
        memory.set(id, true);
        return { receipt: id };
      },
    }),
  ],
  clients: {
    count: 3,
    times: 4,
    each: async ({ agency }, chance) => {
      const answer = await agency.book({ body: { id: chance.id(), cents: chance.integer(1, 900) } });
      sometimes("a trip is booked", answer.body.booked);
      sometimes("a flight is full", !answer.body.booked);
    },
  },
  always: {
    "each trip has one seat, and no seat is given twice": async ({ seats, reserved, trips }) => {
      const { items } = await reserved.list({ limit: 1_000 });
      const booked = (await trips.list({ limit: 1_000 })).items.filter((state) => state === "booked").length;
      return items.every((times) => times === 1) && ((await seats.get("left")) ?? 0) + items.length === 8 && booked <= items.length;
    },
  },
  eventually: {
    "what was begun is finished": async ({ trips, reserved }) => {
      const states = (await trips.list({ limit: 1_000 })).items;
      return !states.includes("begun") && states.filter((state) => state === "booked").length === (await reserved.list({ limit: 1_000 })).items.length;
    },
  },
});

/** Events: an aggregate decides on its newest state, rows and reactions follow it without a gap and without a repetition. */
import { z } from "zod";
import { aggregate, app, command, get, post, projection, records, refuse, service, subscription } from "../../index.ts";
import { allOf, checkSessions, checkStaleness, scenario, sometimes, type Versioned, type VersionedCall } from "../index.ts";

const names = ["north", "south"] as const;
const Name = z.enum(names);
const Tons = z.object({ tons: z.int().positive() });
const mostTons = 40;

const silo = aggregate(
  "silo",
  {
    id: Name,
    events: { Filled: Tons, Emptied: Tons },
    initial: () => ({ tons: 0, events: 0 }),
    evolve: {
      Filled: (state, { tons }) => ({ tons: state.tons + tons, events: state.events + 1 }),
      Emptied: (state, { tons }) => ({ tons: state.tons - tons, events: state.events + 1 }),
    },
  },
  {
    fill: command(Tons, (state, { tons }, emit) => (state.tons + tons <= mostTons ? emit.Filled({ tons }) : refuse("full"))),
    empty: command(Tons, (state, { tons }, emit) => (state.tons >= tons ? emit.Emptied({ tons }) : refuse("empty"))),
  },
);
const Row = z.object({ tons: z.int(), events: z.int() });
const atOnce = projection(
  "at-once",
  { from: silo, row: Row, when: "in-commit" },
  {
    creates: { Filled: ({ tons }) => ({ tons, events: 1 }) },
    updates: {
      Filled: (row, { tons }) => ({ tons: row.tons + tons, events: row.events + 1 }),
      Emptied: (row, { tons }) => ({ tons: row.tons - tons, events: row.events + 1 }),
    },
  },
);
const later = projection(
  "later",
  { from: silo, row: Row },
  {
    creates: { Filled: ({ tons }) => ({ tons, events: 1 }) },
    updates: {
      Filled: (row, { tons }) => ({ tons: row.tons + tons, events: row.events + 1 }),
      Emptied: (row, { tons }) => ({ tons: row.tons - tons, events: row.events + 1 }),
    },
  },
);
const heard = records("heard", { key: Name, value: Row });
const listening = subscription(
  "listening",
  { to: silo, uses: { heard } },
  {
    Filled: async ({ key, data }, { heard }) => {
      const row = (await heard.get(key)) ?? { tons: 0, events: 0 };
      heard.put(key, { tons: row.tons + data.tons, events: row.events + 1 });
    },
    Emptied: async ({ key, data }, { heard }) => {
      const row = (await heard.get(key)) ?? { tons: 0, events: 0 };
      heard.put(key, { tons: row.tons - data.tons, events: row.events + 1 });
    },
  },
);
const yard = service(
  "yard",
  { uses: { silo, later } },
  {
    look: get("/silos/:name", { params: z.object({ name: Name }) }, async ({ params: { name } }, { silo, later }) => ({
      events: (await silo.get(name)).events,
      later: (await later.get(name))?.events ?? 0,
    })),
    fill: post("/fills", { body: Tons.extend({ name: Name }), idempotent: true, refuses: { full: 409 } }, async ({ body: { name, tons } }, { silo }) => {
      const filled = await silo.fill(name, { tons });
      return filled.ok ? filled.state : filled;
    }),
    empty: post("/empties", { body: Tons.extend({ name: Name }), idempotent: true, refuses: { empty: 409 } }, async ({ body: { name, tons } }, { silo }) => {
      const emptied = await silo.empty(name, { tons });
      return emptied.ok ? emptied.state : emptied;
    }),
  },
);

const equal = (one: z.infer<typeof Row> | undefined, other: z.infer<typeof Row>): boolean =>
  (one?.tons ?? 0) === other.tons && (one?.events ?? 0) === other.events;

export const fillingSilos = scenario(app("yard", [yard, atOnce, later, listening]), {
  uses: { yard, silo, atOnce, later, heard },
  for: "10s",
  clients: {
    count: 4,
    times: 5,
    each: async ({ yard }, chance, history) => {
      const body = { name: chance.pick(names), tons: chance.integer(1, 20) };
      // The version of a silo is how many events it has had.
      const write = history.invoke<Versioned>({ kind: "write" }, body.name);
      const answer = chance.next() < 0.6 ? await yard.fill({ body }) : await yard.empty({ body });
      sometimes("a command is refused", !answer.ok);
      sometimes("a command is taken", answer.ok);
      if (answer.ok) write.ok({ version: answer.body.events });
      else write.failed();
      const read = history.invoke<Versioned>({ kind: "read" }, body.name);
      const { events, later } = (await yard.look({ params: { name: body.name } })).body;
      read.ok({ version: events });
      history.invoke<Versioned>({ kind: "read" }, `${body.name} later`).ok({ version: later });
    },
  },
  always: {
    "a silo is neither overfull nor owed": async ({ silo }) => {
      for (const name of names) {
        const { tons } = await silo.get(name);
        if (tons < 0 || tons > mostTons) return false;
      }
      return true;
    },
    "rows in the commit are those of the events": async ({ silo, atOnce }) => {
      for (const name of names) if (!equal(await atOnce.get(name), await silo.get(name))) return false;
      return true;
    },
    "rows that follow are never ahead": async ({ silo, later }) => {
      for (const name of names) if (((await later.get(name))?.events ?? 0) > (await silo.get(name)).events) return false;
      return true;
    },
  },
  eventually: {
    "whoever looks finds what was answered before, and rows that follow do not go back": (_world, history) => {
      const all = history.history<VersionedCall, Versioned>();
      const isLater = ({ key }: (typeof all)[number]) => String(key).endsWith(" later");
      const silos = all.filter((one) => !isLater(one));
      return allOf(checkSessions(silos), checkStaleness(silos, { maxMs: 0 }), checkSessions(all.filter(isLater), ["monotonic-reads"]));
    },
    "rows that follow, and reactions, have caught up, each event once": async ({ silo, later, heard }) => {
      for (const name of names) {
        const state = await silo.get(name);
        if (!equal(await later.get(name), state) || !equal(await heard.get(name), state)) return false;
      }
      return true;
    },
  },
});

// What must not compile around aggregates, projections and records, and what must be inferred. Compile-only.
import { z } from "zod";
import { aggregate, command, projection, records, refuse, type Handle, type Live, type Page } from "../index.ts";

type Equal<A, B> = (<T>() => T extends A ? 1 : 2) extends (<T>() => T extends B ? 1 : 2) ? true : false;
declare function same<A, B>(...proof: Equal<A, B> extends true ? [] : [{ expected: B; got: A }]): void;

const OrderId = z.uuid().brand<"OrderId">();
type OrderId = z.infer<typeof OrderId>;
const Placed = z.object({ customer: z.string(), totalCents: z.int() });

const orders = aggregate("orders", {
  id: OrderId,
  events: { OrderPlaced: Placed, OrderShipped: z.object({}), OrderCancelled: z.object({ reason: z.string() }) },
  initial: (): { readonly status: "new" | "placed" | "shipped" | "cancelled" } => ({ status: "new" }),
  evolve: { OrderPlaced: () => ({ status: "placed" }), OrderShipped: () => ({ status: "shipped" }), OrderCancelled: () => ({ status: "cancelled" }) },
}, {
  place: command(Placed, (order, placed, emit) => (order.status === "new" ? emit.OrderPlaced(placed) : refuse("already-placed"))),
  ship: command((order, emit) => (order.status === "placed" ? emit.OrderShipped() : refuse("not-placed", { status: order.status }))),
  cancel: command(z.object({ reason: z.string() }), (_order, why, emit) => emit.OrderCancelled(why)),
});
const counters = records("counters", { key: z.int(), value: z.object({ n: z.number(), owner: z.string() }), index: ["owner"] });
const totals = records("totals", { key: z.string(), value: z.number() });
const rows = projection("rows", { from: orders, row: z.object({ id: OrderId, status: z.enum(["placed", "shipped"]) }), index: ["status"] }, {
  creates: { OrderPlaced: (_placed, { key }) => ({ id: key, status: "placed" }) },
  updates: { OrderShipped: (row) => ({ ...row, status: "shipped" }) },
  removes: ["OrderCancelled"],
});

export async function aggregates(handle: Handle<typeof orders>, id: OrderId) {
  // @ts-expect-error an unbranded string is not an OrderId
  await handle.ship("0197a1b2");
  // @ts-expect-error there is no such command
  await handle.refund(id);
  // @ts-expect-error the command's input is missing
  await handle.cancel(id);
  const shipped = await handle.ship(id);
  // @ts-expect-error the state is only there when the command was accepted
  void shipped.state;
  // @ts-expect-error this refusal never was
  if (!shipped.ok && shipped.refused === "sold") return;
  if (!shipped.ok) same<typeof shipped.refused, "not-placed">();
  const cancelled = await handle.cancel(id, { reason: "x" });
  same<typeof cancelled.ok, true>();
  same<Awaited<ReturnType<typeof handle.get>>["status"], "new" | "placed" | "shipped" | "cancelled">();
}

export async function recordsAndRows(handle: Handle<typeof counters>, sums: Handle<typeof totals>, view: Handle<typeof rows, "read">, id: OrderId) {
  // @ts-expect-error a string key for a numeric key
  await handle.get("7");
  // @ts-expect-error a field that is not indexed
  await handle.list({ limit: 10, where: { n: 1 } });
  // @ts-expect-error a value of the wrong shape
  handle.put(1, { n: "1", owner: "ada" });
  // @ts-expect-error only numbers can be added to
  handle.add(1, 1);
  sums.add("a", 1, { min: 0 });
  // @ts-expect-error a view does not write
  view.put(id, {});
  same<Awaited<ReturnType<typeof view.get>>, { id: OrderId; status: "placed" | "shipped" } | undefined>();
  same<Awaited<ReturnType<Live<typeof rows>["list"]>> extends Page<unknown> ? true : false, true>();
}

// @ts-expect-error a component is inert: it has no operations outside a handler
orders.ship;

aggregate("g", {
  id: OrderId, events: { Opened: z.object({}), Closed: z.object({}) }, initial: () => ({ open: false }),
  // @ts-expect-error an event without a fold
  evolve: { Opened: () => ({ open: true }) },
}, {});
aggregate("h", {
  id: OrderId, events: { Opened: z.object({}) }, initial: () => ({ open: false }),
  // @ts-expect-error a fold of an event that does not exist
  evolve: { Opened: () => ({ open: true }), Shut: () => ({ open: false }) },
}, {});
aggregate("i", {
  id: OrderId, events: { Opened: z.object({ by: z.string() }) }, initial: () => ({ open: false }),
  evolve: { Opened: () => ({ open: true }) },
}, {
  // @ts-expect-error there is no such event
  shut: command((_state, emit) => emit.Shut()),
  // @ts-expect-error the event needs its data
  open: command((_state, emit) => emit.Opened({ at: 1 })),
  // @ts-expect-error state is what `initial` says it is
  look: command((state) => state.closed ? undefined : refuse("no")),
  // @ts-expect-error `get` is the aggregate's own
  get: command(() => undefined),
});
projection("l", { from: orders, row: z.object({ id: OrderId, total: z.number() }) }, {
  // @ts-expect-error a row without all its fields
  creates: { OrderPlaced: (_placed, { key }) => ({ id: key }) },
});
// @ts-expect-error an event that does not exist
projection("m", { from: orders, row: z.object({ n: z.number() }) }, { creates: { OrderOpened: () => ({ n: 1 }) } });
// @ts-expect-error an index on a field that does not exist
projection("n", { from: orders, row: z.object({ n: z.number() }), index: ["customer"] }, { creates: { OrderPlaced: () => ({ n: 1 }) } });

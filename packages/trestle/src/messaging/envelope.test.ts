import { test } from "node:test";
import assert from "node:assert/strict";
import { z } from "zod";
import { app, start } from "../app/index.ts";
import { aggregate, command } from "../events/index.ts";
import { cloudEvent, decode, encode, type Event, type EventMeta } from "../component/index.ts";
import { Fault, seededRandom, virtualClock } from "../kernel/index.ts";
import { post, service } from "../service/index.ts";
import { openSqlite } from "../sqlite/index.ts";
import { seal, unseal } from "./envelope.ts";
import { queue, subscription, topic } from "./index.ts";
import { runNode } from "./testing.ts";

interface Seen {
  readonly what: string;
  readonly id: string;
  readonly correlationId: string;
  readonly causationId: string;
  readonly event?: Pick<Event<string, unknown>, "id" | "causedBy"> & { readonly meta: EventMeta };
}
const seen: Seen[] = [];

const orders = aggregate(
  "orders",
  { id: z.string(), events: { Placed: z.object({}) }, versions: { Placed: 3 }, initial: () => false, evolve: { Placed: () => true } },
  { place: command((_placed, emit) => emit.Placed()) },
);
const shipments = topic("shipments", { events: { Shipped: z.object({ id: z.string() }) } });
const pack = queue("pack", { input: z.object({ id: z.string() }), uses: { shipments } }, ({ id }, { shipments }, { id: me, correlationId, causationId }) => {
  seen.push({ what: "job", id: me, correlationId, causationId });
  shipments.publish.Shipped({ id });
});
const packing = subscription(
  "packing",
  { to: orders, uses: { pack } },
  {
    Placed: (event, { pack }, { id, correlationId, causationId }) => {
      seen.push({ what: "Placed", id, correlationId, causationId, event });
      pack.send({ id: event.key });
    },
  },
);
const telling = subscription(
  "telling",
  { to: shipments },
  {
    Shipped: (event, _uses, { id, correlationId, causationId }) => void seen.push({ what: "Shipped", id, correlationId, causationId, event }),
  },
);
const shop = service(
  "shop",
  { uses: { orders } },
  {
    place: post("/orders/:id", {}, async ({ params }, { orders }, { id, correlationId, causationId }) => {
      seen.push({ what: "request", id, correlationId, causationId });
      const placed = await orders.place(params.id);
      return { placed: placed.ok };
    }),
  },
);
const quiet = { store: "memory:", log: () => undefined } as const;

async function ordered(headers: Record<string, string> = {}): Promise<readonly [Seen, Seen, Seen, Seen]> {
  seen.length = 0;
  await using node = await start(app("mall", [shop, packing, telling]), quiet);
  await node.fetch(new Request("http://x/orders/7", { method: "POST", headers }));
  await node.idle();
  return seen as unknown as readonly [Seen, Seen, Seen, Seen];
}

test("[MSG-15] what sets all off is carried through command, event, subscription, job and event; the cause is always the direct one", async () => {
  const [request, placed, job, shipped] = await ordered();

  assert.deepEqual(
    [request, placed, job, shipped].map(({ what }) => what),
    ["request", "Placed", "job", "Shipped"],
  );
  for (const { correlationId, event } of [request, placed, job, shipped])
    assert.deepEqual([correlationId, event?.meta.correlationId ?? request.id], [request.id, request.id]);
  assert.deepEqual([request.causationId, placed.event?.meta.causationId], [request.id, request.id], "the request caused Placed");
  assert.equal(placed.causationId, placed.event?.id, "Placed caused the reaction");
  assert.equal(job.causationId, job.id, "a job is its own message");
  assert.deepEqual([shipped.event?.meta.causationId, shipped.event?.causedBy], [job.id, job.id], "the job caused Shipped");
  assert.equal(shipped.causationId, shipped.event?.id);
});

test("[MSG-15] an event tells its source, its schema version and its trace; a caller's correlation id is taken over where it looks like one", async () => {
  const [, placed, , shipped] = await ordered({ "trestle-correlation-id": "checkout-42" });
  const [odd] = await ordered({ "trestle-correlation-id": 'a "quoted" one' });

  assert.deepEqual([placed.event?.meta.source, placed.event?.meta.schemaVersion], ["/mall/orders", 3]);
  assert.deepEqual([shipped.event?.meta.source, shipped.event?.meta.schemaVersion], ["/mall/shipments", 1]);
  assert.deepEqual([placed.correlationId, shipped.event?.meta.correlationId], ["checkout-42", "checkout-42"]);
  assert.equal(odd.correlationId, odd.id);
});

test("[MSG-15] for who is outside, an event has the attributes of CloudEvents 1.0", async () => {
  const [request, placed] = await ordered();
  const outside = cloudEvent(placed.event as never);

  const { id, time, position, causationid, correlationid, ...rest } = outside;
  assert.deepEqual([id, position, causationid, correlationid], [placed.event?.id, "1-1", request.id, request.id]);
  assert.match(String(time), /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/);
  assert.deepEqual(rest, {
    specversion: "1.0",
    source: "/mall/orders",
    type: "Placed",
    subject: "7",
    datacontenttype: "application/json",
    partitionkey: "7",
    sequence: "1",
    schemaversion: 3,
    data: {},
  });
  for (const name of Object.keys(outside)) assert.match(name, /^[a-z0-9]{1,20}$/, "CloudEvents allows no other names");
});

test("[F20] compressed and plain payloads lie side by side: what was written before the option, and after it was taken away, is read", async () => {
  const clock = virtualClock();
  const letters: string[] = [];
  const handler = ({ text }: { readonly text: string }) => void letters.push(text);
  const long = "Ünï".repeat(2_000);
  const Letter = { input: z.object({ text: z.string() }), concurrency: 1 };
  const store = await openSqlite({ path: ":memory:", clock });
  const plain = queue("mail", Letter, handler);
  const packed = queue("mail", { ...Letter, compress: true, version: 2 }, handler);
  const sender = await runNode([], { store, clock });
  for (const mail of [plain, packed]) {
    for (const text of ["short", long]) {
      await sender.commit({ mail }, ({ mail }) => void mail.send({ text }));
      await clock.advance(2); // ids in order
    }
  }

  const jobs = await store.read.jobs({ queue: "mail", limit: 10 });
  const worker = await runNode([plain], { store, clock });
  await worker.idle();

  assert.deepEqual(
    jobs.map(({ payload }) => payload[0] === 0x01),
    [false, false, false, true],
  );
  assert.ok((jobs[3]?.payload.byteLength ?? 0) * 10 < (jobs[1]?.payload.byteLength ?? 0));
  assert.deepEqual(
    jobs.map(({ payload }) => unseal(payload)?.schema),
    [undefined, undefined, 2, 2],
  );
  assert.deepEqual(letters, ["short", long, "short", long]);
  await worker.stop();
});

test("[F20] the first byte says what follows: random values survive, small ones stay JSON, and an unknown format is a fault that names it", () => {
  const random = seededRandom("codec");
  const value = (depth: number): unknown => {
    const kind = Math.floor(random.next() * (depth > 3 ? 4 : 6));
    if (kind === 0) return random.next() * 1e9;
    if (kind === 1) return "x".repeat(Math.floor(random.next() * 400)) + "\u0000\ud83d\ude00";
    if (kind === 2) return random.next() < 0.5;
    if (kind === 3) return null;
    if (kind === 4) return Array.from({ length: Math.floor(random.next() * 5) }, () => value(depth + 1));
    return Object.fromEntries(Array.from({ length: Math.floor(random.next() * 5) }, (_, i) => [`k${i}`, value(depth + 1)]));
  };
  let deflated = 0;
  for (let i = 0; i < 300; i++) {
    const one = value(0);
    const bytes = encode(one, "a value", 200);
    if (bytes[0] === 0x01) deflated += 1;
    else assert.ok((bytes[0] ?? 0) >= 0x20);
    assert.deepEqual(decode(bytes), JSON.parse(JSON.stringify(one)));
  }

  assert.ok(deflated > 20, `${deflated} were compressed`);
  assert.equal(encode("tiny", "a value", 200)[0], 0x22);
  assert.throws(
    () => decode(new Uint8Array([0x02, 1, 2])),
    (thrown) => Fault.is(thrown, "payload.unknown-format") && thrown.message.includes("0x02"),
  );
  assert.equal(unseal(seal({ a: 1 }, { tenant: "acme", by: undefined, trace: undefined }, "a message", { above: 10 }))?.tenant, "acme");
});

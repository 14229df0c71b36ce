import { test } from "node:test";
import assert from "node:assert/strict";
import { z } from "zod";
import { app, start, type Node, type StartOptions } from "../app/index.ts";
import { virtualClock } from "../kernel/index.ts";
import { records } from "../records/index.ts";
import { get, put, service, sse } from "./index.ts";

const lamps = records("lamps", { key: z.string(), value: z.object({ on: z.boolean() }) });
let aborted = 0;
const house = service(
  "house",
  { uses: { lamps } },
  {
    set: put("/lamps/:id", { body: z.object({ on: z.boolean() }) }, ({ params, body }, { lamps }) => {
      lamps.put(params.id, body);
      return body;
    }),
    watch: sse("/lamps/:id/events", {}, ({ params }, { lamps }) => lamps.watch(params.id)),
    count: sse("/count/:to", {}, async function* ({ params }, _uses, { signal }) {
      signal.addEventListener("abort", () => (aborted += 1), { once: true });
      for (let n = 1; n <= Number(params.to); n++) yield n;
      if (params.to === "2") throw new Error("the password is 1234");
    }),
    never: sse("/never", {}, (_request, _uses, { signal }) => ({
      [Symbol.asyncIterator]: () => ({
        next: () =>
          new Promise<IteratorResult<number>>((resolve) =>
            signal.addEventListener("abort", () => ((aborted += 1), resolve({ done: true, value: undefined })), { once: true }),
          ),
      }),
    })),
    strict: sse("/strict", { query: z.object({ n: z.coerce.number() }) }, async function* ({ query }) {
      yield query.n;
    }),
    plain: get("/plain", {}, () => "plain"),
  },
);

async function running(options: StartOptions = {}): Promise<Node> {
  return start(app("test", [house]), { store: "memory:", log: () => undefined, ...options });
}
function set(node: Node, id: string, on: boolean): Promise<Response> {
  return node.fetch(new Request(`http://x/lamps/${id}`, { method: "PUT", body: JSON.stringify({ on }), headers: { "content-type": "application/json" } }));
}
async function listen(node: Node, path: string, headers: Record<string, string> = {}) {
  const response = await node.fetch(new Request(`http://x${path}`, { headers: { accept: "text/event-stream", ...headers } }));
  assert.equal(response.status, 200);
  assert.equal(response.headers.get("content-type"), "text/event-stream; charset=utf-8");
  const reader = (response.body as ReadableStream<Uint8Array>).pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  return {
    /** The next event, comments left out; `undefined` at the end. */
    async event(): Promise<string | undefined> {
      for (;;) {
        const end = text.indexOf("\n\n");
        if (end >= 0) {
          const event = text.slice(0, end);
          text = text.slice(end + 2);
          if (!event.startsWith(":")) return event;
          continue;
        }
        const { done, value } = await reader.read();
        if (done) return undefined;
        text += value;
      }
    },
    comment: async (): Promise<string> => (await reader.read()).value ?? "",
    leave: () => reader.cancel(),
  };
}
const dataOf = (event: string | undefined): unknown => JSON.parse(/^data: (.*)$/m.exec(event ?? "")?.[1] ?? '"no data"');
const idOf = (event: string | undefined): string | undefined => /^id: (.*)$/m.exec(event ?? "")?.[1];

test("a watched value comes now, and after each change, with the id to go on from", async () => {
  await using node = await running();
  await set(node, "a", false);
  const stream = await listen(node, "/lamps/a/events");
  const first = await stream.event();
  assert.deepEqual(dataOf(first), { on: false });
  await set(node, "a", true);
  const second = await stream.event();
  assert.deepEqual(dataOf(second), { on: true });
  assert.notEqual(idOf(first), idOf(second));
  await stream.leave();

  await set(node, "a", false);
  const resumed = await listen(node, "/lamps/a/events", { "last-event-id": idOf(second) as string });
  assert.deepEqual(dataOf(await resumed.event()), { on: false }, "what changed meanwhile");
  const id = String(idOf(second));
  await resumed.leave();
  const current = await listen(node, "/lamps/a/events");
  const newest = idOf(await current.event());
  await current.leave();
  assert.notEqual(newest, id);
  const nothingNew = await listen(node, "/lamps/a/events", { "last-event-id": newest as string });
  await set(node, "a", true);
  assert.deepEqual(dataOf(await nothingNew.event()), { on: true }, "what it has seen does not come again");
  await nothingNew.leave();
});

test("a stream that ends, ends", async () => {
  await using node = await running();
  const stream = await listen(node, "/count/3");
  assert.deepEqual([dataOf(await stream.event()), dataOf(await stream.event()), dataOf(await stream.event()), await stream.event()], [1, 2, 3, undefined]);
});

test("a fault in a stream is an event named error, with nothing of its inside", async () => {
  await using node = await running();
  const stream = await listen(node, "/count/2");
  await stream.event();
  await stream.event();
  const error = await stream.event();
  assert.match(error ?? "", /^event: error$/m);
  assert.equal((dataOf(error) as { readonly code: string }).code, "service.fault");
  assert.doesNotMatch(error ?? "", /password/);
  assert.equal(await stream.event(), undefined);
});

test("a listener who leaves aborts the handler's signal", async () => {
  const clock = virtualClock();
  await using node = await running({ clock });
  aborted = 0;
  const stream = await listen(node, "/never");
  await stream.comment();
  await stream.leave();
  await clock.advance(1);
  assert.equal(aborted, 1);
});

test("[RES-07] a slow listener holds one item, not a buffer of them", async () => {
  const clock = virtualClock();
  let produced = 0;
  const fast = service(
    "fast",
    {},
    {
      all: sse("/all", {}, async function* () {
        for (;;) yield ++produced;
      }),
    },
  );
  await using node = await start(app("test", [fast]), { store: "memory:", log: () => undefined, clock });
  const response = await node.fetch(new Request("http://x/all"));
  assert.equal(response.status, 200);
  const reader = (response.body as ReadableStream<Uint8Array>).getReader();
  for (let read = 0; read < 3; read++) await reader.read(); // the greeting and two items
  await clock.advance(60_000);
  assert.ok(produced >= 2 && produced <= 4, `${produced} items were made for a listener who has read two`);
  await reader.cancel();
});

test("a quiet stream says that it is there", async () => {
  const clock = virtualClock();
  await using node = await running({ clock });
  const stream = await listen(node, "/never");
  assert.match(await stream.comment(), /^: hello/);
  const next = stream.comment();
  await clock.advance(15_000);
  assert.match(await next, /^: still here\n\n$/);
  await stream.leave();
});

test("when the node drains its streams end, so that listeners go elsewhere", async () => {
  await using node = await running();
  const [one, two] = [await listen(node, "/lamps/a/events"), await listen(node, "/never")];
  assert.deepEqual(dataOf(await one.event()), null);
  const ended = Promise.all([one.event(), two.event()]);
  await node.drain("1s");
  assert.deepEqual(await ended, [undefined, undefined]);
});

test("what is wrong before the first item is a problem, not a stream", async () => {
  await using node = await running();
  const wrong = await node.fetch(new Request("http://x/strict?n=x"));
  assert.deepEqual([wrong.status, wrong.headers.get("content-type")], [400, "application/problem+json"]);
  assert.equal((await node.fetch(new Request("http://x/never", { headers: { accept: "application/json" } }))).status, 406);
});

test("the typed client gets the items themselves, until it stops listening", async () => {
  await using node = await running();
  const items: unknown[] = [];
  for await (const item of await node.open(house).count({ params: { to: "5" } })) {
    items.push(item);
    if (items.length === 3) break;
  }
  assert.deepEqual(items, [1, 2, 3]);
  await assert.rejects(async () => {
    for await (const _ of await node.open(house).count({ params: { to: "2" } })) void _;
  }, /password/);
});

import assert from "node:assert/strict";
import { test } from "node:test";
import { Agent, fetch as undiciFetch } from "undici";
import { emptyContext, Fault, inContext, sleep, systemClock } from "../kernel/index.ts";
import { breaker, budget, deadline, hedge, pipeline, retry, timeout } from "../resilience/index.ts";
import { listening, type Answer } from "../resilience/testing/listening.ts";
import { guardedFetch, type Fetch } from "./index.ts";
import { toldIfUnsendable } from "./unsendable.ts";

const status =
  (...codes: readonly number[]): Answer =>
  (_, response, nth) =>
    response.writeHead(codes[nth - 1] ?? (codes.at(-1) as number)).end(`answer ${nth}`);
const retried = (attempts = 3) => pipeline(deadline("20s"), retry({ attempts, from: 5, jitter: "none" }), timeout("10s"));

async function until(what: string, holds: () => boolean): Promise<void> {
  for (let i = 0; i < 500 && !holds(); i++) await sleep(systemClock, 10);
  assert.ok(holds(), what);
}

test("a fetch that is answered badly is asked again, and the answer of the last attempt is the caller's", async (t) => {
  const healing = await listening(t, status(503, 500, 200));
  const ask = guardedFetch(retried());
  const answer = await ask(healing.url);
  assert.deepEqual([answer.status, await answer.text(), healing.asked.length], [200, "answer 3", 3]);

  const ill = await listening(t, status(503));
  const last = await ask(ill.url);
  assert.deepEqual([last.status, await last.text(), ill.asked.length], [503, "answer 3", 3]);

  const refusing = await listening(t, status(404));
  assert.equal((await ask(refusing.url)).status, 404);
  assert.equal(refusing.asked.length, 1, "a refusal is an answer");
});

test("a POST is not repeated after an answer that may have followed a deed, unless it has an Idempotency-Key; a stream never", async (t) => {
  const counted = async (codes: readonly number[], init: RequestInit & { duplex?: "half" }) => {
    const { url, asked } = await listening(t, status(...codes));
    const answer = await guardedFetch(retried())(url, init);
    await answer.text();
    return [asked.length, answer.status];
  };
  const streamed = () => new Blob(["x"]).stream();
  assert.deepEqual(await counted([500, 200], { method: "POST", body: "x" }), [1, 500]);
  assert.deepEqual(await counted([503, 200], { method: "POST", body: "x" }), [1, 503], "what it calls may have been too busy, after a deed of its own");
  assert.deepEqual(await counted([429, 200], { method: "POST", body: "x" }), [2, 200], "too many: it was not done");
  assert.deepEqual(await counted([500, 200], { method: "POST", body: "x", headers: { "Idempotency-Key": "k" } }), [2, 200]);
  assert.deepEqual(await counted([503, 200], { method: "PUT", body: streamed(), duplex: "half" }), [1, 503]);
  assert.deepEqual(await counted([500, 200], { method: "PUT", body: "x" }), [2, 200]);
});

test("what fetch refuses to send is the caller's mistake: not repeated, and not counted against the other side", async (t) => {
  const outcomes: string[] = [];
  const one = breaker({ per: "key", minimumCalls: 2, onChange: (_, to) => void outcomes.push(to) });
  const ask = guardedFetch(pipeline({ onAttempt: ({ outcome }) => void outcomes.push(outcome) }, retry({ attempts: 3, from: 1 }), one));
  const isInvalid = (thrown: unknown) => thrown instanceof TypeError && "code" in thrown && thrown.code === "UND_ERR_INVALID_ARG";

  for (let nth = 0; nth < 10; nth++) await assert.rejects(ask("http://127.0.0.1:9/"), isInvalid);
  await assert.rejects(ask("ftp://127.0.0.1/"), isInvalid);
  assert.deepEqual(outcomes, new Array(11).fill("failed"), "no repetition, and no breaker opens");

  // Where an answer leads is the other side's doing, and it may have acted.
  const leading = await listening(t, (_, response) => response.writeHead(307, { location: "http://127.0.0.1:9/" }).end());
  await assert.rejects(ask(leading.url), (thrown) => !isInvalid(thrown));
  assert.equal(leading.asked.length, 2, "asked until its breaker opens");
});

test("the ports that are taken for blocked are those that fetch sends nothing to", async () => {
  const sent = new Error("sent");
  const dispatcher = {
    dispatch: () => {
      throw sent;
    },
  };
  let blocked = 0;
  for (let port = 0; port <= 11_000; port++) {
    const thrown = await fetch(`http://127.0.0.1:${port}/`, { dispatcher } as unknown as RequestInit).catch((error: Error) => error);
    const told = toldIfUnsendable(thrown, new URL(`http://127.0.0.1:${port}/`)) as Error;
    assert.equal("code" in told, told.cause !== sent, `port ${port}`);
    if (told.cause !== sent) blocked++;
  }
  assert.ok(blocked > 80, `${blocked} are blocked`);
});

test("Retry-After is kept to, in seconds and as a date", async (t) => {
  const waited = async (retryAfter: () => string) => {
    const at: number[] = [];
    const { url } = await listening(t, (_, response, nth) => {
      at.push(systemClock.monotonicMs());
      response.writeHead(nth === 1 ? 429 : 200, { "retry-after": retryAfter() }).end();
    });
    assert.equal((await guardedFetch(retried())(url)).status, 200);
    return (at[1] as number) - (at[0] as number);
  };
  assert.ok((await waited(() => "1")) >= 990);
  const wallMs = systemClock.wallMs();
  assert.ok((await waited(() => new Date(wallMs + 2_500).toUTCString())) >= 800);
});

test("the other side is told how much time there is, of priority, correlation, trace, and which attempt it is", async (t) => {
  const { url, asked } = await listening(t, status(503, 200));
  const context = {
    ...emptyContext,
    priority: "low",
    correlation: "c-1",
    traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    tenant: "not told",
  } as const;
  await inContext(context, () => guardedFetch(retried())(url, { headers: { "x-own": "1" } }));
  const fields = asked.map(({ headers }) =>
    ["x-own", "trestle-priority", "trestle-correlation-id", "traceparent", "trestle-attempt"].map((name) => headers[name]),
  );
  const told = ["1", "low", "c-1", context.traceparent];
  assert.deepEqual(fields, [
    [...told, undefined],
    [...told, "2"],
  ]);
  const left = Number(asked[0]?.headers["trestle-deadline-ms"]);
  assert.ok(left > 5_000 && left <= 10_000, `${left} ms: those of the attempt`);
  assert.ok(!JSON.stringify(asked[0]?.headers).includes("not told"));

  await guardedFetch(retried(), { tellsContext: false })(url);
  assert.equal(asked[2]?.headers["trestle-deadline-ms"], undefined);
});

test("no socket waits for somebody to read an answer that nobody wants: of failed attempts, of hedges that lost", async (t) => {
  const large = "x".repeat(1_000_000);
  const { url, sockets } = await listening(t, (_, response, nth) => response.writeHead(nth < 3 ? 503 : 200).end(nth < 3 ? large : "last"));
  const agent = new Agent({ connections: 1, pipelining: 1 });
  t.after(() => agent.destroy());
  const throughOne = ((input: string, init: RequestInit) => undiciFetch(input, { ...(init as object), dispatcher: agent })) as unknown as Fetch;
  const answer = await guardedFetch(retried(), { fetch: throughOne })(url); // with one connection the next attempt waits for ever for a body that is not read
  assert.equal(await answer.text(), "last");
  await until("one socket at most", () => sockets.size <= 1);

  const cancelled: number[] = [];
  let nth = 0;
  const slow: Fetch = async () => {
    const which = ++nth;
    await sleep(systemClock, which === 1 ? 150 : 60); // does not listen to its signal
    return new Response(new ReadableStream({ cancel: () => void cancelled.push(which) }));
  };
  const hedged = guardedFetch(pipeline(hedge({ after: 20, budget: budget({ burst: 10 }) })), { fetch: slow });
  const won = await hedged(url);
  await until("the loser's answer is cancelled", () => cancelled.length > 0);
  assert.deepEqual([cancelled, won.bodyUsed], [[1], false]);
});

test("a destination that is down opens its own breaker and no other, and what it last answered is not hidden by that", async (t) => {
  const [ill, well] = [await listening(t, status(500)), await listening(t, status(200))];
  const guard = pipeline(retry({ attempts: 5, from: 1, jitter: "none" }), breaker({ per: "key", minimumCalls: 3 }));
  const ask = guardedFetch(guard);
  const answer = await ask(ill.url);
  assert.deepEqual([answer.status, await answer.text(), ill.asked.length], [500, "answer 3", 3]);
  await assert.rejects(ask(ill.url), (thrown: unknown) => Fault.is(thrown, "breaker.open"));
  assert.equal((await ask(well.url)).status, 200);
});

test("a destination that never answers costs the time there is, and the caller's abort ends the call and the reading of its answer", async (t) => {
  let closed = false;
  const { url, asked } = await listening(t, (request, response) => {
    if (request.url !== "/endless") return;
    response.write("begun");
    response.on("close", () => (closed = true));
  });
  const ask = guardedFetch(pipeline(timeout(100)));
  await assert.rejects(ask(url), (thrown: unknown) => Fault.is(thrown, "deadline.exceeded"));
  const gone = new Error("gone");
  const caller = new AbortController();
  const waiting = guardedFetch(pipeline(timeout("20s")))(url, { signal: caller.signal });
  await until("asked", () => asked.length === 2);
  caller.abort(gone);
  await assert.rejects(waiting, gone);

  const reader = new AbortController();
  const endless = await ask(new URL("/endless", url), { signal: reader.signal });
  reader.abort(gone);
  await assert.rejects(endless.text());
  await until("the other side hears of it", () => closed);
});

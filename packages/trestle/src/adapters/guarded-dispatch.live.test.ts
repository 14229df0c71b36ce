import assert from "node:assert/strict";
import type { Socket } from "node:net";
import { Readable, Writable } from "node:stream";
import { test, type TestContext } from "node:test";
import { Agent, fetch as undiciFetch, interceptors, Pool, request, type Dispatcher } from "undici";
import { emptyContext, Fault, type FaultCode, inContext, sleep, systemClock } from "../kernel/index.ts";
import { breaker, budget, bulkhead, deadline, hedge, pipeline, retry, timeout, type Policy } from "../resilience/index.ts";
import { guardedDispatch, type GuardedDispatchOptions } from "./index.ts";
import { listening, type Answer } from "../resilience/testing/listening.ts";

/** A dispatcher of undici's under a policy, closed after the test. */
function guarded(t: TestContext, guard: Policy<string>, options: GuardedDispatchOptions = {}, connections = 4): Dispatcher {
  const agent = new Agent({ connections, pipelining: 1 });
  t.after(() => agent.destroy());
  return agent.compose(guardedDispatch(guard, options));
}
const status =
  (...codes: readonly number[]): Answer =>
  (_, response, nth) =>
    response.writeHead(codes[nth - 1] ?? (codes.at(-1) as number)).end(`answer ${nth}`);
const retried = (attempts = 3) => pipeline(deadline("20s"), retry({ attempts, from: 5, jitter: "none" }), timeout("10s"));
const is = (code: FaultCode) => (thrown: unknown) => Fault.is(thrown, code);

async function until(what: string, holds: () => boolean): Promise<void> {
  for (let i = 0; i < 2_000 && !holds(); i++) await sleep(systemClock, 10);
  assert.ok(holds(), what);
}

test("what is answered badly is sent again, and the answer of the last attempt is the caller's, whole", async (t) => {
  const healing = await listening(t, status(503, 500, 200));
  const dispatcher = guarded(t, retried());
  const answer = await request(healing.url, { dispatcher });
  assert.deepEqual([answer.statusCode, await answer.body.text(), healing.asked.length], [200, "answer 3", 3]);

  const large = "x".repeat(1_000_000);
  const ill = await listening(t, (_, response) => response.writeHead(503, { "x-own": "1" }).end(large));
  const last = await request(ill.url, { dispatcher });
  assert.deepEqual([last.statusCode, last.headers["x-own"], (await last.body.text()).length, ill.asked.length], [503, "1", large.length, 3]);

  const refusing = await listening(t, status(404));
  assert.equal((await request(refusing.url, { dispatcher })).statusCode, 404);
  assert.equal(refusing.asked.length, 1, "a refusal is an answer");
});

test("reset before the head it is sent again; after it has begun to answer, never: what is broken is the caller's to see, and counts", async (t) => {
  const resetting = await listening(t, (incoming, response, nth) => (nth < 3 ? incoming.socket.resetAndDestroy() : response.end("at last")));
  const dispatcher = guarded(t, retried());
  assert.equal(await (await request(resetting.url, { dispatcher })).body.text(), "at last");
  assert.equal(resetting.asked.length, 3);

  const breaking = await listening(t, (incoming, response) => {
    response.writeHead(200, { "content-length": "100" });
    response.write("begun", () => incoming.socket.destroy());
  });
  const counting = breaker({ per: "key", minimumCalls: 2, failureRate: 0.5 });
  const half = guarded(t, pipeline(retry({ attempts: 5, from: 1, jitter: "none" }), counting));
  for (const nth of [1, 2]) {
    const answer = await request(breaking.url, { dispatcher: half });
    await assert.rejects(answer.body.text());
    assert.equal(breaking.asked.length, nth, "once each");
  }
  await assert.rejects(request(breaking.url, { dispatcher: half }), is("breaker.open"));
});

test("what may not be repeated is not: a POST whose deed may be done, a body that can be read once", async (t) => {
  const counted = async (codes: readonly number[], options: NonNullable<Parameters<typeof request>[1]>) => {
    const { origin: url, asked } = await listening(t, status(...codes));
    const answer = await request(url, { dispatcher: guarded(t, retried()), ...options });
    await answer.body.text();
    return [asked.length, answer.statusCode];
  };
  assert.deepEqual(await counted([500, 200], { method: "POST", body: "x" }), [1, 500]);
  assert.deepEqual(await counted([503, 200], { method: "POST", body: "x" }), [1, 503], "what it calls may have been too busy, after a deed of its own");
  assert.deepEqual(await counted([429, 200], { method: "POST", body: "x" }), [2, 200], "too many: it was not done");
  for (const headers of [{ "Idempotency-Key": "k" }, ["Idempotency-Key", "k"], new Map([["Idempotency-Key", "k"]])])
    assert.deepEqual(await counted([500, 200], { method: "POST", body: "x", headers }), [2, 200]);
  assert.deepEqual(await counted([500, 200], { method: "POST", body: "x", idempotent: true }), [2, 200], "undici was told");
  assert.deepEqual(await counted([500, 200], { method: "PUT", body: new Uint8Array(10) }), [2, 200]);
  assert.deepEqual(await counted([503, 200], { method: "PUT", body: Readable.from(["x", "y"]) }), [1, 503]);
});

test("Retry-After is kept to, in seconds and as a date", async (t) => {
  const waited = async (retryAfter: () => string) => {
    const at: number[] = [];
    const { origin: url } = await listening(t, (_, response, nth) => {
      at.push(systemClock.monotonicMs());
      response.writeHead(nth === 1 ? 503 : 200, { "retry-after": retryAfter() }).end();
    });
    const answer = await request(url, { dispatcher: guarded(t, retried()) });
    await answer.body.dump();
    assert.equal(answer.statusCode, 200);
    return (at[1] as number) - (at[0] as number);
  };
  assert.ok((await waited(() => "1")) >= 990);
  const wallMs = systemClock.wallMs();
  assert.ok((await waited(() => new Date(wallMs + 2_500).toUTCString())) >= 800);
});

test("the other side is told how much time there is, of priority, correlation, trace, and which attempt it is", async (t) => {
  const { origin: url, asked } = await listening(t, status(503, 200));
  const traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
  const context = { ...emptyContext, priority: "low", correlation: "c-1", traceparent, tenant: "not told" } as const;
  await inContext(context, async () => (await request(url, { dispatcher: guarded(t, retried()), headers: { "x-own": "1" } })).body.dump());
  const names = ["x-own", "trestle-priority", "trestle-correlation-id", "traceparent", "trestle-attempt"];
  const told = ["1", "low", "c-1", traceparent];
  assert.deepEqual(
    asked.map(({ headers }) => names.map((name) => headers[name])),
    [
      [...told, undefined],
      [...told, "2"],
    ],
  );
  const left = Number(asked[0]?.headers["trestle-deadline-ms"]);
  assert.ok(left > 0 && left <= 10_000, `${left} ms: those of the attempt`);
  assert.ok(!JSON.stringify(asked[0]?.headers).includes("not told"));
  await (await request(url, { dispatcher: guarded(t, retried(), { tellsContext: false }) })).body.dump();
  assert.equal(asked[2]?.headers["trestle-deadline-ms"], undefined);
});

test("whoever hangs costs the time there is and no place longer; its sockets are gone", async (t) => {
  const { origin: url, sockets } = await listening(t, () => undefined);
  const places = bulkhead({ running: 2, waiting: 100 });
  const dispatcher = guarded(t, pipeline(deadline(300), places));
  const many = await Promise.allSettled(Array.from({ length: 20 }, () => request(url, { dispatcher })));
  const codes = many.map((one) => (one as PromiseRejectedResult).reason.code as string);
  assert.ok(codes.filter((code) => code === "deadline.exceeded").length >= 2);
  assert.deepEqual(
    codes.filter((code) => !["deadline.exceeded", "bulkhead.full"].includes(code)),
    [],
    "or it waited in vain",
  );
  await until("all places are free", () => places.inFlight === 0 && places.waiting === 0);
  await until("no socket is left", () => sockets.size === 0);
});

test("a body that trickles has no more time than the call, and holds its place until then; with `until: head` it may take as long as it likes", async (t) => {
  const { origin: url, sockets } = await listening(t, (_, response) => {
    const trickle = () => (response.closed ? undefined : (response.write("."), systemClock.after(20, trickle)));
    trickle();
  });
  const places = bulkhead({ running: 1, waiting: 10 });
  const guard = pipeline(deadline(500), places);
  const answer = await request(url, { dispatcher: guarded(t, guard) });
  assert.equal(answer.statusCode, 200);
  assert.equal(places.inFlight, 1, "it is still under way");
  await assert.rejects(answer.body.text(), is("deadline.exceeded"));
  await until("its place is free", () => places.inFlight === 0);
  await until("no socket is left", () => sockets.size === 0);

  const endless = await request(url, { dispatcher: guarded(t, guard, { until: "head" }) });
  await until("its place is free before its end", () => places.inFlight === 0);
  const got = endless.body[Symbol.asyncIterator]();
  const fromMs = systemClock.monotonicMs();
  while (systemClock.monotonicMs() < fromMs + 700) assert.equal((await got.next()).done, false);
  endless.body.destroy();
  await until("no socket is left", () => sockets.size === 0);
});

test("the caller's abort ends it while it waits for a place, between attempts, before the head and within the body", async (t) => {
  const {
    origin: url,
    asked,
    sockets,
  } = await listening(t, (incoming, response) => {
    if (incoming.url === "/busy") response.writeHead(503, { "retry-after": "30" }).end("busy");
    if (incoming.url === "/endless") response.write("begun");
  });
  const gone = new Error("gone");
  const places = bulkhead({ running: 1, waiting: 10 });
  const dispatcher = guarded(t, pipeline(retry({ from: 1 }), places));
  const leaving = (path: string) => {
    const caller = new AbortController();
    return { caller, answer: request(`${url}${path}`, { dispatcher, signal: caller.signal }) };
  };

  const busy = leaving("/busy");
  await until("asked once", () => asked.length === 1 && places.inFlight === 0);
  busy.caller.abort(gone);
  await assert.rejects(busy.answer, gone);

  const silent = leaving("/silent");
  await until("asked", () => asked.length === 2);
  const waiting = leaving("/silent");
  await until("one waits", () => places.waiting === 1);
  waiting.caller.abort(gone);
  await assert.rejects(waiting.answer, gone);
  silent.caller.abort(gone);
  await assert.rejects(silent.answer, gone);
  await until("its place is free", () => places.inFlight === 0);

  const endless = leaving("/endless");
  const { body } = await endless.answer;
  endless.caller.abort(gone);
  await assert.rejects(body.text());
  await until("all places are free", () => places.inFlight === 0 && places.waiting === 0);
  assert.equal(asked.length, 3);
  await until("only what answered to the end keeps its socket", () => sockets.size <= 1);
});

test("a destination that is down opens its own breaker and no other, and what it last answered is not hidden by that", async (t) => {
  const [ill, well] = [await listening(t, status(500)), await listening(t, status(200))];
  const dispatcher = guarded(t, pipeline(retry({ attempts: 5, from: 1, jitter: "none" }), breaker({ per: "key", minimumCalls: 3 })));
  const answer = await request(ill.url, { dispatcher });
  assert.deepEqual([answer.statusCode, await answer.body.text(), ill.asked.length], [500, "answer 3", 3]);
  await assert.rejects(request(ill.url, { dispatcher }), is("breaker.open"));
  assert.equal((await request(well.url, { dispatcher })).statusCode, 200);
});

test("with one connection the answer that nobody gets does not stand in the way of the next attempt, nor does it end a connection that can be used again", async (t) => {
  const opened: Socket[] = [];
  const { origin: url, sockets } = await listening(t, (incoming, response, nth) => {
    if (!opened.includes(incoming.socket)) opened.push(incoming.socket);
    response.writeHead(nth % 3 === 0 ? 200 : 503).end(incoming.url === "/large" && nth % 3 !== 0 ? "x".repeat(1_000_000) : "small");
  });
  const dispatcher = guarded(t, retried(), {}, 1);
  assert.equal(await (await request(`${url}/small`, { dispatcher })).body.text(), "small");
  assert.equal(opened.length, 1, "three attempts on one connection");
  assert.equal(await (await request(`${url}/large`, { dispatcher })).body.text(), "small");
  await until("one socket at most", () => sockets.size <= 1);
});

test("of a hedge the first answer is the caller's, the other one is ended, and none is asked while an answer is read", async (t) => {
  const ended: number[] = [];
  const { origin: url, asked } = await listening(t, (incoming, response, nth) => {
    response.on("close", () => (response.writableEnded ? undefined : ended.push(nth)));
    if (nth === 1) return;
    response.write("second");
    if (incoming.url === "/") return void response.end();
    systemClock.after(300, () => response.end());
  });
  const dispatcher = guarded(t, pipeline(hedge({ after: 50, budget: budget({ burst: 10 }) })));
  assert.equal(await (await request(url, { dispatcher })).body.text(), "second");
  await until("the loser is ended", () => ended.length > 0);
  assert.deepEqual([ended, asked.length], [[1], 2]);
  assert.equal(await (await request(`${url}/slow`, { dispatcher })).body.text(), "second");
  assert.equal(asked.length, 3);
});

test("a Pool, undici's fetch and stream go through it too", async (t) => {
  const { origin: url, asked } = await listening(t, (_, response, nth) => response.writeHead(nth % 2 === 1 ? 503 : 200).end("well"));
  const pool = new Pool(url, { connections: 2 });
  t.after(() => pool.destroy());
  const dispatcher = pool.compose(guardedDispatch(retried()));
  assert.equal(await (await dispatcher.request({ path: "/", method: "GET" })).body.text(), "well");
  assert.equal(await (await undiciFetch(url, { dispatcher })).text(), "well");
  const seen: number[] = [];
  const nowhere = () => new Writable({ write: (_chunk, _encoding, done) => done() });
  await dispatcher.stream({ path: "/", method: "GET" }, ({ statusCode }) => (seen.push(statusCode), nowhere()));
  assert.deepEqual(seen, [200]);
  assert.equal(asked.length, 6);
});

test("whoever asked is told once that its request starts, however often it is sent, and of the answer's redirections", async (t) => {
  const healing = await listening(t, (_, response, nth) =>
    nth < 4 ? response.writeHead(503).end() : response.writeHead(nth === 4 ? 302 : 200, nth === 4 ? { location: "/there" } : {}).end("at last"),
  );
  const agent = new Agent({ connections: 1 });
  t.after(() => agent.destroy());
  const dispatcher = agent.compose(interceptors.redirect({ maxRedirections: 2 }), guardedDispatch(retried(5)));
  const events: string[] = [];
  await new Promise<void>((done) =>
    dispatcher.dispatch(
      { origin: healing.url, path: "/", method: "GET" },
      {
        onRequestStart: () => void events.push("start"),
        onResponseStart: (_, code) => void events.push(`head ${code}`),
        onResponseEnd: () => done(),
        onResponseError: () => done(),
      },
    ),
  );
  assert.deepEqual([events, healing.asked.length], [["start", "head 200"], 5]);

  const redirecting = await listening(t, (_, response, nth) => response.writeHead(nth === 1 ? 302 : 200, nth === 1 ? { location: "/there" } : {}).end());
  const { context } = await request(redirecting.url, { dispatcher });
  assert.deepEqual((context as { history: URL[] }).history.map(String), [redirecting.url, `${redirecting.url}there`]);
});

test("who aborts at the head of an answer that was held gets its error and nothing more, whether or not that answer has ended", async (t) => {
  for (const ends of [true, false]) {
    const ill = await listening(t, (_, response) => {
      response.writeHead(503).write("begun");
      if (ends) response.end();
    });
    const dispatcher = guarded(t, pipeline(deadline("20s"), retry({ attempts: 2, from: 50, jitter: "none" })));
    const events: string[] = [];
    await new Promise<void>((done) =>
      dispatcher.dispatch(
        { origin: ill.url, path: "/", method: "GET" },
        {
          onRequestStart: () => void events.push("start"),
          onResponseStart(controller, code) {
            events.push(`head ${code}`);
            controller.abort(new Error("enough"));
          },
          onResponseData: () => void events.push("data"),
          onResponseEnd: () => (events.push("end"), setImmediate(done)),
          onResponseError: (_, error) => (events.push(error.message), setImmediate(done)),
        },
      ),
    );
    assert.deepEqual(events, ["start", "head 503", "enough"]);
  }
});

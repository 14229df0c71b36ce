import { test } from "node:test";
import assert from "node:assert/strict";
import { z } from "zod";
import { app, start, type Node, type StartOptions } from "../app/index.ts";
import { refuse, type Component, type Schema } from "../component/index.ts";
import { currentContext, Fault, virtualClock, type VirtualClock } from "../kernel/index.ts";
import { queue } from "../messaging/index.ts";
import { aggregate, command } from "../events/index.ts";
import { records } from "../records/index.ts";
import { accepted, created, del, get, html, noContent, ok, page, patch, post, put, service } from "./index.ts";

const Note = z.object({ text: z.string().max(100), tags: z.array(z.string()).optional() });
const notes = records("notes", { key: z.string(), value: Note });
const mail = queue("mail", { input: z.object({ to: z.string() }), uses: {} }, () => {});

const desk = service(
  "desk",
  { uses: { notes, mail }, maxBody: 2_000 },
  {
    write: put("/notes/:id", { body: Note, refuses: { taken: 409 } }, async ({ params, body }, { notes, mail }) => {
      if (params.id === "taken") {
        notes.put(params.id, body);
        mail.send({ to: "nobody" });
        return refuse("taken", { by: "ada", status: "old" });
      }
      notes.put(params.id, body);
      mail.send({ to: params.id });
      return created({ id: params.id }, { Location: `/notes/${params.id}` });
    }),
    read: get("/notes/:id", { refuses: { "no-such-note": 404 } }, async ({ params }, { notes }) => (await notes.get(params.id)) ?? refuse("no-such-note")),
    latest: get("/notes/latest", {}, () => ({ which: "the word goes before the name" })),
    list: get("/notes", { query: page({ limit: 2, max: 10 }) }, ({ query }, { notes }) => notes.list(query)),
    echo: post("/echo", { query: z.object({ tag: z.union([z.string(), z.array(z.string())]).optional() }), body: z.unknown() }, ({ query, body }) =>
      ok({ query, body: body as object }),
    ),
    plain: patch("/plain", {}, () => "text"),
    later: post("/later", {}, () => accepted({ soon: true })),
    nothing: del("/nothing", {}, () => noContent()),
    fails: post("/fails", {}, (_request, { notes }) => {
      notes.put("half", { text: "done" });
      throw new Error("the password is 1234");
    }),
    lies: get("/lies", { returns: z.object({ n: z.number() }) }, () => ({ n: "one" }) as never),
    undeclared: get("/undeclared", {}, () => refuse("surprise") as never),
    page: get("/page", {}, () => html("<p>hello")),
    turnsBack: post("/turns-back", {}, (_request, { notes }) => {
      notes.put("back", { text: "gone" });
      return new Response("no", { status: 418 });
    }),
  },
);

/** A schema that counts how often it is asked. */
function counting(change: (value: { text: string }) => unknown = (value) => ({ ...value })) {
  const asked = { times: 0 };
  const schema = {
    "~standard": {
      version: 1,
      vendor: "test",
      validate(value: unknown) {
        asked.times += 1;
        const { text } = value as { text: unknown };
        return typeof text === "string" ? { value: change({ text }) as { text: string } } : { issues: [{ message: "text must be a text" }] };
      },
    },
  } as const satisfies Schema<{ text: string }, { text: string }>;
  return { schema, asked };
}

test("a body that its schema lets through as it came is not checked again behind other doors with that schema; one that somebody has changed is", async () => {
  const asking = async (schema: Schema<{ text: string }, { text: string }>, spoil?: (body: { text: string }) => void) => {
    const stored: unknown[] = [];
    const texts = aggregate(
      "texts",
      {
        id: z.string(),
        events: { Said: schema },
        initial: () => ({ said: [] as string[] }),
        evolve: { Said: ({ said }, { text }) => ({ said: [...said, text] }) },
      },
      { say: command(schema, (_state, input, emit) => emit.Said(input)) },
    );
    const told = queue("told", { input: schema, uses: {} }, (message) => void stored.push(message));
    const hall = service(
      "hall",
      { uses: { texts, told } },
      {
        say: post("/texts", { body: schema, idempotent: true }, async ({ body }, { texts, told }) => {
          spoil?.(body);
          const { state } = await texts.say("a", body);
          told.send(body);
          body.text = "changed when all was done";
          return created(state);
        }),
      },
    );
    await using node = await running({}, [hall]);
    const answer = await ask(node, "POST", "/texts", { text: "hello" }, { "idempotency-key": "1" });
    await node.idle();
    return { status: answer.status, body: (await answer.json()) as unknown, stored };
  };
  const same = counting();
  const other = counting(({ text }) => ({ text: `${text}!` }));
  const spoilt = counting();

  assert.deepEqual(await asking(same.schema), { status: 201, body: { said: ["hello"] }, stored: [{ text: "hello" }] });
  assert.equal(same.asked.times, 2, "the body, and the message when it was read from the store");
  assert.deepEqual(await asking(other.schema), { status: 201, body: { said: ["hello!!!"] }, stored: [{ text: "hello!!" }] });
  assert.equal(other.asked.times, 5);
  const { status } = await asking(spoilt.schema, (body) => void (body.text = 7 as never));
  assert.equal(status, 500);
  assert.equal(spoilt.asked.times, 2);
});

async function running(options: StartOptions = {}, components: readonly Component[] = [desk]): Promise<Node> {
  return start(app("test", components), { store: "memory:", log: () => undefined, ...options });
}

function ask(node: Node, method: string, path: string, body?: unknown, headers: Record<string, string> = {}): Promise<Response> {
  return node.fetch(
    new Request(`http://x${path}`, {
      method,
      ...(body === undefined ? {} : { body: typeof body === "string" ? body : JSON.stringify(body) }),
      headers: { ...(body === undefined ? {} : { "content-type": "application/json" }), ...headers },
    }),
  );
}

async function problem(response: Response): Promise<Record<string, unknown>> {
  assert.equal(response.headers.get("content-type"), "application/problem+json");
  const body = (await response.json()) as Record<string, unknown>;
  assert.equal(body["status"], response.status);
  assert.equal(body["type"], `urn:trestle:problem:${String(body["code"])}`);
  assert.equal(typeof body["title"], "string");
  assert.equal(typeof body["detail"], "string");
  return body;
}

test("an answer commits what the handler wrote, and says where", async () => {
  await using node = await running();
  const response = await ask(node, "PUT", "/notes/a", { text: "hello" });
  assert.equal(response.status, 201);
  assert.equal(response.headers.get("location"), "/notes/a");
  assert.equal(response.headers.get("content-type"), "application/json");
  assert.deepEqual(await response.json(), { id: "a" });
  assert.deepEqual(await (await ask(node, "GET", "/notes/a")).json(), { text: "hello" });
});

test("a refusal discards what the handler wrote, and tells its code, status and facts", async () => {
  await using node = await running();
  const told = await problem(await ask(node, "PUT", "/notes/taken", { text: "hello" }));
  assert.equal(told["status"], 409);
  assert.equal(told["code"], "taken");
  assert.equal(told["by"], "ada");
  assert.deepEqual(told["facts"], { status: "old" }, "a fact whose name RFC 9457 has taken");
  assert.equal((await ask(node, "GET", "/notes/taken")).status, 404);
});

test("a fault discards what the handler wrote and tells nothing of its inside, which is logged", async () => {
  const lines: string[] = [];
  await using node = await running({ log: (line) => lines.push(line) });
  const response = await ask(node, "POST", "/fails");
  assert.equal(response.status, 500);
  const text = await response.text();
  assert.doesNotMatch(text, /password|1234|at .*\.ts/);
  const told = JSON.parse(text) as Record<string, string>;
  assert.equal(told["code"], "service.fault");
  assert.equal((await ask(node, "GET", "/notes/half")).status, 404);
  const logged = lines.find((line) => line.includes("1234"));
  assert.ok(logged, "the log has it");
  assert.ok(logged.includes((told["instance"] as string).slice("urn:uuid:".length)), "and the problem names the log's entry");
});

test("a Response is passed through; one that says it went wrong discards", async () => {
  await using node = await running();
  const passed = await ask(node, "GET", "/page");
  assert.equal(passed.headers.get("content-type"), "text/html; charset=utf-8");
  assert.equal(await passed.text(), "<p>hello");
  assert.equal((await ask(node, "POST", "/turns-back")).status, 418);
  assert.equal((await ask(node, "GET", "/notes/back")).status, 404);
});

test("a header that is no header is a fault before anything is committed", async () => {
  const headers = service(
    "headers",
    { uses: { notes } },
    {
      bad: post("/bad", { idempotent: true }, (_request, { notes }) => {
        notes.put("bad", { text: "x" });
        return created({}, { location: "/x\r\nset-cookie: a=b" });
      }),
      read: get("/read", {}, async (_request, { notes }) => ({ note: (await notes.get("bad")) ?? null })),
    },
  );
  await using node = await running({}, [headers]);
  assert.equal((await ask(node, "POST", "/bad", undefined, { "idempotency-key": "k" })).status, 500);
  assert.deepEqual(await (await ask(node, "GET", "/read")).json(), { note: null });
});

test("a plain value is a 200, a reply has its own status, nothing is a 204", async () => {
  await using node = await running();
  const plain = await ask(node, "PATCH", "/plain");
  assert.deepEqual([plain.status, await plain.json()], [200, "text"]);
  assert.equal((await ask(node, "POST", "/later")).status, 202);
  const nothing = await ask(node, "DELETE", "/nothing");
  assert.deepEqual([nothing.status, await nothing.text()], [204, ""]);
});

test("HEAD answers what GET would, without its body", async () => {
  await using node = await running();
  const head = await ask(node, "HEAD", "/page");
  assert.deepEqual([head.status, head.headers.get("content-type"), await head.text()], [200, "text/html; charset=utf-8", ""]);
});

test("a word in a path goes before a name, whatever was declared first", async () => {
  await using node = await running();
  assert.deepEqual(await (await ask(node, "GET", "/notes/latest")).json(), { which: "the word goes before the name" });
});

test("nodes that serve other services of one app have other routes, whoever was asked first", async () => {
  const named = (name: string) => service(name, {}, { ask: get(`/${name}`, {}, () => ({ name })) });
  const [one, two] = [named("one"), named("two")];
  const statuses = async (components: readonly Component[]) => {
    await using node = await running({}, components);
    return [(await ask(node, "GET", "/one")).status, (await ask(node, "GET", "/two")).status];
  };

  assert.deepEqual(await statuses([one, two]), [200, 200]);
  assert.deepEqual(await statuses([one]), [200, 404]);
  assert.deepEqual(await statuses([one, two]), [200, 200]);
});

test("parameters are decoded, and an escape that is no text is a 400", async () => {
  await using node = await running();
  await ask(node, "PUT", `/notes/${encodeURIComponent("a/b ü")}`, { text: "odd" });
  assert.deepEqual(await (await ask(node, "GET", "/notes/a%2Fb%20%C3%BC")).json(), { text: "odd" });
  assert.equal((await problem(await ask(node, "GET", "/notes/%E0%A4%A")))["code"], "request.malformed");
});

test("an unknown path is a 404, an unknown method a 405 that says what is allowed", async () => {
  await using node = await running();
  assert.equal((await problem(await ask(node, "GET", "/elsewhere")))["code"], "request.no-route");
  const wrong = await ask(node, "DELETE", "/notes/a");
  assert.equal(wrong.status, 405);
  assert.equal(wrong.headers.get("allow"), "GET, PUT, HEAD");
  assert.equal((await problem(wrong))["code"], "request.method-not-allowed");
});

test("bad JSON is a 400, and a body that does not fit a 422 that lists every place", async () => {
  await using node = await running();
  for (const text of ["{", '{"text":}', "'text'", '{"text":"a"} x', "\u0000"])
    assert.equal((await problem(await ask(node, "PUT", "/notes/a", text)))["code"], "request.malformed-json", text);
  assert.equal((await problem(await ask(node, "PUT", "/notes/a")))["code"], "request.body-missing");
  const told = await problem(await ask(node, "PUT", "/notes/a", { text: 1, tags: ["a", 2] }));
  assert.equal(told["status"], 422);
  const issues = told["issues"] as { readonly in: string; readonly path: string }[];
  assert.deepEqual(
    issues.map((issue) => `${issue.in} ${issue.path}`),
    ["body text", "body tags[1]"],
  );
});

test("a query that does not fit is a 400", async () => {
  await using node = await running();
  for (const limit of ["0", "11", "x", "1.5", "-1", "1e1"])
    assert.equal((await problem(await ask(node, "GET", `/notes?limit=${limit}`)))["code"], "request.query-invalid", limit);
  assert.equal((await problem(await ask(node, "GET", "/notes?cursor=nonsense")))["code"], "page.bad-cursor");
  assert.equal((await problem(await ask(node, "GET", "/notes?__proto__=x")))["code"], "request.query-invalid");
});

test("a page says where the next one begins", async () => {
  await using node = await running();
  for (const id of ["a", "b", "c"]) await ask(node, "PUT", `/notes/${id}`, { text: id });
  const first = (await (await ask(node, "GET", "/notes")).json()) as { readonly items: unknown[]; readonly next: string };
  assert.deepEqual(first.items, [{ text: "a" }, { text: "b" }]);
  const second = (await (await ask(node, "GET", `/notes?cursor=${encodeURIComponent(first.next)}`)).json()) as {
    readonly items: unknown[];
    readonly next?: string;
  };
  assert.deepEqual([second.items, second.next], [[{ text: "c" }], undefined]);
});

test("a query parameter that comes twice is a list", async () => {
  await using node = await running();
  const { query } = (await (await ask(node, "POST", "/echo?tag=a&tag=b%20c", {})).json()) as { readonly query: unknown };
  assert.deepEqual(query, { tag: ["a", "b c"] });
});

test("a body that reaches for a prototype is refused, and nothing is polluted", async () => {
  await using node = await running();
  for (const text of [
    '{"__proto__":{"admin":true}}',
    '{"a":[{"__proto__":1}]}',
    '{"constructor":{"prototype":{"admin":true}}}',
    '{"\\u005f_proto__":{"admin":true}}',
  ]) {
    assert.equal((await problem(await ask(node, "POST", "/echo", text)))["code"], "request.unsafe-json", text);
  }
  assert.equal(({} as { admin?: boolean }).admin, undefined);
  assert.equal((await ask(node, "POST", "/echo", '{"constructor":"Ada & Sons","proto":1}')).status, 200, "a word is not a crime");
});

test("an object with a member twice is refused, because two readers would read it differently", async () => {
  await using node = await running();
  for (const text of ['{"a":1,"a":2}', '{"x":[{"b":1,"\\u0062":2}]}', '{"a":{"b":"}:\\\\"},"a":2}'])
    assert.equal((await problem(await ask(node, "POST", "/echo", text)))["code"], "request.duplicate-member", text);
  assert.match((await problem(await ask(node, "POST", "/echo", '{"q":1,"n":{"a":1,"a":2}}')))["detail"] as string, /"a"/);
  for (const text of ['{"a":":::","b":"\\":","c":"\\\\"}', '[{"a":1},{"a":2}]', '{"a":{"a":{"a":1}}}'])
    assert.equal((await ask(node, "POST", "/echo", text)).status, 200, text);
});

test("a body nested too deep is refused instead of overflowing the stack", async () => {
  await using node = await running();
  assert.equal((await problem(await ask(node, "POST", "/echo", `${"[".repeat(900)}${"]".repeat(900)}`)))["code"], "request.unsafe-json");
  assert.equal((await ask(node, "POST", "/echo", `${"[".repeat(64)}${"]".repeat(64)}`)).status, 200);
});

test("a body over the limit is a 413, whether it says its length or not", async () => {
  await using node = await running();
  const long = JSON.stringify({ text: "x".repeat(3_000) });
  assert.equal((await problem(await ask(node, "POST", "/echo", long)))["code"], "request.body-too-large");
  assert.equal((await problem(await ask(node, "POST", "/echo", "{}", { "content-length": "10000000" })))["code"], "request.body-too-large");
  assert.equal((await problem(await ask(node, "POST", "/echo", `"${"ü".repeat(1_500)}"`)))["code"], "request.body-too-large", "bytes, not characters");
  assert.equal(
    (await problem(await ask(node, "POST", "/echo", `"${"ü".repeat(1_500)}"`, { "content-length": "1502" })))["code"],
    "request.body-too-large",
    "whatever it says of itself",
  );
  let pulled = 0;
  const endless = new ReadableStream({
    pull(controller) {
      pulled += 1;
      controller.enqueue(new Uint8Array(500));
    },
  });
  const response = await node.fetch(
    new Request("http://x/echo", { method: "POST", body: endless, duplex: "half", headers: { "content-type": "application/json" } } as RequestInit),
  );
  assert.equal((await problem(response))["code"], "request.body-too-large");
  assert.ok(pulled < 10, `an endless body was read ${pulled} times`);
});

test("a body that is no JSON by its type is a 415", async () => {
  await using node = await running();
  for (const type of [
    "text/plain",
    "application/x-www-form-urlencoded",
    "multipart/form-data; boundary=x",
    "application/json; charset=latin1",
    "application/jsonx",
  ]) {
    assert.equal((await problem(await ask(node, "POST", "/echo", "{}", { "content-type": type })))["code"], "request.unsupported-media-type", type);
  }
  for (const type of ["application/json", "application/json; charset=utf-8", "Application/JSON", "application/merge-patch+json"])
    assert.equal((await ask(node, "POST", "/echo", "{}", { "content-type": type })).status, 200, type);
});

test("who accepts no JSON gets a 406, and a write has not happened", async () => {
  await using node = await running();
  assert.equal((await problem(await ask(node, "PUT", "/notes/a", { text: "x" }, { accept: "text/html" })))["code"], "request.not-acceptable");
  assert.equal((await ask(node, "GET", "/notes/a")).status, 404);
  assert.equal((await ask(node, "PATCH", "/plain", undefined, { accept: "application/json;q=0, */*" })).status, 406);
  for (const accept of ["*/*", "application/*", "text/html, application/json;q=0.1", "text/html,*/*;q=0.8"])
    assert.equal((await ask(node, "PATCH", "/plain", undefined, { accept })).status, 200, accept);
  assert.equal((await ask(node, "GET", "/page", undefined, { accept: "text/html" })).status, 200);
});

test("a URL without end is a 414", async () => {
  await using node = await running();
  assert.equal((await problem(await ask(node, "GET", `/notes?cursor=${"x".repeat(9_000)}`)))["code"], "request.uri-too-long");
});

test("an answer that `returns` does not describe, and a refusal nobody declared, are faults of the service", async () => {
  const lines: string[] = [];
  await using node = await running({ log: (line) => lines.push(line) });
  for (const path of ["/lies", "/undeclared"]) assert.equal((await problem(await ask(node, "GET", path)))["code"], "service.fault", path);
  assert.ok(lines.some((line) => line.includes("service.answer-invalid")));
  assert.ok(lines.some((line) => line.includes("service.refusal-undeclared")));
});

test("two operations of one route are refused at the start, by name", async () => {
  const one = service("one", {}, { a: get("/x/:id", {}, () => "a") });
  const two = service("two", {}, { b: get("/x/:name", {}, () => "b") });
  await assert.rejects(
    running({}, [one, two]),
    (fault) => Fault.is(fault, "service.route-taken") && fault.message.includes("one.a") && fault.message.includes("two.b"),
  );
});

test("bad declarations are faults that name the rule", () => {
  const route = get("/x", {}, () => "x");
  assert.throws(
    () => get("/x/", {}, () => "x"),
    (fault) => Fault.is(fault, "service.bad-path"),
  );
  assert.throws(
    () => get("/x/:id?" as "/x", {}, () => "x"),
    (fault) => Fault.is(fault, "service.bad-path"),
  );
  assert.throws(
    () => service("s", {}, { "bad name": route }),
    (fault) => Fault.is(fault, "service.bad-operation"),
  );
  assert.throws(
    () => service("s", {}, { x: {} as never }),
    (fault) => Fault.is(fault, "service.not-a-route"),
  );
  assert.throws(
    () => service("s", {}, { x: post("/x", { idempotent: { keepFor: "31d" } }, () => "x") }),
    (fault) => Fault.is(fault, "option.out-of-range"),
  );
});

test("[RES-08] a limit admits its burst at once and its rate after that, per caller, and says so", async () => {
  const clock = virtualClock();
  const limited = service("limited", {}, { hit: post("/hit", { limit: { per: "everyone", rate: "2/s", burst: 3 } }, () => "hit") });
  await using node = await running({ clock }, [limited]);
  for (let left = 2; left >= 0; left--) {
    const admitted = await ask(node, "POST", "/hit");
    assert.deepEqual([admitted.status, admitted.headers.get("ratelimit")?.split(";")[1]], [200, `r=${left}`]);
  }
  const refused = await ask(node, "POST", "/hit");
  assert.equal(refused.headers.get("retry-after"), "1");
  assert.equal(refused.headers.get("ratelimit-policy"), '"everyone";q=3;w=2;qu="requests"');
  assert.equal((await problem(refused))["code"], "request.limit-exceeded");
  await clock.advance(500);
  assert.equal((await ask(node, "POST", "/hit")).status, 200);
  assert.equal((await ask(node, "POST", "/hit")).status, 429);
});

test("a handler that does not end in time is a 504, and what it wrote is gone", async () => {
  const clock = virtualClock();
  const slow = service(
    "slow",
    { uses: { notes } },
    {
      wait: post("/wait", { timeout: "1s" }, async (_request, { notes }, { signal }) => {
        notes.put("slow", { text: "x" });
        await new Promise((_resolve, reject) => signal.addEventListener("abort", () => reject(signal.reason as Error), { once: true }));
        return "never";
      }),
      read: get("/read", {}, async (_request, { notes }) => ({ note: (await notes.get("slow")) ?? null })),
    },
  );
  await using node = await running({ clock }, [slow]);
  const asked = ask(node, "POST", "/wait");
  await clock.advance(1_000);
  const { code, detail } = await problem(await asked);
  assert.equal(code, "deadline.exceeded");
  assert.match(String(detail), /It may have happened: ask again with the same key/);
  assert.deepEqual(await (await ask(node, "GET", "/read")).json(), { note: null });
});

test("[RES-02] a caller's deadline is the handler's, when it is shorter", async () => {
  const clock = virtualClock();
  const told = service("told", {}, { left: get("/left", {}, (_request, _uses, { remainingMs }) => ({ leftMs: remainingMs() })) });
  await using node = await running({ clock }, [told]);
  assert.deepEqual(await (await ask(node, "GET", "/left", undefined, { "trestle-deadline-ms": "250" })).json(), { leftMs: 250 });
  assert.deepEqual(await (await ask(node, "GET", "/left")).json(), { leftMs: 30_000 });
  assert.equal((await ask(node, "GET", "/left", undefined, { "trestle-deadline-ms": "0" })).status, 504);
});

test("[RES-07] a request has the priority of its route; a caller can ask for less, and for more where it is trusted; what is sent carries it on", async () => {
  const clock = virtualClock();
  const seen: string[] = [];
  const second = queue("second", { input: z.object({}), uses: {} }, () => void seen.push(`second ${currentContext().priority}`));
  const first = queue("first", { input: z.object({}), uses: { second } }, (_message, { second }) => {
    seen.push(`first ${currentContext().priority}`);
    second.send({});
  });
  const look = ({ first }: { readonly first: { send(message: object): unknown } }) => {
    seen.push(`${currentContext().priority}${currentContext().repeated ? " repeated" : ""}`);
    first.send({});
    return {};
  };
  const open = service(
    "open",
    { uses: { first }, priority: "low" },
    { plain: post("/plain", {}, (_request, uses) => look(uses)), urgent: post("/urgent", { priority: "high" }, (_request, uses) => look(uses)) },
  );
  const inside = service("inside", { uses: { first }, callers: "trusted" }, { ask: post("/inside", {}, (_request, uses) => look(uses)) });
  await using node = await running({ clock }, [open, inside, first, second]);
  for (const [path, headers, expected] of [
    ["/plain", {}, "low"],
    ["/urgent", {}, "high"],
    ["/urgent", { "trestle-priority": "low" }, "low"],
    ["/plain", { "trestle-priority": "high" }, "low"],
    ["/inside", { "trestle-priority": "high" }, "high"],
    ["/inside", { "trestle-attempt": "2" }, "normal"],
  ] as const) {
    seen.length = 0;
    assert.equal((await ask(node, "POST", path, {}, headers as Record<string, string>)).status, 200);
    for (let i = 0; i < 50 && seen.length < 3; i++) await clock.advance(20);
    assert.deepEqual(seen, ["trestle-attempt" in headers ? `${expected} repeated` : expected, `first ${expected}`, `second ${expected}`], path);
  }
  assert.throws(
    () => service("bad", {}, { ask: post("/bad", { priority: "urgent" as "high" }, () => ({})) }),
    (thrown: unknown) => Fault.is(thrown, "option.out-of-range") && thrown.message.includes("bad.ask: priority"),
  );
});

test("the typed client gives statuses, bodies and refusals as HTTP does", async () => {
  await using node = await running();
  const client = node.open(desk);
  assert.deepEqual(await client.write({ params: { id: "a" }, body: { text: "x" } }), { ok: true, status: 201, body: { id: "a" } });
  assert.deepEqual(await client.write({ params: { id: "taken" }, body: { text: "x" } }), { ok: false, refused: "taken", by: "ada", status: "old" });
  assert.deepEqual(await client.read({ params: { id: "b" } }), { ok: false, refused: "no-such-note" });
  assert.deepEqual((await client.list({ query: { limit: 1 } })).body, { items: [{ text: "x" }] });
  await assert.rejects(client.write({ params: { id: "a" }, body: { text: 1 as never } }), (fault) => Fault.is(fault, "request.body-invalid"));
});

// ---- answers of one moment ------------------------------------------------------------------------------------------

const Transfer = z.object({ cents: z.int() });
const purse = aggregate(
  "purse",
  { id: z.string(), events: { Moved: Transfer }, initial: () => 0, evolve: { Moved: (sum, { cents }) => sum + cents } },
  { move: command(Transfer, (_sum, moved, emit) => emit.Moved(moved)) },
);
const pots = records("pots", { key: z.string(), value: z.number() });

/** A bank that moves money between the two reads of whoever looks. `meanwhile` runs there, once each look, as long as it is set. */
async function bank(consistent: boolean, options: { readonly on: "records" | "aggregates"; readonly clock?: VirtualClock }) {
  let meanwhile: (() => Promise<unknown>) | undefined;
  let looks = 0;
  const look = async (first: () => Promise<number>, second: () => Promise<number>) => {
    looks += 1;
    const left = await first();
    await meanwhile?.();
    const right = await second();
    if (left + right !== 100) throw new Error(`${left} and ${right} never stood together`);
    return { left, right };
  };
  const branch = service(
    "branch",
    { uses: { purse, pots } },
    {
      look: get("/look", { consistent, timeout: "1s" }, (_request, { purse, pots }) =>
        options.on === "records"
          ? look(
              async () => (await pots.get("a")) ?? 0,
              async () => (await pots.get("b")) ?? 0,
            )
          : look(
              () => purse.get("a"),
              () => purse.get("b"),
            ),
      ),
      one: get("/one", { consistent }, async (_request, { pots }) => {
        looks += 1;
        const value = await pots.get("a");
        await meanwhile?.();
        return { value: value ?? null, again: (await pots.get("a")) ?? null };
      }),
      move: post("/move", { body: z.object({ cents: z.int() }) }, async ({ body: { cents } }, { purse, pots }) => {
        pots.put("a", ((await pots.get("a")) ?? 100) - cents);
        const right = ((await pots.get("b")) ?? 0) + cents;
        if (right === 0) pots.remove("b");
        else pots.put("b", right);
        await purse.move("a", { cents: -cents });
        await purse.move("b", { cents });
        return noContent();
      }),
      fill: post("/fill", {}, async (_request, { purse, pots }) => {
        pots.put("a", 100);
        await purse.move("a", { cents: 100 });
        return noContent();
      }),
    },
  );
  const node = await running(options.clock ? { clock: options.clock } : {}, [branch]);
  assert.equal((await ask(node, "POST", "/fill")).status, 204);
  const move = async (cents: number) => assert.equal((await ask(node, "POST", "/move", { cents })).status, 204);
  return {
    node,
    move,
    looks: () => looks,
    during: (work: (() => Promise<unknown>) | undefined) => (meanwhile = work),
    [Symbol.asyncDispose]: () => node.stop(),
  };
}

for (const on of ["records", "aggregates"] as const) {
  test(`[F9] a consistent GET answers with ${on} that stood together, and runs again where they did not`, async () => {
    await using torn = await bank(false, { on });
    torn.during(() => torn.move(30));
    assert.equal((await ask(torn.node, "GET", "/look")).status, 500, "without it the torn read is seen");

    await using whole = await bank(true, { on });
    whole.during(() => (whole.looks() > 2 ? Promise.resolve() : whole.move(30)));
    const response = await ask(whole.node, "GET", "/look");

    assert.deepEqual([response.status, await response.json()], [200, { left: 40, right: 60 }]);
    assert.equal(whole.looks(), 3, "what a doomed run has thrown is not believed either");
  });
}

test("[F9] a consistent GET sees what was absent at first, and came in between", async () => {
  await using whole = await bank(true, { on: "records" });
  whole.during(() => (whole.looks() > 1 ? Promise.resolve() : whole.move(100)));

  assert.deepEqual(await (await ask(whole.node, "GET", "/look")).json(), { left: 0, right: 100 });
});

test("[F9] one key is of one moment by itself: read twice it is the same, without another run", async () => {
  await using whole = await bank(true, { on: "records" });
  whole.during(() => whole.move(1));

  assert.deepEqual(await (await ask(whole.node, "GET", "/one")).json(), { value: 100, again: 100 });
  assert.equal(whole.looks(), 1);
});

test("[F9] where what it reads never stands still, a consistent GET ends at its deadline", async () => {
  const clock = virtualClock();
  await using whole = await bank(true, { on: "records", clock });
  whole.during(async () => {
    await whole.move(1);
    await clock.advance(300);
  });

  const response = await ask(whole.node, "GET", "/look");

  const { code, detail } = await problem(response);
  assert.deepEqual([response.status, code, detail], [504, "deadline.exceeded", "It took too long. Ask again."]);
  assert.equal(whole.looks(), 4);
});

import assert from "node:assert/strict";
import { test } from "node:test";
import { Fault } from "../kernel/index.ts";
import { access } from "./access.ts";

const token = "a-long-and-random-token";
const local = { address: "127.0.0.1" };
const ask = (headers: Record<string, string> = {}, path = "/_trestle", host = "localhost:3000") =>
  new Request(`http://${host}${path}`, { headers: { host, ...headers } });

test("without a token whoever sits at this machine may look, over IPv4 and IPv6", () => {
  const admit = access(undefined);

  for (const address of ["127.0.0.1", "127.8.1.1", "::1", "::ffff:127.0.0.1"]) assert.equal(admit(ask(), { address }, "look"), undefined, address);
});

test("without a token nobody from elsewhere may look, nor a caller without a socket", () => {
  const admit = access(undefined);

  for (const address of ["10.0.0.7", "192.168.1.2", "::ffff:10.0.0.7", "fe80::1", "1270.0.0.1", undefined])
    assert.equal(admit(ask(), { address }, "look")?.status, 403, String(address));
});

test("what came through a proxy is not from this machine, whatever the socket says", () => {
  const admit = access(undefined);

  for (const name of ["forwarded", "x-forwarded-for", "x-real-ip", "via"])
    assert.equal(admit(ask({ [name]: "203.0.113.9" }), local, "look")?.status, 403, name);
});

test("a name that was re-bound to this machine is refused by its Host", () => {
  const admit = access(undefined);

  for (const host of ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "10.0.0.7:3000"])
    assert.equal(admit(ask({}, "/_trestle", host), local, "look")?.status, 403, host);
  for (const host of ["localhost", "shop.localhost:3000", "127.0.0.1:3000", "[::1]:3000"])
    assert.equal(admit(ask({}, "/_trestle", host), local, "look"), undefined, host);
});

test("acting needs the console's own page: no other page can send its Origin", () => {
  const admit = access(undefined);
  const act = (headers: Record<string, string>) => admit(ask(headers), local, "act")?.status;

  assert.equal(act({ origin: "http://localhost:3000" }), undefined);
  assert.equal(act({ origin: "http://localhost:3000", "sec-fetch-site": "same-origin" }), undefined);
  assert.equal(act({ "sec-fetch-site": "same-origin" }), undefined);
  for (const headers of [
    {},
    { origin: "http://localhost:4000" },
    { origin: "https://evil.example" },
    { origin: "null" },
    { "sec-fetch-site": "cross-site" },
    { origin: "http://localhost:3000", "sec-fetch-site": "same-site" },
  ])
    assert.equal(act(headers as Record<string, string>), 403, JSON.stringify(headers));
});

test("with a token everyone needs it, this machine too", async () => {
  const admit = access(token);

  const answer = admit(ask(), local, "look");

  assert.ok(answer);
  assert.equal(answer.status, 401);
  assert.equal(answer.headers.get("content-type"), "application/problem+json");
  assert.match(answer.headers.get("www-authenticate") ?? "", /^Bearer/);
  assert.equal(((await answer.json()) as { code: string }).code, "console.token-needed");
  assert.equal(admit(ask({ authorization: "Bearer wrong-but-long-enough" }), local, "look")?.status, 401);
});

test("the Bearer token lets one look and act from anywhere", () => {
  const admit = access(token);
  const bearer = { authorization: `Bearer ${token}` };

  assert.equal(admit(ask(bearer, "/_trestle", "shop.example"), { address: "203.0.113.9" }, "look"), undefined);
  assert.equal(admit(ask({ ...bearer, origin: "https://elsewhere.example" }), { address: "203.0.113.9" }, "act"), undefined);
});

test("a browser gives the token once: it leaves the address, and a cookie that scripts cannot read comes in its place", () => {
  const admit = access(token);

  const answer = admit(ask({}, `/_trestle?token=${token}&x=1`), local, "look");
  const cookie = answer?.headers.get("set-cookie") ?? "";

  assert.equal(answer?.status, 303);
  assert.equal(answer?.headers.get("location"), "/_trestle?x=1");
  assert.match(cookie, /HttpOnly/);
  assert.match(cookie, /SameSite=Lax/);
  assert.ok(!cookie.includes(token));
  const sent = { cookie: `other=1; ${cookie.split(";")[0]}` };
  assert.equal(admit(ask(sent), local, "look"), undefined);
  assert.equal(admit(ask(sent), local, "act")?.status, 403);
  assert.equal(admit(ask({ ...sent, origin: "http://localhost:3000" }), local, "act"), undefined);
  assert.equal(admit(ask({ cookie: "trestle_console=forged" }), local, "look")?.status, 401);
});

test("a wrong token in the address gives no cookie, and a token in the address lets nobody act", () => {
  const admit = access(token);

  assert.equal(admit(ask({}, "/_trestle?token=wrong"), local, "look")?.headers.get("set-cookie"), null);
  assert.equal(admit(ask({ origin: "http://localhost:3000" }, `/_trestle/queues/mail/redrive?token=${token}`), local, "act")?.status, 401);
});

test("a person without the token gets a page that asks for it", async () => {
  const answer = access(token)(ask({ accept: "text/html,*/*" }), local, "look");

  assert.equal(answer?.status, 401);
  assert.match((await answer?.text()) ?? "", /<form action="\/_trestle"/);
});

test("a short token is refused when the node starts", () => {
  assert.throws(
    () => access("secret"),
    (fault) => Fault.is(fault, "console.token-too-short") && fault.message.includes("got 6"),
  );
});

/**
 * Who may see the console and act in it.
 *
 * Without a token: only whoever sits at this machine. The peer's address must be loopback, the request must not have come through a
 * proxy (its headers say so), and `Host` must name this machine: a page of another site whose name was re-bound to 127.0.0.1 has
 * another one (DNS rebinding).
 * With a token (`TRESTLE_TOKEN`, at least 16 characters): everyone needs it, this machine too. As `Authorization: Bearer`, or once as
 * `?token=` in a browser, which gets a cookie that scripts cannot read and loses the token from its address.
 *
 * What changes something also needs to come from the console's own page (`Origin`, `Sec-Fetch-Site`), or to carry the Bearer token:
 * no other page can send either. Health is open to everyone.
 */
import { createHash, timingSafeEqual } from "node:crypto";
import { Fault } from "../kernel/index.ts";
import { problem } from "./problem.ts";

export interface Peer {
  /** Of the socket; `undefined` when there is none, and then nobody is known to sit at this machine. */
  readonly address?: string | undefined;
}

/** `look` at what is there, or `act` on it. */
export type Intent = "look" | "act";
/** Lets a request in, or says what to answer instead. */
export type Access = (request: Request, peer: Peer, intent: Intent) => Response | undefined;

const cookieName = "trestle_console";
const tokenCharsMin = 16;

export function access(token: string | undefined): Access {
  if (token === undefined || token === "") return atThisMachine;
  if (token.length < tokenCharsMin)
    throw Fault.create(
      "console.token-too-short",
      `TRESTLE_TOKEN must have at least ${tokenCharsMin} characters, got ${token.length}`,
      "Set a long random token, for example from `openssl rand -hex 24`.",
    );
  // The cookie is not the token: who reads a cookie jar cannot use the API of another node with it.
  const cookieValue = digest(`trestle console cookie\0${token}`).toString("base64url");
  return (request, _peer, intent) => {
    const bearer = /^Bearer +(\S+)$/i.exec(request.headers.get("authorization") ?? "")?.[1];
    if (bearer !== undefined) return same(bearer, token) ? undefined : notLetIn(request, "the Bearer token is not the one this node was started with");
    const url = new URL(request.url);
    const once = url.searchParams.get("token");
    if (once !== null && intent === "look") {
      if (!same(once, token)) return notLetIn(request, "the token in the address is not the one this node was started with");
      url.searchParams.delete("token");
      const secure = url.protocol === "https:" ? "; Secure" : "";
      return new Response(null, {
        status: 303,
        headers: {
          location: url.pathname + url.search,
          "set-cookie": `${cookieName}=${cookieValue}; Path=/_trestle; HttpOnly; SameSite=Lax; Max-Age=604800${secure}`,
          "cache-control": "no-store",
          "referrer-policy": "no-referrer",
        },
      });
    }
    const cookie = cookieOf(request);
    if (cookie === undefined || !same(cookie, cookieValue)) return notLetIn(request, "this node was started with a token, and this request has none");
    return intent === "act" ? fromOwnPage(request) : undefined;
  };
}

function atThisMachine(request: Request, peer: Peer, intent: Intent): Response | undefined {
  const remedy = "Set TRESTLE_TOKEN to open it to others, and send the token.";
  if (!isLoopback(peer.address))
    return refused(`the console is for this machine only while no token is set; this request came from ${peer.address ?? "somewhere unknown"}`, remedy);
  const proxy = ["forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip", "via"].find((name) => request.headers.has(name));
  if (proxy !== undefined)
    return refused(`the console is for this machine only while no token is set; this request came through a proxy (it has the header ${proxy})`, remedy);
  const host = hostOf(request);
  if (!isLocalName(host))
    return refused(
      `the console is for this machine only while no token is set; Host must name it, got ${JSON.stringify(host.slice(0, 100))}`,
      "Open it as http://localhost:<port>/_trestle, or set TRESTLE_TOKEN.",
    );
  return intent === "act" ? fromOwnPage(request) : undefined;
}

function fromOwnPage(request: Request): Response | undefined {
  const origin = request.headers.get("origin");
  const site = request.headers.get("sec-fetch-site");
  if (site !== null && site !== "same-origin")
    return refused(`this must come from the console's own page; Sec-Fetch-Site is ${JSON.stringify(site)}`, "Act in the console, or send the Bearer token.");
  if (
    origin === null ? site === null : hostOfOrigin(origin) !== request.headers.get("host")?.toLowerCase() && hostOfOrigin(origin) !== new URL(request.url).host
  )
    return refused(`this must come from the console's own page; Origin is ${JSON.stringify(origin)}`, "Act in the console, or send the Bearer token.");
  return undefined;
}

const refused = (detail: string, remedy: string) => problem(403, "console.not-for-you", "Not for you", detail, { remedy });

function notLetIn(request: Request, detail: string): Response {
  if (!request.headers.get("accept")?.includes("text/html")) {
    return problem(401, "console.token-needed", "A token is needed", detail, {
      remedy: "Send `Authorization: Bearer <TRESTLE_TOKEN>`, or open /_trestle?token=<TRESTLE_TOKEN> once.",
      headers: { "www-authenticate": 'Bearer realm="trestle"' },
    });
  }
  const html = `<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>Trestle console</title><style>:root{color-scheme:light dark;font:16px/1.5 system-ui,sans-serif}body{max-width:26rem;margin:20vh auto;padding:0 1rem}input,button{font:inherit;padding:.4rem .6rem;width:100%;box-sizing:border-box;margin-top:.5rem}</style><h1>Console</h1><p>This node was started with a token.</p><form action="/_trestle" method="get"><label>Token<input name="token" type="password" autocomplete="current-password" required autofocus></label><button>Open the console</button></form></html>`;
  return new Response(html, {
    status: 401,
    headers: {
      "content-type": "text/html; charset=utf-8",
      "cache-control": "no-store",
      "referrer-policy": "no-referrer",
      "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
      "www-authenticate": 'Bearer realm="trestle"',
    },
  });
}

function isLoopback(address: string | undefined): boolean {
  return address !== undefined && /^(::ffff:)?127\.\d+\.\d+\.\d+$|^::1$/.test(address);
}

function isLocalName(host: string): boolean {
  const name = host.replace(/:\d+$/, "").toLowerCase();
  return name === "localhost" || name.endsWith(".localhost") || name === "[::1]" || /^127\.\d+\.\d+\.\d+$/.test(name);
}

const hostOf = (request: Request) => request.headers.get("host") ?? new URL(request.url).host;

function hostOfOrigin(origin: string): string | undefined {
  return URL.canParse(origin) ? new URL(origin).host : undefined;
}

function cookieOf(request: Request): string | undefined {
  for (const part of (request.headers.get("cookie") ?? "").split(";")) {
    const at = part.indexOf("=");
    if (part.slice(0, at).trim() === cookieName) return part.slice(at + 1).trim();
  }
  return undefined;
}

const digest = (text: string) => createHash("sha256").update(text).digest();

/** In a time that tells nothing about either. */
function same(given: string, wanted: string): boolean {
  return timingSafeEqual(digest(given), digest(wanted));
}

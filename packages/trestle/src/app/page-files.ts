/** The console's page as files: read once, at the first request for them. They lie beside the code, in `src` and in `dist` alike. */
import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";

const folder = new URL("../console/page/", import.meta.url);
const types = { html: "text/html; charset=utf-8", css: "text/css; charset=utf-8", js: "text/javascript; charset=utf-8", svg: "image/svg+xml" } as const;
/** What may be asked for: no path comes from outside. */
export const pageFiles = [
  "index.html",
  "console.css",
  "console.js",
  "degraded.js",
  "elements.js",
  "format.js",
  "gates.js",
  "graph.js",
  "kept.js",
  "layout.js",
  "node.js",
  "panel.js",
  "queue.js",
  "simulations.js",
  "summary.js",
  "icon.svg",
] as const;

interface PageFile {
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly etag: string;
}
const known = new Map<string, Promise<PageFile>>();

/** `undefined` when there is no such file. */
export async function pageFile(name: string, request: Request): Promise<Response | undefined> {
  const wanted = pageFiles.find((file) => file === name);
  if (wanted === undefined) return undefined;
  let reading = known.get(wanted);
  if (!reading) {
    reading = read(wanted);
    known.set(wanted, reading);
    reading.catch(() => known.delete(wanted));
  }
  const { bytes, etag } = await reading;
  const headers = {
    "content-type": types[wanted.slice(wanted.lastIndexOf(".") + 1) as keyof typeof types],
    etag,
    "cache-control": "no-cache",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "content-security-policy":
      "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
  };
  if (request.headers.get("if-none-match") === etag) return new Response(null, { status: 304, headers });
  return new Response(request.method === "HEAD" ? null : bytes, { headers });
}

async function read(name: string): Promise<PageFile> {
  const bytes = new Uint8Array(await readFile(new URL(name, folder)));
  return { bytes, etag: `"${createHash("sha256").update(bytes).digest("base64url").slice(0, 22)}"` };
}

/** Errors of the node's own endpoints, as RFC 9457 has them. */

export function problem(
  status: number,
  code: string,
  title: string,
  detail: string,
  options: { readonly remedy?: string; readonly headers?: Readonly<Record<string, string>> } = {},
): Response {
  const body = { type: "about:blank", title, status, detail, code, ...(options.remedy === undefined ? {} : { remedy: options.remedy }) };
  return new Response(JSON.stringify(body), {
    status,
    headers: { "content-type": "application/problem+json", "cache-control": "no-store", ...options.headers },
  });
}

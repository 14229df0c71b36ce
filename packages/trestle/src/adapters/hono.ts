/** The edge as a Hono middleware, on any runtime of Hono that has Node's modules. */
import type { ServerResponse } from "node:http";
import { inContext } from "../kernel/index.ts";
import { edge, type EdgeOptions } from "./edge.ts";
import { whenClosed } from "./express.ts";

/** What is used of Hono. */
export interface HonoContextLike {
  readonly req: { readonly raw: Request };
  readonly env: unknown;
  header(name: string, value: string): void;
}

/**
 * `app.use(honoEdge({ … }))`. On Node a request holds its place until its connection has taken the whole answer; elsewhere until the handler has returned it.
 * Faults: those of `edge`.
 */
export function honoEdge<Context extends HonoContextLike = HonoContextLike>(
  options: EdgeOptions<Context>,
): (context: Context, next: () => Promise<void>) => Promise<Response | void> {
  const way = edge(options);
  return async (c, next) => {
    const { raw } = c.req;
    const passage = await way.enter(c, raw.headers, raw.signal);
    if (!passage.ok) return new Response(passage.answer.body, passage.answer);
    for (const [name, value] of Object.entries(passage.headers)) c.header(name, value);
    const outgoing = (c.env as { readonly outgoing?: ServerResponse } | undefined)?.outgoing;
    if (outgoing) whenClosed(outgoing, passage.leave);
    try {
      await inContext(passage.context, next);
    } finally {
      if (!outgoing) passage.leave();
    }
  };
}

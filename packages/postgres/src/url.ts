/** What a store's URL asks for: `postgres://user:password@host:5432/database?schema=shop&sslmode=verify-full`. */
import { Fault } from "trestle/kernel";

export interface Place {
  /** For the client library: without what is Trestle's. */
  readonly url: string;
  readonly schema: string;
}

/** `schema` in the options wins over the URL's. Faults with `store.url-unknown`, `postgres.schema-name`. */
export function placeOf(url: string, schema?: string): Place {
  let parsed: URL;
  try {
    parsed = new URL(url);
  } catch {
    throw notAUrl(url);
  }
  if (parsed.protocol !== "postgres:" && parsed.protocol !== "postgresql:") throw notAUrl(url);
  const named = schema ?? parsed.searchParams.get("schema") ?? "trestle";
  parsed.searchParams.delete("schema");
  if (!/^[a-z_][a-z0-9_]{0,62}$/.test(named) || named.startsWith("pg_"))
    throw Fault.create(
      "postgres.schema-name",
      `schema must match [a-z_][a-z0-9_]*, have at most 63 letters and not begin with pg_, got ${JSON.stringify(named)}`,
      "Choose a plain lower-case name.",
    );
  return { url: parsed.href, schema: named };
}

/** Never with the password. */
function notAUrl(url: string): Fault {
  return Fault.create(
    "store.url-unknown",
    `store ${JSON.stringify(url.replace(/:[^:@/]*@/, ":***@"))}: it must be postgres://user:password@host:port/database`,
    "Percent-encode what is special in the user and password; add ?schema= for another schema than trestle.",
  );
}

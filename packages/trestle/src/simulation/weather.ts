/** What a client has to expect when machines fail, and what is a mistake of the app's. */
import { Fault } from "../kernel/index.ts";

const codes = /^(external|store|commit|deadline|node|idempotency|transaction|http|service|log|postgres|simulation\.broken)\b/;

export function isWeather(error: unknown): boolean {
  // A node that does not start says why in the cause.
  if (Fault.is(error)) return codes.test(error.code) || (error.code.startsWith("lifecycle.") && isWeather(error.cause));
  return error instanceof TypeError && error.message === "fetch failed";
}

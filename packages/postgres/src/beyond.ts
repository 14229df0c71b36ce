/** What this engine does not do yet is a fault that says so, and nothing of it is applied. */
import { Fault } from "trestle/kernel";

export function beyond(what: string): Fault {
  return Fault.create("postgres.beyond-the-proof", `this engine does not do "${what}" yet`, "Use the SQLite engine.", { details: { what } });
}

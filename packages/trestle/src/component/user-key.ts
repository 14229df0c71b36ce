/** Keys as users give them. What is not a text or a number has no one text: two objects would both be `[object Object]`, and share a record. */
import { Fault } from "../kernel/index.ts";
import { storeKey, type StoreKey } from "../store/index.ts";

/** Fault: `component.bad-key`. */
export function userKey(component: string, tenant: string | undefined, key: unknown): StoreKey {
  return storeKey(component, tenant, keyText(key, component));
}

/** The same for keys that are none of the store's: a queue's `key` and `unique`. */
export function keyText(key: unknown, component: string): string {
  if (typeof key === "string") return key;
  if (typeof key === "number" && Number.isFinite(key)) return String(key);
  throw Fault.create(
    "component.bad-key",
    `a key of "${component}" must be a text or a finite number, got ${typeof key === "number" ? String(key) : key === null ? "null" : typeof key}`,
    "Make a text of it where it is made, so that two different things never have the same one.",
    { details: { component } },
  );
}

/** Fault: `tenant.bad-name`. Where an invocation begins. */
export function checkTenant(tenant: unknown): void {
  if (tenant === undefined || (typeof tenant === "string" && tenant !== "" && tenant.isWellFormed())) return;
  throw Fault.create(
    "tenant.bad-name",
    `a tenant must be a text that is not empty, of Unicode without lone surrogates, got ${typeof tenant === "string" ? JSON.stringify(tenant) : String(tenant)}`,
    "Leave the tenant out where there is none.",
  );
}

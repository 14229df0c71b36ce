/**
 * Keys are `component/tenant/key`. A component's name is `[a-z][a-z0-9-]*`, with `~` before it for Trestle's own; a tenant
 * is percent-encoded, empty when there is none; the rest is the user's, as it is. So one prefix is one tenant of one
 * component, and no user key can reach into another's.
 */
export type StoreKey = string;

export function storeKey(component: string, tenant: string | undefined, key: string): StoreKey {
  return `${component}/${tenant === undefined ? "" : encodeURIComponent(tenant)}/${key}`;
}

/** Everything of one component and tenant. */
export function keyPrefix(component: string, tenant: string | undefined): string {
  return storeKey(component, tenant, "");
}

export function parseKey(key: StoreKey): { readonly component: string; readonly tenant: string | undefined; readonly key: string } {
  const first = key.indexOf("/");
  const second = key.indexOf("/", first + 1);
  const tenant = key.slice(first + 1, second);
  return { component: key.slice(0, first), tenant: tenant === "" ? undefined : decodeURIComponent(tenant), key: key.slice(second + 1) };
}

/**
 * Watching: the value now, and again after each change. Changes that come faster than the reader are merged; the last one is
 * never missed. An object that a watch yields carries a resume id (the commit that wrote it), which SSE sends along.
 */
import type { Store, StoreKey } from "../store/index.ts";

const resumeIds = new WeakMap<object, string>();

export function withResumeId<T>(item: T, id: string): T {
  if (typeof item === "object" && item !== null) resumeIds.set(item, id);
  return item;
}

export function resumeIdOf(item: unknown): string | undefined {
  return typeof item === "object" && item !== null ? resumeIds.get(item) : undefined;
}

/** Yields at once, then after every durable change that `concerns` one of its keys (`"any"`: every one); ends when the signal aborts. */
export async function* changesOf(store: Store, concerns: "any" | ((key: StoreKey) => boolean), signal: AbortSignal): AsyncGenerator<void> {
  let changed = true;
  let wake: (() => void) | undefined;
  const forget = store.onChange(({ keys }) => {
    if (!changed && (concerns === "any" || keys.some(concerns))) {
      changed = true;
      wake?.();
    }
  });
  const aborted = () => wake?.();
  signal.addEventListener("abort", aborted, { once: true });
  try {
    while (!signal.aborted) {
      if (changed) {
        changed = false;
        yield;
      } else {
        await new Promise<void>((resolve) => (wake = resolve));
        wake = undefined;
      }
    }
  } finally {
    forget();
    signal.removeEventListener("abort", aborted);
  }
}

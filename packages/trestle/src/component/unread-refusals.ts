/** Refusals that a handler got and has not looked at: whoever drops one has most likely forgotten that a command may refuse. */
import type { Refused } from "./outcome.ts";
import { noEntries, withEntry } from "./scarce.ts";

export class UnreadRefusals {
  #unread: ReadonlyMap<Refused, { readonly from: string; readonly decides: boolean }> = noEntries;

  /** See `Invocation.watchRefusal`. */
  watch<R extends Refused>(refusal: R, from: string, decides: boolean): R {
    const looked = () => void (this.#unread as Map<Refused, unknown>).delete(watched);
    const watched: R = Object.defineProperties(
      { ...refusal },
      {
        ok: { enumerable: true, get: () => (looked(), false) },
        refused: { enumerable: true, get: () => (looked(), refusal.refused) },
      },
    );
    this.#unread = withEntry(this.#unread, watched, { from: `${from} refused with "${refusal.refused}"`, decides });
    return watched;
  }

  /** What refused, of the first one; with `deciding` of the first whose command would have been part of the commit. */
  first({ deciding = false } = {}): string | undefined {
    for (const { from, decides } of this.#unread.values()) if (decides || !deciding) return from;
    return undefined;
  }
}

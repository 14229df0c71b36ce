/** The hash of a sequence of texts, one after the other: 48 bits of two FNV-1a sums that start apart. Not for secrets. */
export function nextHash(before: number, text: string): number {
  let high = (Math.floor(before / 16_777_216) ^ 0x811c9dc5) >>> 0;
  let low = ((before % 16_777_216) ^ 0x1000193) >>> 0;
  for (let at = 0; at < text.length; at++) {
    high = Math.imul(high ^ text.charCodeAt(at), 16_777_619) >>> 0;
    low = Math.imul(low ^ (text.charCodeAt(at) + 7), 16_777_619) >>> 0;
  }
  return (high >>> 8) * 16_777_216 + (low >>> 8);
}

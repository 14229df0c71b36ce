/** A text that every place can have as its key: what is long, or none of Unicode, becomes its digest. */
import { createHash } from "node:crypto";

const keyBytesMax = 480;

export function placeKey(of: string, key: string): string {
  const text = `${of}/${key}`;
  if (text.length * 3 <= keyBytesMax && text.isWellFormed() && !text.includes("\0")) return text;
  return `${of}/sha256 ${createHash("sha256").update(text, "utf16le").digest("base64url")}`;
}

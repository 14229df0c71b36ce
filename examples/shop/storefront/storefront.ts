/** The storefront's files, read once when the shop is loaded. */
import { readFileSync } from "node:fs";

const files = new Map(["index.html", "style.css", "page.js"].map((name) => [name, readFileSync(new URL(name, import.meta.url), "utf8")]));

export function storefrontFile(name: "index.html" | "style.css" | "page.js"): string {
  return files.get(name) ?? "";
}

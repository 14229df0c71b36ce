/** Headless Chromium, where there is one: CHROMIUM names it, or it is Debian's. */
import { existsSync } from "node:fs";
import { chromium, type Browser } from "playwright-core";

export const chromiumPath = [process.env["CHROMIUM"], "/usr/bin/chromium"].find((path) => path !== undefined && existsSync(path));
/** For `{ skip }`: the reason why there is no browser, or `false`. */
export const withoutChromium: string | false = chromiumPath === undefined && "no Chromium: set CHROMIUM to one, or install Debian's chromium";

export async function browse(): Promise<Browser> {
  if (chromiumPath === undefined) throw new Error("there is no Chromium");
  return chromium.launch({ executablePath: chromiumPath, args: ["--no-sandbox", "--disable-dev-shm-usage"] });
}

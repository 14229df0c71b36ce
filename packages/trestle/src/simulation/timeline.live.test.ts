/** The page of a failing seed in a real browser. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { chromium, type Browser } from "playwright-core";
import { z } from "zod";
import { app, post, records, service } from "../index.ts";
import { search, timeline, type Search } from "./index.ts";

const executablePath = process.env["CHROMIUM"];
const skip = executablePath === undefined && "no Chromium here (CHROMIUM is not set)";
let browser: Browser;
let found: Search;
before(async () => {
  if (executablePath === undefined) return;
  browser = await chromium.launch({ executablePath, args: ["--no-sandbox"] });
  const sums = records("sums", { key: z.string(), value: z.int() });
  const till = service("till", { uses: { sums } }, { pay: post("/payments", { body: z.object({}) }, (_, { sums }) => (sums.put("all", 1), {})) });
  found = await search(app("unused-till", [till, sums]), {
    uses: { till, sums },
    seeds: ["0x1"],
    nodes: 3,
    for: "3s",
    faults: { pause: true, "slow-processor": true },
    clients: { count: 3, times: 3, each: async ({ till }) => void (await till.pay({ body: {} })) },
    eventually: { "nothing was ever paid": async ({ sums }) => (await sums.get("all")) === undefined },
  });
});
after(async () => browser?.close());

test("the page of a seed fits a phone and a wide screen, in light and in dark; its head wraps, its drawing scrolls by itself", { skip }, async () => {
  const { result, trace } = found;
  assert.ok(result?.failure && trace);
  for (const [width, colorScheme] of [
    [360, "light"],
    [360, "dark"],
    [1600, "light"],
    [1600, "dark"],
  ] as const) {
    const page = await browser.newPage({ viewport: { width, height: 900 }, colorScheme });
    await page.setContent(timeline("unused-till", result, trace));

    const seen = await page.evaluate<{ overflow: number; head: number; drawing: number; ink: string; ground: string; arrow: string }>(`({
      overflow: document.documentElement.scrollWidth - document.documentElement.clientWidth,
      head: document.querySelector("header").scrollWidth,
      drawing: document.querySelector(".drawing").scrollWidth,
      ink: getComputedStyle(document.body).color,
      ground: getComputedStyle(document.body).backgroundColor,
      arrow: getComputedStyle(document.querySelector(".message line")).stroke,
    })`);
    const brightness = (color: string) => (color.match(/[\d.]+/g) ?? []).slice(0, 3).reduce((sum, part) => sum + Number(part), 0);
    assert.equal(seen.overflow, 0, `${width} px wide`);
    assert.ok(seen.head <= width, `the head is ${seen.head} px wide on ${width}`);
    assert.ok(seen.drawing > 600, "lanes side by side");
    assert.equal(brightness(seen.ink) > brightness(seen.ground), colorScheme === "dark");
    assert.ok(Math.abs(brightness(seen.arrow) - brightness(seen.ground)) > 150, `arrows ${seen.arrow} on ${seen.ground}`);

    const names = await page.locator("svg .name").allTextContents();
    assert.deepEqual(names.slice(0, 2), ["client-1", "client-1"], "at the top and at the bottom");
    assert.equal(names.includes("judge"), false);
    await page.getByRole("link", { name: "nothing was ever paid" }).click();
    assert.ok(await page.locator("#end").isVisible());
    await page.close();
  }
});

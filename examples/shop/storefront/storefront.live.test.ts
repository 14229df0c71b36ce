import assert from "node:assert/strict";
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import type { Browser, BrowserContextOptions, Page } from "playwright-core";
import { browse, withoutChromium } from "../testing/browser.ts"; // CHROMIUM
import { shopProcesses, type ShopProcesses } from "../testing/shop-processes.ts";

const skip = withoutChromium;

interface Visit {
  readonly page: Page;
  /** What the page threw or logged as an error. */
  readonly complaints: readonly string[];
}

async function visit(browser: Browser, url: string, options: BrowserContextOptions = {}): Promise<Visit> {
  const page = await (await browser.newContext(options)).newPage();
  const complaints: string[] = [];
  page.on("pageerror", (error) => complaints.push(error.message));
  page.on("console", (message) => void (message.type() === "error" && complaints.push(message.text())));
  await page.goto(url);
  await page.waitForSelector("article.product");
  return { page, complaints };
}

async function order(page: Page, ...names: readonly string[]): Promise<void> {
  for (const name of names) await page.click(`[aria-label="Add ${name} to the cart"]`);
  await page.fill("[name=customer]", "Ada Lovelace");
  await page.fill("[name=email]", "ada@example.com");
  await page.click("#checkout button.primary");
}

async function opened(): Promise<{ readonly shop: ShopProcesses; readonly browser: Browser; [Symbol.asyncDispose](): Promise<void> }> {
  const shop = await shopProcesses();
  await shop.start();
  const browser = await browse();
  return {
    shop,
    browser,
    async [Symbol.asyncDispose]() {
      await browser.close();
      await shop[Symbol.asyncDispose]();
    },
  };
}

test("a person places an order, watches it being paid and shipped, and reads the letter", { skip }, async () => {
  await using world = await opened();
  await world.shop.stub("payments", { latencyMs: 400 });
  const { page, complaints } = await visit(world.browser, world.shop.url);

  await order(page, "Trestle table", "Reading lamp", "Reading lamp");
  await page.waitForSelector("#track[data-status=placed]");
  await page.waitForSelector("#track[data-status=shipped]");
  await page.waitForSelector(".letter");

  assert.match(await page.innerText("#detail-total"), /287\.00/);
  assert.match(await page.innerText(".letter"), /on its way/);
  await page.click("dialog .close");
  assert.match(await page.innerText("#order-rows li:first-child"), /Ada Lovelace[^]*shipped/);
  assert.deepEqual(complaints, []);
});

test("a declined payment is shown with its reason and its letter", { skip }, async () => {
  await using world = await opened();
  const { page } = await visit(world.browser, world.shop.url);

  await order(page, "Lucky horseshoe");
  await page.waitForSelector("#track[data-status=cancelled]");
  await page.waitForSelector(".letter");

  assert.match(await page.innerText("#detail-reason"), /declined/);
  assert.match(await page.innerText(".letter"), /cancelled/);
});

test("an order placed while the shop is dead is kept with its key, through a reload, and placed once", { skip }, async () => {
  await using world = await opened();
  const { shop, browser } = world;
  const { page } = await visit(browser, shop.url);

  await page.click('[aria-label="Add Ash chair to the cart"]');
  await page.fill("[name=customer]", "Grace Hopper");
  await page.fill("[name=email]", "grace@example.com");
  await shop.kill();
  await page.click("#checkout button.primary");
  await page.waitForSelector("#order-problem.waiting");
  assert.match(await page.innerText("#order-problem"), /No answer yet/);
  await shop.start();
  await page.reload();
  await page.waitForSelector("#track[data-status=shipped]");

  const { items } = (await (await fetch(`${shop.url}/orders?limit=100`)).json()) as { items: { customer: string }[] };
  assert.equal(items.filter(({ customer }) => customer === "Grace Hopper").length, 1);
});

test("a stream that broke goes on after the shop has died and come back", { skip }, async () => {
  await using world = await opened();
  const { shop, browser } = world;
  const { page } = await visit(browser, shop.url);
  await shop.stub("payments", { hang: true });

  await order(page, "Potted fern");
  await page.waitForSelector(".live.on");
  await shop.kill();
  await page.waitForSelector(".live.off");
  await shop.stub("payments", {});
  await shop.start();

  await page.waitForSelector("#track[data-status=shipped]", { timeout: 60_000 });
});

test("it fits wide and narrow windows, in light and dark", { skip }, async () => {
  await using world = await opened();
  const pictures = process.env["SCREENSHOTS"];
  if (pictures !== undefined) mkdirSync(pictures, { recursive: true });

  for (const colorScheme of ["light", "dark"] as const) {
    for (const [width, height] of [
      [1280, 900],
      [390, 844],
    ] as const) {
      const { page, complaints } = await visit(world.browser, world.shop.url, { colorScheme, viewport: { width, height } });
      const picture = async (what: string) =>
        void (pictures !== undefined && (await page.screenshot({ path: join(pictures, `${colorScheme}-${width}-${what}.png`), fullPage: what !== "order" })));

      await page.click('[aria-label="Add Trestle table to the cart"]');
      await picture("cart");
      await order(page, "Station clock");
      await page.waitForSelector(".letter");
      await picture("order");
      await page.click("dialog .close");
      await picture("orders");

      const overflow = await page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth");
      assert.equal(overflow, 0, `${colorScheme} ${width}: wider than its window by ${String(overflow)} px`);
      const paper = await page.evaluate("getComputedStyle(document.body).backgroundColor");
      assert.match(String(paper), colorScheme === "dark" ? /rgb\(21, 24, 26\)/ : /rgb\(247, 245, 240\)/);
      assert.deepEqual(complaints, []);
    }
  }
});

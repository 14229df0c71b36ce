/** The page in a real browser. */
import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test, type TestContext } from "node:test";
import { chromium, type Browser, type BrowserContextOptions, type Page } from "playwright-core";
import { virtualClock } from "../kernel/index.ts";
import { fakeNode, serve, type FakeNode } from "./testing.ts";

const executablePath = process.env["CHROMIUM"];
const skip = executablePath === undefined && "no Chromium here (CHROMIUM is not set)";
let browser: Browser;
before(async () => {
  if (executablePath !== undefined) browser = await chromium.launch({ executablePath, args: ["--no-sandbox"] });
});
after(async () => browser?.close());

interface Looking {
  readonly page: Page;
  readonly fake: FakeNode;
  readonly url: string;
  /** What the page complained about, and what it asked of anyone but the node. */
  readonly complaints: string[];
  stopServing(): Promise<void>;
}

async function look(
  t: TestContext,
  options: { readonly fake?: FakeNode; readonly context?: BrowserContextOptions; readonly path?: string } = {},
): Promise<Looking> {
  const fake = options.fake ?? (await fakeNode());
  const server = await serve(fake);
  const context = await browser.newContext({ viewport: { width: 1280, height: 800 }, reducedMotion: "reduce", ...options.context });
  const page = await context.newPage();
  const complaints: string[] = [];
  page.on("pageerror", (error) => complaints.push(error.message));
  page.on("console", (message) => message.type() === "error" && !message.text().includes("ERR_CONNECTION") && complaints.push(message.text()));
  page.on("request", (request) => !request.url().startsWith(server.url) && complaints.push(`asked ${request.url()}`));
  t.after(async () => {
    await context.close();
    await server.close();
    await fake.store.close();
  });
  await page.goto(`${server.url}/_trestle${options.path ?? ""}`);
  return { page, fake, url: server.url, complaints, stopServing: () => server.close() };
}

const said = (page: Page) => page.locator("#said");
const node = (page: Page, name: string) => page.locator(`#graph .node[aria-label*=" ${name},"]`);

// Expressions for the page are text: this repository's compiler knows no DOM.
const focused = (page: Page) => page.evaluate<string>("document.activeElement.getAttribute('aria-label') ?? ''");

test("the page shows components, what flows between them, and what failed", { skip }, async (t) => {
  const fake = await fakeNode();
  fake.traffic(100);
  fake.observer.used("nightly-report", "products");
  const { page, complaints } = await look(t, { fake });

  await node(page, "shop").waitFor();

  assert.equal(await page.locator("#graph .node").count(), 11, "settings are not drawn");
  assert.match((await node(page, "shop").getAttribute("aria-label")) ?? "", /^service shop, [\d.]+k?\/s handled, 99 percent within \d+ ms$/);
  assert.match((await node(page, "payments").getAttribute("aria-label")) ?? "", /used|handled/);
  assert.match(
    await page
      .locator(".edge.faulty title")
      .allTextContents()
      .then((all) => all.join()),
    /fulfilment → payments: waits for its answer/,
  );
  const undeclared = await page.locator(".edge.undeclared title").allTextContents();
  assert.equal(undeclared.length, 1);
  assert.match(undeclared[0] ?? "", /^nightly-report → products: uses it without having declared it; once, [\d.]+\/(s|min) now$/);
  assert.ok((await page.locator(".edge.unseen-yet").count()) >= 2);
  assert.equal(await page.locator("#connection-text").innerText(), "live");
  assert.equal(await page.title(), "shop · Trestle");
  assert.deepEqual(complaints, []);
});

test("figures move while one looks", { skip }, async (t) => {
  const { page, fake } = await look(t);
  await node(page, "shop").waitFor();
  assert.match((await node(page, "shop").getAttribute("aria-label")) ?? "", /, 0 used/);

  fake.traffic(50);

  await page.locator('#graph .node[aria-label^="service shop,"][aria-label*="/s handled"]').waitFor({ timeout: 10_000 });
});

test("a component is opened and closed by keyboard alone, and focus comes back to it", { skip }, async (t) => {
  const fake = await fakeNode();
  fake.traffic(20);
  const { page } = await look(t, { fake });
  await node(page, "shop").waitFor();

  await node(page, "shop").focus();
  await page.keyboard.press("ArrowRight");
  const reached = await focused(page);
  await page.keyboard.press("ArrowLeft");
  await node(page, "shop").focus();
  await page.keyboard.press("Enter");
  const panel = await page.locator("#panel").innerText();
  await page.keyboard.press("Escape");

  assert.match(reached, /^(queue|projection|records)/);
  for (const fact of ["Takes orders and shows them.", "orders", "99.9 %", "placeOrder", "listProducts", "Uses", "order-list"])
    assert.ok(panel.includes(fact), `${fact} is not in:\n${panel}`);
  assert.equal(await page.locator("#panel").isVisible(), false);
  assert.match(await focused(page), /^service shop/);
});

test("a link to a component opens it", { skip }, async (t) => {
  const { page } = await look(t, { path: "#component=payments" });

  await page.locator("#panel-title").waitFor();

  assert.equal(await page.locator("#panel-title").innerText(), "payments");
  assert.match(await page.locator("#panel").innerText(), /PAYMENTS_URL/);
});

test("all dead jobs of a queue are put back after one question that says how many", { skip }, async (t) => {
  const fake = await fakeNode();
  await fake.jobs("mail", 7, { kind: "dead", error: "550 no such mailbox\n  at send" });
  const { page } = await look(t, { fake });

  await page.getByRole("button", { name: "Put all 7 back" }).click();
  const question = await page.locator("#confirm").innerText();
  await page.getByRole("button", { name: "Leave them" }).click();
  const untouched = (await fake.store.read.queue("mail")).dead;
  await page.getByRole("button", { name: "Put all 7 back" }).click();
  await page.getByRole("button", { name: "Put 7 back" }).click();
  await said(page).filter({ hasText: "7 jobs of mail put back" }).waitFor();

  assert.match(question, /Put 7 dead jobs of mail back\?/);
  assert.equal(untouched, 7);
  assert.deepEqual([(await fake.store.read.queue("mail")).dead, (await fake.store.read.queue("mail")).waiting], [0, 7]);
  assert.equal(await said(page).getAttribute("aria-live"), "polite");
  await page.locator("#kept").waitFor({ state: "hidden", timeout: 10_000 });
});

test("a queue is paused after a question and goes on at once; whose jobs wait in it is told, those with most first", { skip }, async (t) => {
  const fake = await fakeNode();
  await fake.jobs("mail", 2, undefined, "acme");
  await fake.jobs("mail", 1_200, undefined, "initech");
  for (let n = 0; n < 10; n++) await fake.jobs("mail", 1, undefined, `small-${n}`);
  const { page, complaints } = await look(t, { fake, path: "#component=mail" });
  const paused = async () => (await fake.store.read.queue("mail")).paused;

  const rows = page.locator("#panel table").filter({ hasText: "Tenant" }).locator("tbody tr");
  await rows.nth(9).waitFor();
  const told = await rows.allInnerTexts();
  const more = await page.getByText("and 2 with less to do").count();
  await page.getByRole("button", { name: "Pause mail…" }).click();
  const question = await page.locator("#confirm").innerText();
  await page.getByRole("button", { name: "Let it run" }).click();
  const untouched = await paused();
  await page.getByRole("button", { name: "Pause mail…" }).click();
  await page.getByRole("button", { name: "Pause it" }).click();
  await said(page).filter({ hasText: "mail is paused" }).waitFor();
  await page.getByText("Paused: nothing of it is begun anywhere.").waitFor();
  const stopped = await paused();
  await page.getByRole("button", { name: "Let mail go on" }).click();
  await said(page).filter({ hasText: "mail goes on" }).waitFor();

  assert.deepEqual(told.slice(0, 3), ["initech\t1,200\t0", "acme\t2\t0", "small-0\t1\t0"]);
  assert.equal(more, 1);
  assert.match(question, /Pause mail\?\s+Nothing of it is begun anywhere/);
  assert.deepEqual([untouched, stopped, await paused()], [false, true, false]);
  assert.deepEqual(complaints, []);
});

test("one job is put back at once, and cancelled only after a question", { skip }, async (t) => {
  const fake = await fakeNode();
  const [first = "", second = ""] = await fake.jobs("mail", 2, { kind: "parked", error: "by hand" });
  const { page } = await look(t, { fake });

  await page.getByRole("button", { name: `Put job ${first.slice(-8)} of mail back` }).click();
  await said(page).filter({ hasText: "1 job of mail put back" }).waitFor();
  await page.getByRole("button", { name: `Cancel job ${second.slice(-8)} of mail` }).click();
  await page.getByRole("button", { name: "Cancel the job" }).click();
  await said(page).filter({ hasText: "1 job of mail cancelled" }).waitFor();

  const depth = await fake.store.read.queue("mail");
  assert.deepEqual([depth.waiting, depth.parked], [1, 0]);
});

test("what a job failed with is text, whatever is in it", { skip }, async (t) => {
  const fake = await fakeNode();
  await fake.jobs("mail", 1, { kind: "dead", error: "<img src=x onerror=alert(1)><b>bold</b>" });
  const { page, complaints } = await look(t, { fake });

  await page.getByText("<img src=x onerror=alert(1)><b>bold</b>").waitFor();

  assert.equal(await page.locator("#kept img, #kept b").count(), 0);
  assert.deepEqual(complaints, []);
});

test("a node that stops answering is told, its last figures stay, and it is found again", { skip, timeout: 60_000 }, async (t) => {
  const { page, fake, url, stopServing } = await look(t);
  await node(page, "shop").waitFor();

  await stopServing();
  await page.locator("#notice").waitFor({ timeout: 15_000 });
  const notice = await page.locator("#notice").innerText();
  const connection = await page.locator("#connection-text").innerText();
  const again = await serve(fake, Number(new URL(url).port));
  t.after(() => again.close());
  await page.getByRole("button", { name: "Ask now" }).click();
  await page.locator("#notice").waitFor({ state: "hidden", timeout: 15_000 });

  assert.match(notice, /The node does not answer\./);
  assert.match(connection, /no answer for \d+ s/);
  assert.equal(await page.locator("#graph .node").count(), 11);
  assert.equal(await page.locator("#connection-text").innerText(), "live");
});

test("an app without components or queues says so instead of showing nothing", { skip }, async (t) => {
  const { page, complaints } = await look(t, { fake: await fakeNode({ graph: { components: [], edges: [] } }) });

  await page.getByText("This app has no components yet").waitFor();

  assert.ok(await page.getByText("This app has no queues.").isVisible());
  assert.deepEqual(complaints, []);
});

test("a seed that a simulation left beside the app is listed, and its page opens, which runs nothing", { skip }, async (t) => {
  const folder = mkdtempSync(join(tmpdir(), "trestle-console-seeds-"));
  t.after(() => rmSync(folder, { recursive: true }));
  writeFileSync(join(folder, "busyDay-0x2a.html"), "<title>not run</title><h1>busyDay</h1><script>document.title = 'run'</script>");
  writeFileSync(join(folder, "busyDay-0x2a.jsonl"), '{"atMs":1}\n');
  const { page, url, complaints } = await look(t, { fake: await fakeNode({ simulated: folder }) });

  const link = page.getByRole("link", { name: "busyDay, seed 0x2a", exact: true });
  await link.waitFor();
  const trace = await page.getByRole("link", { name: "Trace of busyDay, seed 0x2a" }).getAttribute("href");
  assert.deepEqual(complaints, []);
  await link.click();
  await page.getByRole("heading", { name: "busyDay" }).waitFor();

  assert.equal(page.url(), `${url}/_trestle/simulations/busyDay-0x2a.html`);
  assert.equal(await page.title(), "not run");
  assert.equal(await (await fetch(`${url}${trace}`)).text(), '{"atMs":1}\n');
});

test("where nobody simulates the page says nothing about it", { skip }, async (t) => {
  const { page } = await look(t);
  await node(page, "shop").waitFor();

  assert.equal(await page.locator("#simulations").isVisible(), false);
});

test("the page fits a phone and a wide screen, in light and in dark", { skip }, async (t) => {
  for (const [width, colorScheme] of [
    [360, "dark"],
    [768, "light"],
    [1920, "dark"],
  ] as const) {
    const fake = await fakeNode();
    fake.traffic(10);
    await fake.jobs("mail", 2, { kind: "dead", error: `a-long-word-${"x".repeat(300)}` });
    const { page, complaints } = await look(t, { fake, context: { viewport: { width, height: 800 }, colorScheme } });
    await node(page, "shop").click();

    const { overflow, ink, ground } = await page.evaluate<{ overflow: number; ink: string; ground: string }>(
      "({ overflow: document.documentElement.scrollWidth - document.documentElement.clientWidth, ink: getComputedStyle(document.body).color, ground: getComputedStyle(document.body).backgroundColor })",
    );
    const brightness = (color: string) => (color.match(/[\d.]+/g) ?? []).slice(0, 3).reduce((sum, part) => sum + Number(part), 0);

    assert.equal(overflow, 0, `${width} px wide`);
    assert.equal(brightness(ink) > brightness(ground), colorScheme === "dark");
    assert.deepEqual(complaints, []);
  }
});

test("with a token a person types it once, and it does not stay in the address", { skip }, async (t) => {
  const { page, url } = await look(t, { fake: await fakeNode({ token: "a-long-and-random-token" }) });

  await page.getByLabel("Token").fill("a-long-and-random-token");
  await page.getByRole("button", { name: "Open the console" }).click();
  await node(page, "shop").waitFor();

  assert.equal(page.url(), `${url}/_trestle`);
});

test("routes with a policy are shown with their rung and why, and one is held and released by hand", { skip }, async (t) => {
  const fake = await fakeNode();
  let held: string | undefined;
  const route = { route: "shop.catalogue", mode: "enforce", ladder: ["full", "stale", "static"], forMs: 61_000 } as const;
  const degradation = {
    get view() {
      const rung = (held ?? "stale") as "stale";
      return {
        file: "policies.yaml",
        refused: undefined,
        routes: [
          {
            ...route,
            rung,
            why: "the breaker of prices is open",
            held: held === undefined ? undefined : ("by hand" as const),
            processes: held === undefined ? { full: 3, stale: 1 } : { [rung]: 4 },
          },
        ],
      };
    },
    hold: (_route: string, rung: string | undefined) => Promise.resolve(void (held = rung)),
  };
  Object.assign(fake.view, { degradation });
  for (const [colorScheme, width] of [
    ["light", 1280],
    ["dark", 1280],
    ["light", 380],
    ["dark", 380],
  ] as const) {
    held = undefined;
    const context = await browser.newContext({ colorScheme, viewport: { width, height: 800 }, reducedMotion: "reduce" });
    const page = await context.newPage();
    const server = await serve(fake);
    await page.goto(`${server.url}/_trestle`);
    const section = page.locator("#degraded");
    await section.waitFor();
    assert.match(await section.innerText(), /shop\.catalogue[\s\S]*stale\s*in 1 of 4 processes; full in 3[\s\S]*the breaker of prices is open/);
    assert.ok(await page.evaluate<boolean>("document.documentElement.scrollWidth <= innerWidth"), `nothing hangs out of the page at ${width}`);
    if (process.env["SHOTS"]) await page.screenshot({ path: `${process.env["SHOTS"]}/degraded-${colorScheme}-${width}.png`, fullPage: true });
    await section.getByRole("button", { name: "static shop.catalogue" }).click();
    await section.getByText("held by hand").waitFor();
    assert.equal(held, "static");
    assert.doesNotMatch(await section.innerText(), /processes/, "all stand there");
    await section.getByRole("button", { name: "release shop.catalogue" }).click();
    await section.getByText("the breaker of prices is open").waitFor();
    await context.close();
    await server.close();
  }
  t.after(() => fake.store.close());
});

test("what turns calls away is shown: how full, how much of what, and what is down", { skip }, async (t) => {
  for (const [colorScheme, width] of [
    ["light", 1280],
    ["dark", 1280],
    ["light", 380],
    ["dark", 380],
  ] as const) {
    const fake = await fakeNode({ clock: virtualClock() }); // rates are over the time since the start: here always a second
    fake.traffic(20);
    fake.overload(20);
    const { page, complaints } = await look(t, { fake, context: { viewport: { width, height: 800 }, colorScheme } });
    const section = page.locator("#gates");
    await section.waitFor();

    const rows = (await section.locator("tbody tr").allInnerTexts()).map((row) => row.replace(/\s+/g, " "));
    assert.match(rows[0] as string, /payments calls breaker open .* breaker open .* crash .* 0 of 32 0/);
    assert.match(rows[1] as string, /shop admission full .* no place .* gave way to the more urgent .* 64 of 64 117/);
    assert.match(rows[2] as string, /shop limit caller – 60\/s 4\/s/);
    assert.match(rows[3] as string, /shop limit address dry run: would refuse 10\/s 20\/s 0/);
    assert.equal(await page.evaluate<number>("document.documentElement.scrollWidth - document.documentElement.clientWidth"), 0, `${width} px wide`);
    if (process.env["SHOTS"]) await page.screenshot({ path: `${process.env["SHOTS"]}/gates-${colorScheme}-${width}.png`, fullPage: true });
    await section.getByRole("button", { name: "payments" }).click();
    await page.locator("#panel-title").waitFor();
    assert.equal(await page.locator("#panel-title").innerText(), "payments");
    assert.deepEqual(complaints, []);
  }
});

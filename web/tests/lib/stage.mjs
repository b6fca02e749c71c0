// What a journey happens on: homes, daemons and pages that all end with it, and whatever a page complained of.

import assert from "node:assert/strict";
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { after, test } from "node:test";

import { launch } from "./browser.mjs";
import { PATIENCE } from "./home.mjs";

export const PICTURES = process.env.COPAL_PICTURES ?? join(import.meta.dirname, "../../../target/page-pictures");
mkdirSync(PICTURES, { recursive: true });

// One browser for all journeys of a file.
let browser;
after(async () => (await browser)?.close());

// Says whatever the policy refuses. It has to be told by a page itself: the console shows only some of it.
const TELL = () => {
  document.addEventListener("securitypolicyviolation", (event) =>
    console.error(`refused by the policy: ${event.violatedDirective} ${event.blockedURI} ${event.sample}`),
  );
};

export class Stage {
  constructor(name) {
    this.name = name;
    this.closing = [];
    this.pages = [];
    this.complaints = [];
  }

  // Closes it with the journey, after all that came later.
  with(thing) {
    this.closing.push(() => (thing.stop ? thing.stop("SIGKILL") : thing.close()));
    return thing;
  }

  // A page of its own; with a token it is signed in.
  async page(daemon, { token, width = 1200, height = 800, dark = false, path = "/" } = {}) {
    const context = await (await (browser ??= launch())).newContext({
      viewport: { width, height },
      colorScheme: dark ? "dark" : "light",
      reducedMotion: "reduce",
      locale: "en-GB",
      timezoneId: "UTC",
      baseURL: daemon.url,
    });
    this.closing.push(() => context.close());
    context.setDefaultTimeout(PATIENCE);
    await context.addInitScript(TELL);
    if (token) {
      const answer = await context.request.post("/api/session", { data: { token } });
      assert.equal(answer.status(), 200, await answer.text());
    }
    const page = await context.newPage();
    this.watch(page);
    this.pages.push(page);
    await page.goto(path);
    return page;
  }

  watch(page) {
    page.on("pageerror", (error) => this.complaints.push(`an error on the page: ${error.stack}`));
    page.on("console", (message) => {
      // A request that is refused is shown by the page, if it matters.
      const isExpected = /^Failed to load resource/.test(message.text()) && !message.location().url.includes("/page/");
      const isLost = /net::ERR_/.test(message.text());
      if (message.type() === "error" && !isExpected && !isLost) this.complaints.push(`${message.text()} (${message.location().url})`);
    });
    page.on("request", (request) => {
      const url = new URL(request.url());
      if (!/^(data|blob):/.test(url.protocol) && !["127.0.0.1", "localhost"].includes(url.hostname)) {
        this.complaints.push(`a request to another host: ${request.url()}`);
      }
    });
  }

  // Shows what there was to see when a journey failed.
  async show() {
    const file = this.name.replace(/[^a-z0-9]+/gi, "-").slice(0, 80);
    for (const [number, page] of this.pages.entries()) {
      if (page.isClosed()) continue;
      const path = join(PICTURES, `failed-${file}-${number}.png`);
      await page.screenshot({ path, timeout: 10_000 }).catch(() => {});
      const text = await page.evaluate(() => document.body.innerText).catch(() => "");
      console.log(`---- ${this.name}: ${path} at ${page.url()}\n${text.slice(0, 3000)}\n----`);
    }
    this.complaints.forEach((complaint) => console.log(`complaint: ${complaint}`));
  }

  async close() {
    for (const close of this.closing.reverse()) await close();
  }
}

// A test on a stage of its own. It fails, too, if a page complained of anything.
export function journey(name, act) {
  test(name, { timeout: 10 * PATIENCE }, async () => {
    const stage = new Stage(name);
    try {
      await act(stage);
      assert.deepEqual(stage.complaints, [], "a page complained");
    } catch (error) {
      await stage.show();
      throw error;
    } finally {
      await stage.close();
    }
  });
}

// Every screen on narrow, ordinary and wide windows, light and dark: nothing overflows, nobody is kept out, the HTML is valid.

import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";

import { assertAccessible, assertNoOverflow, assertValidHtml, outerHtml } from "./lib/checks.mjs";
import { Daemon } from "./lib/daemon.mjs";
import { Demo } from "./lib/demo.mjs";
import { Home } from "./lib/home.mjs";
import { screens, settled, show } from "./lib/screens.mjs";
import { PICTURES, journey } from "./lib/stage.mjs";

const WIDTHS = [320, 800, 1920];

// Looks at one screen in every way; all that is wrong with it is told at once.
async function look(page, name, wrong) {
  const check = (promise) => promise.catch((error) => wrong.push(error.message));
  await check(assertValidHtml(await outerHtml(page), name));
  for (const colorScheme of ["light", "dark"]) {
    await page.emulateMedia({ colorScheme });
    for (const width of WIDTHS) {
      await page.setViewportSize({ width, height: width === 320 ? 640 : 900 });
      await settled(page);
      const where = `${name} at ${width} px, ${colorScheme}`;
      await check(assertNoOverflow(page, where));
      await check(assertAccessible(page, where));
      await page.screenshot({ path: join(PICTURES, `${name}-${width}-${colorScheme}.png`), fullPage: true });
    }
  }
}

function tell(wrong) {
  if (wrong.length) throw new Error([...new Set(wrong)].join("\n\n"));
}

test("index.html is valid", async () => {
  await assertValidHtml(await readFile(join(import.meta.dirname, "../index.html"), "utf8"), "index.html");
});

journey("every screen", async (stage) => {
  const demo = await Demo.create();
  const home = stage.with(demo.home);
  const token = await home.token("admin");
  const daemon = stage.with(await home.serve());
  const { runs } = await daemon.get("/api/runs?limit=1", token);
  const wrong = [];
  const page = await stage.page(daemon);
  await page.getByRole("heading", { name: "Sign in" }).waitFor();
  await look(page, "signin", wrong);
  const signedIn = await stage.page(daemon, { token });
  for (const screen of screens(runs[0].id)) {
    await show(signedIn, screen);
    await look(signedIn, screen.name, wrong);
  }
  tell(wrong);
});

journey("screens with nothing on them yet, and with work under way", async (stage) => {
  const home = stage.with(await Home.create());
  await home.configure({}, { top: 'database_wait = "10m"' });
  await home.copal("init", "--no-encrypt");
  const daemon = stage.with(await home.serve());
  const wrong = [];
  const page = await stage.page(daemon);
  await page.getByRole("heading", { level: 1 }).waitFor();
  for (const name of ["", "repository", "runs", "notifications", "nowhere"]) {
    await page.goto(`/#/${name}`);
    await page.getByRole("heading", { level: 1 }).waitFor();
    await settled(page);
    await look(page, `empty-${name || "overview"}`, wrong);
  }
  tell(wrong);
});

journey("work under way", async (stage) => {
  const home = stage.with(await Home.withShop({ top: 'database_wait = "10m"' }));
  await home.hold("shop.db");
  const daemon = stage.with(await home.serve());
  const wrong = [];
  const page = await stage.page(daemon, { path: "/#/databases/shop" });
  await page.getByRole("button", { name: "Back up now" }).click();
  for (const [name, path] of [["database", "/#/databases/shop"], ["overview", "/#/"], ["runs", "/#/runs"]]) {
    await page.goto(path);
    await page.getByRole("progressbar").first().waitFor();
    await settled(page);
    await look(page, `running-${name}`, wrong);
  }
  tell(wrong);
});

journey("the first start", async (stage) => {
  const home = stage.with(await Home.create());
  await home.database("shop.db");
  const daemon = stage.with(await Daemon.startFirst(home));
  const wrong = [];
  const page = await stage.page(daemon, { path: daemon.start });
  await page.getByRole("heading").first().waitFor();
  await settled(page);
  await look(page, "start", wrong);
  tell(wrong);
});

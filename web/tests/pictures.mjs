// Makes docs/pictures/*.png: the screens of a daemon with a month of backups. Takes `copal` in COPAL, and `faketime` for the month.

import { mkdir, rm } from "node:fs/promises";
import { join, resolve } from "node:path";

process.env.COPAL = resolve(process.env.COPAL ?? join(import.meta.dirname, "../../target/debug/copal"));
const modules = ["browser", "daemon", "demo", "home", "screens"].map((name) => import(`./lib/${name}.mjs`));
const [{ launch }, { Daemon }, { Demo }, { Home }, { screens, settled, show }] = await Promise.all(modules);

const FOLDER = join(import.meta.dirname, "../../docs/pictures");
const [WIDTH, HEIGHT] = [1200, 860];

const demo = await Demo.create({ days: 40 });
const token = await demo.home.token("admin", "anna");
const daemon = await demo.home.serve();
const unset = await Home.create();
for (const name of ["shop", "wiki"]) await unset.database(`data/${name}.db`);
const first = await Daemon.startFirst(unset);
const browser = await launch();
try {
  await rm(FOLDER, { recursive: true, force: true });
  await mkdir(FOLDER, { recursive: true });
  const look = { viewport: { width: WIDTH, height: HEIGHT }, locale: "en-GB", timezoneId: "UTC", reducedMotion: "reduce" };
  const context = await browser.newContext({ ...look, baseURL: daemon.url });
  const out = await (await browser.newContext(look)).newPage();
  await out.goto(`${daemon.url}/#/`);
  await out.getByLabel("Token").waitFor();
  await out.screenshot({ path: join(FOLDER, "signin.png") });
  await out.goto(first.start);
  await out.getByLabel("Look for databases in").fill(unset.path("data"));
  await out.getByRole("button", { name: "Look", exact: true }).click();
  await out.getByRole("checkbox", { name: /wiki/ }).check();
  await settled(out);
  await out.screenshot({ path: join(FOLDER, "start.png") });
  await context.request.post("/api/session", { data: { token } });
  const page = await context.newPage();
  const { run } = await daemon.post("/api/databases/shop/verify", token, { drill: true });
  await daemon.ran(token, ({ id }) => id === run);
  for (const screen of screens(run)) {
    await show(page, screen);
    // What is plotted stands further down.
    await page.screenshot({ path: join(FOLDER, `${screen.name}.png`), fullPage: screen.name === "database" });
  }
  await page.emulateMedia({ colorScheme: "dark" });
  await page.goto("/#/");
  await show(page, screens(run)[0]);
  await page.screenshot({ path: join(FOLDER, "overview-dark.png") });
} finally {
  await browser.close();
  await Promise.all([daemon.stop(), first.stop()]);
  await Promise.all([demo.home.close(), unset.close()]);
}

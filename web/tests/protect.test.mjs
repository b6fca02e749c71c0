// Making backups, and proving them: what is done on the page has happened, and what happened is on the page.

import assert from "node:assert/strict";
import { readdir, rename, rm, truncate } from "node:fs/promises";

import { until } from "./lib/daemon.mjs";
import { Home } from "./lib/home.mjs";
import { journey } from "./lib/stage.mjs";

const backups = async (home, name) => JSON.parse(await home.copal("list", name, "--json")).results;
const button = (page, name) => page.getByRole("button", { name, exact: true });
// The page's own word on the database that it shows, not those on its runs.
const state = (page, word) => page.locator(".title-line .badge", { hasText: new RegExp(`^\\S?${word}$`) });

journey("a backup is made now", async (stage) => {
  const home = stage.with(await Home.withShop({ others: { crm: 'url = "sqlite:crm.db"' } }));
  await home.database("crm.db");
  const daemon = stage.with(await home.serve());
  const page = await stage.page(daemon);
  await page.getByRole("heading", { name: /1 of 2 databases not protected/ }).waitFor();
  const row = page.getByRole("row", { name: /crm/ });
  await row.getByText("not protected").waitFor();

  await page.getByRole("link", { name: "crm" }).first().click();
  await state(page, "not protected").waitFor();
  await button(page, "Back up now").click();
  await state(page, "protected").waitFor();
  const [made, ...others] = await backups(home, "crm");
  assert.deepEqual(others, []);
  await page.getByRole("table", { name: /Backups/ }).getByText(made.id).waitFor();

  // The overview, too, without a reload.
  await page.getByRole("link", { name: "Databases" }).first().click();
  await page.getByRole("heading", { name: /2 databases, all protected/ }).waitFor();
  await row.getByRole("img", { name: /1 run.*none failed/ }).waitFor();
});

journey("what fails is told in red with its reason, and turns good again", async (stage) => {
  const home = stage.with(await Home.withShop({ others: { crm: 'url = "sqlite:crm.db"\nretries = 0' } }));
  const daemon = stage.with(await home.serve());
  const page = await stage.page(daemon, { path: "/#/databases/crm" });
  const overview = await stage.page(daemon);
  await button(page, "Back up now").click();
  // Both pages learn of it by themselves.
  await page.getByText(/crm\.db/).first().waitFor();
  await page.getByText("failed", { exact: false }).first().waitFor();
  const failed = await daemon.ran(undefined, (run) => run.database === "crm" && run.error);
  await page.getByText(failed.error.message).first().waitFor();
  const row = overview.getByRole("row", { name: /crm/ });
  await row.getByText("1 failed in a row").waitFor();
  await overview.getByRole("heading", { name: /1 of 2 databases not protected/ }).waitFor();
  await overview.getByLabel("State").selectOption("failing");
  await overview.getByRole("row", { name: /shop/ }).waitFor({ state: "detached" });
  await row.waitFor();

  await home.database("crm.db");
  await button(page, "Back up now").click();
  await state(page, "protected").waitFor();
  await overview.getByText("No database is like that.").waitFor();
  await overview.getByRole("link", { name: /show all/i }).first().click();
  await overview.getByRole("heading", { name: /2 databases, all protected/ }).waitFor();
  await row.getByRole("img", { name: /2 runs: 1 failed/ }).waitFor();
});

journey("damage that a verification finds is told, and the next backup makes it good", async (stage) => {
  const home = stage.with(await Home.withShop());
  const daemon = stage.with(await home.serve());
  const page = await stage.page(daemon, { path: "/#/databases/shop" });
  await state(page, "protected").waitFor();
  const packs = await readdir(home.path("repository/databases/shop/packs"));
  for (const pack of packs) await rm(home.path("repository/databases/shop/packs", pack));
  await button(page, "Verify").click();
  await page.getByText(/is damaged.*is missing/).first().waitFor();
  await button(page, "Back up now").click();
  await until("there is another backup", async () => (await backups(home, "shop")).length === 2);
  await home.copal("verify", "shop", "--drill", "--quiet");
});

journey("a newest backup that cannot be read is no protection", async (stage) => {
  const home = stage.with(await Home.withShop());
  const daemon = stage.with(await home.serve());
  const page = await stage.page(daemon, { path: "/#/databases/shop" });
  const overview = await stage.page(daemon);
  await overview.getByRole("heading", { name: /1 database, protected/ }).waitFor();
  await state(page, "protected").waitFor();
  const [{ id }] = await backups(home, "shop");
  await truncate(home.path("repository/databases/shop/backups", id), 10);
  await button(page, "Verify").click();
  await state(page, "not protected").waitFor();
  await overview.getByRole("heading", { name: /1 of 1 database not protected/ }).waitFor();
  await page.getByText(/damaged/).first().waitFor();
  await button(page, "Back up now").click();
  await state(page, "protected").waitFor();
  await overview.getByRole("heading", { name: /1 database, protected/ }).waitFor();
});

journey("verify, drill and pin", async (stage) => {
  const home = stage.with(await Home.withShop());
  const daemon = stage.with(await home.serve());
  const page = await stage.page(daemon, { path: "/#/databases/shop" });
  const [{ id }] = await backups(home, "shop");
  const row = page.getByRole("row", { name: new RegExp(id) });
  await row.getByText("not yet").waitFor();

  await button(page, `Verify ${id}`).click();
  await row.getByText("yes").waitFor();
  assert.equal((await daemon.ran(undefined, (run) => run.kind === "verify")).ending, "success");

  await button(page, "Drill").click();
  const drill = await daemon.ran(undefined, (run) => run.kind === "drill");
  assert.equal(drill.ending, "success");
  await page.locator("dt", { hasText: "Last drill" }).locator("..").getByText("success").waitFor();
  // What was checked stands in the run's log.
  await page.goto(`/#/runs/${drill.id}`);
  await page.getByRole("list", { name: "Log" }).getByText("checked", { exact: false }).first().waitFor();

  await page.goto("/#/databases/shop");
  await button(page, `Pin ${id}`).click();
  await button(page, `Unpin ${id}`).waitFor();
  assert.equal((await backups(home, "shop"))[0].pinned, true);
  await button(page, `Unpin ${id}`).click();
  await button(page, `Pin ${id}`).waitFor();
  assert.equal((await backups(home, "shop"))[0].pinned, false);
});

journey("a backup is cancelled in the middle, and leaves nothing", async (stage) => {
  const home = stage.with(await Home.withShop({ top: 'database_wait = "10m"' }));
  const before = await backups(home, "shop");
  const holder = await home.hold("shop.db");
  const daemon = stage.with(await home.serve());
  const page = await stage.page(daemon, { path: "/#/databases/shop" });
  await button(page, "Back up now").click();
  await page.getByRole("progressbar", { name: "Backup of shop" }).waitFor();
  await button(page, "Cancel: Backup of shop").click();
  await page.getByRole("progressbar").waitFor({ state: "detached" });
  const run = await daemon.ran(undefined, (run) => run.kind === "backup");
  assert.equal(run.ending, "cancelled");
  await page.getByRole("listitem").filter({ hasText: "cancelled" }).first().waitFor();
  assert.deepEqual(await backups(home, "shop"), before);

  await holder.release();
  await button(page, "Back up now").click();
  await until("there is one more", async () => (await backups(home, "shop")).length === before.length + 1);
});

journey("a file that is moved away shows in the row of its database", async (stage) => {
  const home = stage.with(await Home.withShop({ shop: "retries = 0" }));
  const daemon = stage.with(await home.serve());
  const page = await stage.page(daemon);
  const row = page.getByRole("row", { name: /shop/ });
  await row.waitFor();
  await rename(home.path("shop.db"), home.path("away.db"));
  await daemon.post("/api/databases/shop/backup");
  await row.getByText("1 failed in a row").waitFor();
  await rename(home.path("away.db"), home.path("shop.db"));
  await daemon.post("/api/databases/shop/backup");
  await row.getByText("1 failed in a row").waitFor({ state: "detached" });
});

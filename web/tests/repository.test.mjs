// The repository, and what a prune frees.

import assert from "node:assert/strict";

import { Home } from "./lib/home.mjs";
import { journey } from "./lib/stage.mjs";

const ids = async (home) => JSON.parse(await home.copal("list", "shop", "--json")).results.map(({ id }) => id);

async function withThree() {
  const home = await Home.withShop({ shop: "keep = { last = 1 }", top: 'database_wait = "10m"' });
  for (let round = 0; round < 2; round += 1) {
    await home.sqlite("shop.db", "UPDATE items SET name = hex(randomblob(200))");
    await home.copal("backup", "shop", "--quiet");
  }
  return home;
}

journey("a prune is shown, confirmed and done", async (stage) => {
  const home = stage.with(await withThree());
  const [first, second, third] = await ids(home);
  const daemon = stage.with(await home.serve());
  const page = await stage.page(daemon, { path: "/#/repository" });
  await page.getByText(home.path("repository")).waitFor();
  await page.getByText("not encrypted").waitFor();
  await page.getByRole("button", { name: "What would a prune free? shop" }).click();
  const dialog = page.getByRole("dialog", { name: /Prune of shop/ });
  const going = dialog.getByRole("list", { name: "Backups that would go" });
  await going.waitFor();
  assert.deepEqual((await going.getByRole("listitem").allInnerTexts()).sort(), [first, second].sort());
  await dialog.getByText("last 1").waitFor();
  const act = dialog.getByRole("button", { name: "Prune now" });
  assert.ok(await act.isDisabled());
  assert.equal((await ids(home)).length, 3, "a plan changes nothing");
  await dialog.getByRole("checkbox").check();
  await act.click();
  await dialog.getByText("Pruned").waitFor();
  assert.deepEqual(await ids(home), [third]);
  assert.equal((await daemon.ran(undefined, ({ kind }) => kind === "prune")).ending, "success");
  await dialog.getByRole("button", { name: "Close" }).click();
  const row = page.getByRole("row", { name: /shop/ });
  await row.getByRole("cell", { name: "1", exact: true }).waitFor();
  await home.copal("verify", "shop", "--drill", "--quiet");
});

journey("who works in it", async (stage) => {
  const home = stage.with(await withThree());
  const holder = await home.hold("shop.db");
  const daemon = stage.with(await home.serve());
  const page = await stage.page(daemon, { path: "/#/repository" });
  await page.getByText("Nobody works in it just now.").waitFor();
  await daemon.post("/api/databases/shop/backup");
  await page.getByText("this daemon").waitFor();
  await holder.release();
  await page.getByText("Nobody works in it just now.").waitFor();
});

journey("many databases are sorted, searched and paged by the server", async (stage) => {
  const home = stage.with(await Home.create());
  const names = Array.from({ length: 120 }, (_, number) => `db-${String(number).padStart(3, "0")}`);
  const databases = Object.fromEntries(names.map((name) => [name, `url = "sqlite:${name}.db"`]));
  await home.configure(databases);
  await home.copal("init", "--no-encrypt");
  for (const name of names.slice(0, 2)) await home.database(`${name}.db`, name === "db-001" ? 2000 : 20);
  await home.copal("backup", "db-000", "db-001", "--quiet");
  const daemon = stage.with(await home.serve());
  const page = await stage.page(daemon);
  await page.getByRole("heading", { name: /118 of 120 databases not protected/ }).waitFor();
  const rows = page.getByRole("table", { name: "Databases" }).getByRole("rowheader");
  const shown = async () => (await rows.allInnerTexts()).map((text) => text.match(/db-\d+/)[0]);
  assert.deepEqual(await shown(), names.slice(2, 52), "what is not protected comes first");
  await page.getByRole("link", { name: "Next" }).click();
  await page.getByText("51 to 100 of 120").waitFor();
  assert.match(page.url(), /offset=50/);
  assert.deepEqual(await shown(), names.slice(52, 102));
  await page.goBack();
  await page.getByText("1 to 50 of 120").waitFor();

  await page.getByRole("button", { name: "Size" }).click();
  await page.getByRole("columnheader", { name: "Size" }).and(page.locator("[aria-sort=descending]")).waitFor();
  await page.waitForFunction(() => document.querySelector("tbody th").innerText.includes("db-001"));
  assert.deepEqual((await shown()).slice(0, 2), ["db-001", "db-000"]);
  await page.getByLabel("Search").fill("DB-00");
  await page.getByText("10 matches").waitFor();
  await page.waitForFunction(() => document.querySelectorAll("tbody tr").length === 10);
  await page.getByLabel("State").selectOption("protected");
  await page.getByText("2 matches").waitFor();
  // All of it stands in the address, so that it can be sent.
  const other = await stage.page(daemon, { path: new URL(page.url()).hash && `/${new URL(page.url()).hash}` });
  await other.getByText("2 matches").waitFor();
  assert.equal(await other.getByLabel("Search").inputValue(), "DB-00");
  assert.equal(await other.getByRole("table", { name: "Databases" }).getByRole("rowheader").count(), 2);
});

// Restores: to another place, over the original, refused, cancelled. What is restored is read with sqlite3.

import assert from "node:assert/strict";
import { existsSync } from "node:fs";

import { until } from "./lib/daemon.mjs";
import { Home } from "./lib/home.mjs";
import { journey } from "./lib/stage.mjs";

const COUNT = "SELECT count(*) FROM items";

// A shop with two backups: of 20 rows, and of 30; the file has 31 now.
async function changed(options) {
  const home = await Home.withShop(options);
  const add = (rows) => home.sqlite("shop.db", `WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT ${rows}) INSERT INTO items (name) SELECT 'new' FROM n`);
  await add(10);
  await home.copal("backup", "shop", "--quiet", "--label", "thirty");
  await add(1);
  const [first, second] = JSON.parse(await home.copal("list", "shop", "--json")).results;
  return { home, first, second };
}

const open = (stage, daemon, token, query = "") => stage.page(daemon, { token, path: `/#/databases/shop/restore${query}` });

journey("a backup is restored to another place, and the result of the check is shown", async (stage) => {
  const { home, first } = await changed();
  stage.with(home);
  const token = await home.token("operator");
  const daemon = stage.with(await home.serve());
  const page = await stage.page(daemon, { token, path: "/#/databases/shop" });
  await page.getByRole("button", { name: `Restore ${first.id}` }).click();
  const dialog = page.getByRole("dialog", { name: "Restore shop" });
  await dialog.getByRole("radio", { name: "Another place" }).check();
  const copy = home.path("copy.db");
  await dialog.getByRole("textbox", { name: "Place" }).fill(copy);
  await dialog.getByText("nothing is there yet").waitFor();
  assert.ok(!existsSync(copy), "a plan changes nothing");
  await dialog.getByText("The same on the command line").click();
  const command = await dialog.locator("details code").innerText();
  await dialog.getByRole("button", { name: "Restore", exact: true }).click();
  await dialog.getByText("Restored and checked").waitFor();
  await dialog.getByRole("listitem").first().waitFor();
  assert.equal(await home.sqlite("copy.db", COUNT), "20");
  assert.equal(await home.sqlite("shop.db", COUNT), "31");

  // The command does what the dialog did.
  const other = command.replaceAll("copy.db", "other.db").replace(/^copal /, '"$COPAL" ');
  await home.run("env", [`COPAL=${process.env.COPAL}`, "sh", "-c", other]);
  assert.equal(await home.sqlite("other.db", COUNT), "20");
  await dialog.getByRole("button", { name: "Close" }).click();
  await dialog.waitFor({ state: "detached" });
  assert.match(page.url(), /#\/databases\/shop$/);
});

journey("a database is replaced when its name was typed, and not before", async (stage) => {
  const { home, second } = await changed();
  stage.with(home);
  const token = await home.token("admin");
  const daemon = stage.with(await home.serve());
  const page = await open(stage, daemon, token);
  const dialog = page.getByRole("dialog");
  await dialog.getByText("a database, which is replaced").waitFor();
  await dialog.getByText(second.id).first().waitFor();
  const act = dialog.getByRole("button", { name: "Replace and restore" });
  const field = dialog.getByLabel(/Type shop to confirm/);
  await field.waitFor();
  assert.ok(await act.isDisabled());
  for (const wrong of ["sho", "Shop", "shop ", "shop1"]) {
    await field.fill(wrong);
    assert.ok(await act.isDisabled(), wrong);
    await field.press("Enter");
  }
  assert.deepEqual((await daemon.get("/api/runs", token)).runs, []);
  await field.fill("shop");
  await act.click();
  await dialog.getByText("Restored and checked").waitFor();
  assert.equal(await home.sqlite("shop.db", COUNT), "30");
});

journey("a target that somebody else made meanwhile is not replaced", async (stage) => {
  const { home } = await changed();
  stage.with(home);
  const token = await home.token("operator");
  const daemon = stage.with(await home.serve());
  const page = await open(stage, daemon, token);
  const dialog = page.getByRole("dialog");
  // Over the original: not with this role, and it says so.
  const act = dialog.getByRole("button", { name: "Replace and restore" });
  await dialog.getByLabel(/Type shop to confirm/).fill("shop");
  assert.ok(await act.isDisabled());
  // The reason shows with the focus.
  await act.focus();
  await dialog.getByText(/role admin/).first().waitFor();

  await dialog.getByRole("radio", { name: "Another place" }).check();
  await dialog.getByRole("textbox", { name: "Place" }).fill(`sqlite:${home.path("copy.db")}`);
  await dialog.getByText("nothing is there yet").waitFor();
  await home.sqlite("copy.db", "CREATE TABLE mine (id)");
  await dialog.getByRole("button", { name: "Restore", exact: true }).click();
  await dialog.getByRole("status").getByText(/copy\.db exists/).waitFor();
  assert.equal(await home.sqlite("copy.db", "SELECT name FROM sqlite_schema"), "mine");
});

journey("a place that makes no sense is a problem of the plan", async (stage) => {
  const { home } = await changed();
  stage.with(home);
  const token = await home.token("admin");
  const daemon = stage.with(await home.serve());
  const page = await open(stage, daemon, token);
  const dialog = page.getByRole("dialog");
  await dialog.getByRole("radio", { name: "Another place" }).check();
  const act = dialog.getByRole("button", { name: /restore/i });
  for (const [place, said] of [["copy.db", /absolute/], [home.path("nowhere", "deep", "copy.db"), /./], ["sqlite:///x.db", /absolute/]]) {
    await dialog.getByRole("textbox", { name: "Place" }).fill(place);
    await dialog.locator(".plan-place").getByText(said).first().waitFor();
    if (said.source !== ".") assert.ok(await act.last().isDisabled(), place);
  }
});

journey("a restore is cancelled in the middle, and the database is what it was", async (stage) => {
  const { home } = await changed({ top: 'database_wait = "10m"' });
  stage.with(home);
  const token = await home.token("admin");
  const daemon = stage.with(await home.serve());
  const page = await open(stage, daemon, token);
  const dialog = page.getByRole("dialog");
  await dialog.getByLabel(/Type shop to confirm/).fill("shop");
  // Whoever holds the database keeps the restore from taking its place.
  const holder = await home.hold("shop.db");
  await dialog.getByRole("button", { name: "Replace and restore" }).click();
  await dialog.getByRole("progressbar", { name: "Restore of shop" }).waitFor();
  // Closed and found again among the runs.
  await dialog.getByRole("button", { name: "Close" }).click();
  await page.getByText("The restore of shop goes on.").waitFor();
  await page.getByRole("link", { name: /^Run \d+$/ }).click();
  await page.getByRole("heading", { level: 1, name: "Restore of shop" }).waitFor();
  await page.getByRole("button", { name: "Cancel: Restore of shop" }).click();
  await page.getByRole("status").getByText("cancelled").waitFor();
  await holder.release();
  assert.equal(await home.sqlite("shop.db", COUNT), "31");
  assert.equal(await home.sqlite("shop.db", "PRAGMA integrity_check"), "ok");
});

journey("the keyboard suffices: tab, enter and escape in the dialog", async (stage) => {
  const { home } = await changed();
  stage.with(home);
  const token = await home.token("admin");
  const daemon = stage.with(await home.serve());
  const page = await stage.page(daemon, { token, path: "/#/databases/shop" });
  const opener = page.getByRole("button", { name: "Restore", exact: true });
  await opener.waitFor();
  // Tab from the top gets there; what has the focus shows it.
  const focused = () => page.evaluate(() => document.activeElement.innerText?.trim() || document.activeElement.value);
  for (let step = 0; step < 40 && (await focused()) !== "Restore"; step += 1) await page.keyboard.press("Tab");
  assert.equal(await focused(), "Restore");
  assert.notEqual(await page.evaluate(() => getComputedStyle(document.activeElement).outlineStyle), "none");
  await page.keyboard.press("Enter");
  const dialog = page.getByRole("dialog");
  await dialog.waitFor();

  const isInside = () => page.evaluate(() => document.querySelector("dialog").contains(document.activeElement) || document.activeElement === document.body);
  await dialog.getByText("a database, which is replaced").waitFor();
  const reached = new Set();
  for (let step = 0; step < 20; step += 1) {
    await page.keyboard.press("Tab");
    assert.ok(await isInside(), "the focus stays in the dialog");
    reached.add(await page.evaluate(() => document.activeElement.tagName));
  }
  assert.ok(reached.has("BUTTON") && reached.has("INPUT") && reached.has("SELECT"), [...reached].join());
  await page.keyboard.press("Escape");
  await dialog.waitFor({ state: "detached" });
  assert.match(page.url(), /#\/databases\/shop$/);
  await until("the focus is where it was", async () => (await focused()) === "Restore");

  // And a whole restore, without a mouse.
  await page.keyboard.press("Enter");
  const field = dialog.getByLabel(/Type shop to confirm/);
  await field.waitFor();
  for (let step = 0; step < 20 && !(await field.evaluate((one) => one === document.activeElement)); step += 1) await page.keyboard.press("Tab");
  await page.keyboard.type("shop");
  await page.keyboard.press("Enter");
  await dialog.getByText("Restored and checked").waitFor();
  assert.equal(await home.sqlite("shop.db", COUNT), "30");
});

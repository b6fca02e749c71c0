// What a role may not do is shown, cannot be done, and says why.

import assert from "node:assert/strict";

import { Home } from "./lib/home.mjs";
import { journey } from "./lib/stage.mjs";

async function served(stage, options) {
  const home = stage.with(await Home.withShop(options));
  await home.copal("snap", "before-import", "-d", "shop", "--quiet");
  const [{ id }] = JSON.parse(await home.copal("list", "shop", "--json")).results;
  return { home, id };
}

// Clicks what is off in spite of that, as a script or a stray Enter could.
async function press(button) {
  await button.evaluate((one) => one.click());
  await button.focus();
  await button.press("Enter");
}

async function reasonOf(button) {
  assert.ok(await button.isDisabled());
  return button.evaluate((one) => document.getElementById(one.getAttribute("aria-describedby")).textContent);
}

const named = (page, name) => page.getByRole("button", { name, exact: true });

journey("viewers look", async (stage) => {
  const { home, id } = await served(stage);
  const token = await home.token("viewer");
  const daemon = stage.with(await home.serve());
  const page = await stage.page(daemon, { token, path: "/#/databases/shop" });
  const requests = [];
  page.on("request", (request) => request.method() !== "GET" && requests.push(request.url()));
  await named(page, `Pin ${id}`).waitFor();
  await named(page, "Rewind to before-import").waitFor();
  for (const name of ["Back up now", "Verify", "Drill", "Restore", `Restore ${id}`, `Verify ${id}`, `Pin ${id}`, "Take a snapshot"]) {
    assert.match(await reasonOf(named(page, name)), /needs the role operator; you have viewer/, name);
    await press(named(page, name));
  }
  for (const name of ["Rewind to before-import", "Remove before-import"]) {
    assert.match(await reasonOf(named(page, name)), /needs the role admin; you have viewer/, name);
    await press(named(page, name));
  }
  assert.equal(await page.getByRole("dialog").count(), 0);
  assert.deepEqual(requests, []);
  await page.goto("/#/repository");
  await page.getByRole("row", { name: /shop/ }).waitFor();
});

journey("operators back up, and do not replace", async (stage) => {
  const { home, id } = await served(stage);
  const token = await home.token("operator");
  const daemon = stage.with(await home.serve());
  const page = await stage.page(daemon, { token, path: "/#/databases/shop" });
  await named(page, "Rewind to before-import").waitFor();
  for (const name of ["Back up now", "Verify", "Drill", "Restore", `Restore ${id}`, `Pin ${id}`, "Take a snapshot"]) {
    assert.ok(await named(page, name).isEnabled(), name);
  }
  for (const name of ["Rewind to before-import", "Remove before-import"]) {
    assert.match(await reasonOf(named(page, name)), /needs the role admin; you have operator/, name);
  }
});

journey("without any token, whoever is on this machine does not restore", async (stage) => {
  const { home, id } = await served(stage);
  const daemon = stage.with(await home.serve());
  const page = await stage.page(daemon, { path: "/#/databases/shop" });
  await named(page, `Restore ${id}`).waitFor();
  assert.ok(await named(page, "Back up now").isEnabled());
  assert.match(await reasonOf(named(page, "Restore")), /needs a token/);
  assert.equal(await named(page, "Sign out").count(), 0);
});

// The first start: from nothing to a database that is backed up and was restored to prove it.

import assert from "node:assert/strict";
import { readdir, stat } from "node:fs/promises";

import { Daemon } from "./lib/daemon.mjs";
import { Home } from "./lib/home.mjs";
import { journey } from "./lib/stage.mjs";

const PASSPHRASE = "correct horse battery";

const next = (page, name) => page.getByRole("button", { name, exact: true }).click();
const files = async (home) => (await readdir(home.folder, { recursive: true })).filter((name) => !/^(serve-|tmp)/.test(name)).sort();

journey("from nothing to a backup that was restored and checked", async (stage) => {
  const home = stage.with(await Home.create());
  await home.database("data/shop.db", 50);
  await home.database("data/it's \"quoted\".db", 5);
  await home.write("data/notes.txt", "no database\n");
  const daemon = stage.with(await Daemon.startFirst(home));
  const code = new URL(daemon.start).hash.split("code=")[1];

  // Without the code, or with another one, nothing is told and nothing can be done.
  const page = await stage.page(daemon);
  await page.getByRole("heading", { name: "Protect your databases" }).waitFor();
  await page.getByLabel("Code").fill("ABCD-EFGH-JKLM");
  await next(page, "Go on");
  await page.getByRole("alert").getByText("This code is not right").waitFor();
  assert.equal((await fetch(`${daemon.url}/api/setup`)).status, 401);
  assert.equal((await fetch(`${daemon.url}/api/overview`)).status, 503);
  await page.getByLabel("Code").fill(code);
  await next(page, "Go on");

  await page.getByLabel("Look for databases in").fill(home.path("data"));
  await next(page, "Look");
  await page.getByRole("checkbox", { name: /shop\.db/ }).check();
  await page.getByRole("checkbox", { name: /quoted/ }).check();
  assert.equal(await page.getByText("notes.txt").count(), 0);
  await page.getByRole("heading", { name: "2 databases will be protected" }).waitFor();
  await next(page, "Next: where to");

  await page.getByLabel("Passphrase", { exact: true }).fill(PASSPHRASE);
  await page.getByLabel("Passphrase again").fill("something else");
  const on = page.getByRole("button", { name: "Next: go" });
  assert.ok(await on.isDisabled(), "the passphrases differ");
  await page.getByLabel("Passphrase again").fill(PASSPHRASE);
  await on.click();
  assert.deepEqual((await files(home)).filter((name) => /toml|repository|passphrase/.test(name)), [], "nothing is written before the last step");
  await next(page, "Protect them");

  await page.getByRole("heading", { name: "It is written" }).waitFor();
  const token = (await page.locator("section[aria-labelledby=written] code").first().innerText()).trim();
  await page.getByText("Restored and checked: it works").waitFor();
  const configuration = (await files(home)).find((name) => /copal\.toml$/.test(name));
  assert.doesNotMatch(await home.read(configuration), new RegExp(PASSPHRASE));
  const secret = (await files(home)).find((name) => /passphrase/.test(name));
  assert.equal((await stat(home.path(secret))).mode & 0o777, 0o600);
  assert.equal((await home.read(secret)).trim(), PASSPHRASE);
  assert.doesNotMatch(daemon.log(), new RegExp(`${PASSPHRASE}|${token}`));

  await page.getByRole("link", { name: "To the overview" }).click();
  await page.getByRole("heading", { name: /2 databases, all protected/ }).waitFor();
  // The token is good for programs, and the file for the command line.
  assert.equal((await daemon.get("/api/overview", token)).summary.protected, 2);
  const { results } = JSON.parse(await home.copal("--config", configuration, "list", "--json"));
  assert.deepEqual(results.map(({ verified }) => verified).sort(), [false, true]);
  assert.equal((await fetch(`${daemon.url}/api/setup`, { headers: { "X-Copal-Setup": code } })).ok, false, "the code is used up");
  await page.goto(`/#/start?code=${code}`);
  await page.getByText("Copal is set up already.").waitFor();
});

journey("what cannot be protected is said, and nothing is left behind", async (stage) => {
  const home = stage.with(await Home.create());
  await home.write("data/notes.txt", "no database\n");
  const before = await files(home);
  const daemon = stage.with(await Daemon.startFirst(home));
  const page = await stage.page(daemon, { path: daemon.start });
  await page.getByLabel("Look for databases in").fill(home.path("data"));
  await next(page, "Look");
  await page.getByText(/No database was found|0 files/).waitFor();
  assert.ok(await page.getByRole("button", { name: "Next: where to" }).isDisabled());
  await page.getByLabel("Or name one").fill(`sqlite:${home.path("data/nowhere.db")}`);
  await next(page, "Add");
  await page.getByRole("textbox", { name: "Name", exact: true }).fill("No Name!");
  assert.ok(await page.getByRole("button", { name: "Next: where to" }).isDisabled());
  await page.getByRole("textbox", { name: "Name", exact: true }).fill("nowhere");
  await next(page, "Next: where to");
  await page.getByRole("checkbox", { name: /Encrypt/ }).uncheck();
  await page.getByText("Whoever can read the repository can then read your data.").waitFor();
  await next(page, "Next: go");
  await next(page, "Protect them");
  await page.getByRole("alert").getByText("Nothing was written").waitFor();
  await page.getByRole("alert").getByText(/nowhere/).first().waitFor();
  assert.deepEqual((await files(home)).filter((name) => !name.startsWith("state")), before.filter((name) => !name.startsWith("state")));

  // Made good, it goes on from there.
  await home.database("data/nowhere.db");
  await next(page, "Protect them");
  await page.getByText("Restored and checked: it works").waitFor();
});

// Signing in and out.

import assert from "node:assert/strict";

import { Home } from "./lib/home.mjs";
import { journey } from "./lib/stage.mjs";

async function signIn(page, token) {
  await page.getByLabel("Token").fill(token);
  await page.getByRole("button", { name: "Sign in" }).click();
}

journey("a token signs in, and leads to the page that was asked for", async (stage) => {
  const home = stage.with(await Home.withShop());
  const token = await home.token("operator", "anna");
  const daemon = stage.with(await home.serve());
  const page = await stage.page(daemon, { path: "/#/databases/shop" });
  await page.getByRole("heading", { name: "Sign in" }).waitFor();
  assert.equal(await page.getByText("shop").count(), 0, "nothing is told before");

  await signIn(page, "not-a-token");
  await page.getByRole("alert").getByText("this token is not known", { exact: false }).waitFor();
  assert.deepEqual(await page.context().cookies(), []);

  await signIn(page, token);
  await page.getByRole("heading", { level: 1, name: "shop" }).waitFor();
  assert.match(page.url(), /#\/databases\/shop$/);
  await page.getByText("anna").waitFor();
  const [cookie, ...others] = await page.context().cookies();
  assert.deepEqual(others, []);
  assert.deepEqual([cookie.name, cookie.httpOnly, cookie.sameSite, cookie.path], ["copal_session", true, "Strict", "/"]);
  assert.equal(await page.evaluate(() => document.cookie + JSON.stringify({ ...localStorage, ...sessionStorage })), "{}");

  // A reload keeps the session; signing out ends it, for the cookie as well.
  await page.reload();
  await page.getByRole("heading", { level: 1, name: "shop" }).waitFor();
  await page.getByRole("button", { name: "Sign out" }).click();
  await page.getByRole("heading", { name: "Sign in" }).waitFor();
  assert.equal(await page.getByRole("link", { name: "shop" }).count(), 0);
  const headers = { cookie: `copal_session=${cookie.value}` };
  assert.equal((await fetch(`${daemon.url}/api/overview`, { headers })).status, 401);
});

journey("a token that is removed ends its session", async (stage) => {
  const home = stage.with(await Home.withShop());
  await home.token("viewer", "stays");
  const token = await home.token("viewer", "goes");
  const daemon = stage.with(await home.serve());
  const page = await stage.page(daemon, { token });
  await page.getByRole("link", { name: "shop" }).first().waitFor();
  await home.copal("token", "remove", "goes");
  // The stream of events ends with it, and the page asks who is signed in.
  await page.getByRole("heading", { name: "Sign in" }).waitFor();
  assert.equal(await page.getByRole("link", { name: "shop" }).count(), 0);
});

journey("a form that a password manager understands", async (stage) => {
  const home = stage.with(await Home.withShop());
  const token = await home.token("admin");
  const daemon = stage.with(await home.serve());
  const page = await stage.page(daemon);
  const field = page.getByLabel("Token");
  await field.waitFor();
  assert.deepEqual(await field.evaluate((one) => [one.type, one === document.activeElement]), ["password", true]);
  await page.keyboard.type(token);
  await page.keyboard.press("Enter");
  await page.getByRole("link", { name: "shop" }).first().waitFor();
});

// A daemon that goes away and comes back.

import assert from "node:assert/strict";

import { until } from "./lib/daemon.mjs";
import { Home } from "./lib/home.mjs";
import { journey } from "./lib/stage.mjs";

const serveAgain = (home, port) => home.serve(["--config", "copal.toml", "--listen", `127.0.0.1:${port}`]);

journey("a lost daemon is told, and what it says afterwards is shown without a reload", async (stage) => {
  const home = stage.with(await Home.withShop());
  const first = await home.serve();
  const page = await stage.page(first);
  await page.getByRole("row", { name: /shop/ }).waitFor();
  await page.evaluate(() => (window.wasNotLoadedAnew = true));
  const banner = page.getByText(/not live since/i);
  assert.equal(await banner.count(), 0);

  await first.stop("SIGKILL");
  await banner.waitFor();
  await home.database("crm.db");
  await home.configure({ shop: 'url = "sqlite:shop.db"', crm: 'url = "sqlite:crm.db"' });
  stage.with(await serveAgain(home, first.port));
  await page.getByRole("button", { name: "Try now" }).click({ timeout: 2000 }).catch(() => {}); // It may have come back by itself.
  await banner.waitFor({ state: "detached" });
  await page.getByRole("row", { name: /crm/ }).waitFor();
  assert.equal(await page.evaluate(() => window.wasNotLoadedAnew), true);
});

journey("sessions end with the daemon, and signing in anew leads back", async (stage) => {
  const home = stage.with(await Home.withShop());
  const token = await home.token("viewer");
  const first = await home.serve();
  const page = await stage.page(first, { token, path: "/#/runs" });
  await page.getByRole("heading", { level: 1, name: "Runs" }).waitFor();
  await first.stop("SIGKILL");
  stage.with(await serveAgain(home, first.port));
  await page.getByRole("heading", { name: "Sign in" }).waitFor();
  await page.getByLabel("Token").fill(token);
  await page.keyboard.press("Enter");
  await page.getByRole("heading", { level: 1, name: "Runs" }).waitFor();
});

journey("an action in vain says why, and can be tried again", async (stage) => {
  const home = stage.with(await Home.withShop());
  const daemon = await home.serve();
  const page = await stage.page(daemon, { path: "/#/databases/shop" });
  const act = page.getByRole("button", { name: "Back up now" });
  await act.waitFor();
  await daemon.stop("SIGKILL");
  await act.click();
  await page.getByRole("alert").getByText(/copal does not answer/i).first().waitFor();
  const again = stage.with(await serveAgain(home, daemon.port));
  await until("the backup was made", async () => {
    await act.click({ timeout: 5000 }).catch(() => {});
    return (await again.get("/api/runs")).runs.some((run) => run.ending === "success");
  });
});

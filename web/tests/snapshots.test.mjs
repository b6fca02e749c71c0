// Snapshots: taken, rewound to, removed.

import assert from "node:assert/strict";

import { Home } from "./lib/home.mjs";
import { journey } from "./lib/stage.mjs";

const named = (page, name) => page.getByRole("button", { name, exact: true });
const COUNT = "SELECT count(*) FROM items";

journey("a snapshot is taken, rewound to and removed", async (stage) => {
  const home = stage.with(await Home.withShop());
  const token = await home.token("admin");
  const daemon = stage.with(await home.serve());
  const page = await stage.page(daemon, { token, path: "/#/databases/shop" });
  await page.getByLabel("Name of a new snapshot").fill("before import");
  await named(page, "Take a snapshot").click();
  await named(page, "Rewind to before import").waitFor();
  assert.match(await home.copal("snaps"), /before import/);
  await home.sqlite("shop.db", "DELETE FROM items");

  await named(page, "Rewind to before import").click();
  const rewind = page.getByRole("dialog", { name: "Rewind to a snapshot" });
  const act = rewind.getByRole("button", { name: "Rewind", exact: true });
  await act.waitFor();
  assert.ok(await act.isDisabled());
  await rewind.getByLabel(/Type shop to confirm/).fill("before import");
  assert.ok(await act.isDisabled(), "it is the database's name that is asked for");
  await rewind.getByLabel(/Type shop to confirm/).fill("shop");
  await act.click();
  await rewind.getByText("Rewound").waitFor();
  assert.equal(await home.sqlite("shop.db", COUNT), "20");
  assert.equal((await daemon.ran(token, ({ kind }) => kind === "rewind")).ending, "success");
  await rewind.getByRole("button", { name: "Close" }).click();

  await named(page, "Remove before import").click();
  const remove = page.getByRole("dialog", { name: "Remove a snapshot" });
  const gone = remove.getByRole("button", { name: "Remove", exact: true });
  assert.ok(await gone.isDisabled());
  await remove.getByLabel(/Type before import to confirm/).fill("before import");
  await gone.click();
  await named(page, "Rewind to before import").waitFor({ state: "detached" });
  assert.doesNotMatch(await home.copal("snaps"), /before import/);
  assert.equal(await home.sqlite("shop.db", COUNT), "20");
});

journey("a rewind that fails says why and changes nothing", async (stage) => {
  const home = stage.with(await Home.withShop({ top: 'database_wait = "1s"' }));
  await home.copal("snap", "clean", "-d", "shop", "--quiet");
  const token = await home.token("admin");
  const daemon = stage.with(await home.serve());
  const page = await stage.page(daemon, { token, path: "/#/databases/shop" });
  await home.sqlite("shop.db", "DELETE FROM items WHERE id > 5");
  await named(page, "Rewind to clean").click();
  const dialog = page.getByRole("dialog");
  await dialog.getByLabel(/Type shop to confirm/).fill("shop");
  const holder = await home.hold("shop.db");
  await dialog.getByRole("button", { name: "Rewind", exact: true }).click();
  await dialog.getByRole("status").getByText("failed").waitFor();
  await dialog.getByText(/open in|in use|lock|busy/i).first().waitFor();
  await holder.release();
  assert.equal(await home.sqlite("shop.db", COUNT), "5");
});

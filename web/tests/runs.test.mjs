// Runs, their logs, and notifiers.

import assert from "node:assert/strict";
import { createServer } from "node:http";
import { once } from "node:events";

import { Home } from "./lib/home.mjs";
import { journey } from "./lib/stage.mjs";

journey("runs are listed, filtered and explained by their logs", async (stage) => {
  const home = stage.with(await Home.withShop({ others: { crm: 'url = "sqlite:crm.db"\nretries = 0' } }));
  const daemon = stage.with(await home.serve());
  const page = await stage.page(daemon, { path: "/#/runs" });
  await page.getByText("Nothing ran that is like this.").waitFor();
  await daemon.post("/api/databases/crm/backup");
  const failed = await daemon.ran(undefined, ({ database }) => database === "crm");
  await daemon.post("/api/databases/shop/backup");
  const made = await daemon.ran(undefined, ({ database }) => database === "shop");
  await daemon.post("/api/databases/shop/drill");
  const drill = await daemon.ran(undefined, ({ kind }) => kind === "drill");

  const table = page.getByRole("table", { name: "Runs" }).last();
  for (const { id } of [failed, made, drill]) await table.getByRole("row", { name: new RegExp(`${id}`) }).waitFor();
  await page.getByLabel("Kind").selectOption("drill");
  await table.getByRole("row", { name: new RegExp(`${made.id}`) }).waitFor({ state: "detached" });
  await table.getByRole("row", { name: new RegExp(`${drill.id}`) }).waitFor();
  await page.getByLabel("Kind").selectOption("");
  await page.getByRole("checkbox", { name: "Failed only" }).check();
  await table.getByRole("row", { name: new RegExp(`${made.id}`) }).waitFor({ state: "detached" });
  await table.getByRole("row", { name: new RegExp(`${failed.id}`) }).getByText(failed.error.message).waitFor();
  assert.match(page.url(), /failed=true/);

  await table.getByRole("link", { name: new RegExp(`${failed.id}`) }).click();
  await page.getByRole("heading", { level: 1, name: "Backup of crm" }).waitFor();
  const log = page.getByRole("list", { name: "Log" });
  await log.getByText("error", { exact: false }).first().waitFor();
  await log.getByText("crm.db", { exact: false }).first().waitFor();
  await page.goto(`/#/runs/${drill.id}`);
  await log.getByText("checked", { exact: false }).first().waitFor();
  await page.goto("/#/runs/1");
  await page.getByText("There is no such run.").waitFor();
});

journey("a notifier is tried, and how that went is told", async (stage) => {
  const got = [];
  let status = 204;
  const receiver = createServer(async (request, response) => {
    let body = "";
    for await (const chunk of request) body += chunk;
    got.push(JSON.parse(body));
    response.writeHead(status).end();
  }).listen(0, "127.0.0.1");
  await once(receiver, "listening");
  stage.closing.push(() => new Promise((resolve) => receiver.close(resolve).closeAllConnections()));
  const more = `[notify.ops]\nwebhook = "http://127.0.0.1:${receiver.address().port}/hook"`;
  const home = stage.with(await Home.withShop({ more, shop: 'notify = ["ops"]\nretries = 0' }));
  const daemon = stage.with(await home.serve());
  const page = await stage.page(daemon, { path: "/#/notifications" });
  const act = page.getByRole("button", { name: "Send a test to ops" });
  await act.click();
  await page.getByRole("cell").getByText(/delivered$/).waitFor();
  assert.deepEqual(got.map(({ event }) => event), ["test"]);

  status = 403;
  await act.click();
  await page.getByRole("alert").getByText(/403/).waitFor();
  assert.equal(got.length, 2);

  // A notice that is refused is on the page as well.
  await home.run("mv", ["shop.db", "away.db"]);
  await daemon.post("/api/databases/shop/backup");
  await page.getByRole("row", { name: /ops/ }).getByText(/403/).last().waitFor();
  await page.getByRole("heading", { name: /1 notifier, which could not deliver last/ }).waitFor();
  assert.ok(got.some(({ event, database }) => event === "failure" && database === "shop"));
});

journey("that nobody is told of failures is said", async (stage) => {
  const home = stage.with(await Home.withShop());
  const daemon = stage.with(await home.serve());
  const page = await stage.page(daemon, { path: "/#/notifications" });
  await page.getByRole("heading", { name: "Nobody is told when something goes wrong" }).waitFor();
});

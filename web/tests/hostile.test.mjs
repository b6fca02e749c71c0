// Names, labels and errors that would like to be something else stay text, wherever they are shown.

import assert from "node:assert/strict";

import { assertNoOverflow } from "./lib/checks.mjs";
import { Home, toml } from "./lib/home.mjs";
import { settled } from "./lib/screens.mjs";
import { journey } from "./lib/stage.mjs";

const IMAGE = '<img src=x onerror="window.wasHere=1">';
const NAMES = [
  IMAGE,
  `"quotes" & 'more' </script><script>window.wasHere=1</script>`,
  "\u202eevil\u202c right to left مخزن",
  "x".repeat(200),
  "a/b?c#d%20e ${7*7} {{7*7}}",
  "__proto__",
];

// That a text is shown as it is, and that nothing of it was run or loaded.
async function assertHarmless(page, where) {
  assert.equal(await page.evaluate(() => window.wasHere), undefined, where);
  assert.equal(await page.locator('img[src="x"], img[onerror], script:not([src])').count(), 0, where);
  await assertNoOverflow(page, where);
}

journey("hostile names are text everywhere", async (stage) => {
  const home = stage.with(await Home.create());
  // One of them has a file that is not there, with a name that its error tells.
  const files = NAMES.map((_, index) => (index === 1 ? `${IMAGE}.db` : `data-${index}.db`));
  for (const [index, file] of files.entries()) if (index !== 1) await home.database(file);
  const databases = Object.fromEntries(NAMES.map((name, index) => [name, `url = ${toml(`sqlite:${files[index]}`)}\nretries = 0`]));
  await home.configure(databases, { more: `[notify.${toml(IMAGE)}]\nexec = ["false"]` });
  await home.copal("init", "--no-encrypt");
  for (const name of NAMES.filter((_, index) => index !== 1)) await home.copal("backup", name, "--label", IMAGE, "--quiet");
  await home.copal("snap", IMAGE, "-d", NAMES[0], "--quiet");
  const token = await home.token("admin", "ops");
  const daemon = stage.with(await home.serve());
  for (const name of NAMES.slice(0, 3)) await daemon.post(`/api/databases/${encodeURIComponent(name)}/backup`, token);
  const failed = await daemon.ran(token, ({ database, error }) => database === NAMES[1] && error);

  const page = await stage.page(daemon, { token, width: 320, height: 640 });
  for (const width of [320, 1200]) {
    await page.setViewportSize({ width, height: 700 });
    await page.goto("/#/");
    for (const name of NAMES) await page.getByRole("link", { name, exact: true }).first().waitFor();
    await assertHarmless(page, `the overview at ${width}`);
    for (const name of NAMES) {
      const at = `/#/databases/${encodeURIComponent(name)}`;
      await page.goto(at);
      await page.getByRole("heading", { level: 1, name, exact: true }).waitFor();
      await settled(page);
      await assertHarmless(page, `${name} at ${width}`);
      if (name === NAMES[1]) continue;
      await page.getByText(IMAGE).first().waitFor(); // The label of its backup.
      await page.goto(`${at}/restore`);
      await page.getByLabel(/Type .* to confirm/).waitFor();
      await settled(page);
      await assertHarmless(page, `the restore of ${name} at ${width}`);
      await page.keyboard.press("Escape");
    }
    for (const [path, text] of [[`/#/runs/${failed.id}`, failed.error.message], ["/#/runs", failed.error.message], ["/#/repository", IMAGE], ["/#/notifications", IMAGE]]) {
      await page.goto(path);
      await page.getByText(text).first().waitFor();
      await settled(page);
      await assertHarmless(page, `${path} at ${width}`);
    }
  }
  // What is typed to confirm is the very name.
  await page.goto(`/#/databases/${encodeURIComponent(NAMES[0])}`);
  await page.getByRole("button", { name: `Remove ${IMAGE}`, exact: true }).click();
  await page.getByRole("dialog").getByLabel(/to confirm/).fill(IMAGE);
  await page.getByRole("dialog").getByRole("button", { name: "Remove", exact: true }).click();
  await page.getByText(`The snapshot ${IMAGE} was removed.`).waitFor();
  await assertHarmless(page, "the message at the bottom");
});

journey("hostile addresses are no pages", async (stage) => {
  const home = stage.with(await Home.withShop());
  const daemon = stage.with(await home.serve());
  const page = await stage.page(daemon);
  for (const hash of [
    `#/databases/${encodeURIComponent(IMAGE)}`,
    `#/runs/${encodeURIComponent(IMAGE)}`,
    `#/runs/..%2f..%2fapi`,
    `#/databases/%E0%A4%A`,
    `#/?search=${encodeURIComponent(IMAGE)}&sort=${encodeURIComponent(IMAGE)}&offset=-1`,
    `#/repository?sort=constructor&offset=1e9`,
    `#/${encodeURIComponent("javascript:alert(1)")}`,
    "#/constructor/__proto__",
  ]) {
    await page.goto(`/${hash}`);
    await page.getByRole("heading", { level: 1 }).waitFor();
    await settled(page);
    await assertHarmless(page, hash);
  }
});

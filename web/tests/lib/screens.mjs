// Every screen, how to get there, and what is there when it is whole.

import { until } from "./daemon.mjs";

// Nothing is on its way any more.
export async function settled(page) {
  await until("the screen is whole", () =>
    page.evaluate(() => {
      const waits = [...document.querySelectorAll(".loading, [aria-busy=true]")].some((one) => one.isConnected);
      return document.querySelector("h1, dialog[open] h2") && !waits && document.fonts.status === "loaded";
    }),
  );
}

// `run` is a run of the daemon. Dialogs are over the page that they belong to.
export const screens = (run) => [
  { name: "overview", path: "/#/", sees: (page) => page.getByRole("row", { name: /wiki/ }) },
  { name: "database", path: "/#/databases/shop", sees: (page) => page.getByRole("heading", { level: 1, name: "shop" }) },
  { name: "restore", path: "/#/databases/shop/restore", sees: (page) => page.getByRole("dialog") },
  { name: "repository", path: "/#/repository", sees: (page) => page.getByRole("row", { name: /metrics/ }) },
  { name: "runs", path: "/#/runs", sees: (page) => page.getByRole("row", { name: /shop/ }).first() },
  { name: "run", path: `/#/runs/${run}`, sees: (page) => page.getByRole("heading", { level: 1 }) },
  { name: "notifications", path: "/#/notifications", sees: (page) => page.getByText("ops") },
];

export async function show(page, screen) {
  await page.goto(screen.path);
  await screen.sees(page).first().waitFor();
  await settled(page);
}

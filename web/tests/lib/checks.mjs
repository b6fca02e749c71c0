// What holds for every screen: no horizontal scrolling, nothing that axe finds serious, valid HTML.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

import { HtmlValidate } from "html-validate";

const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

// The rules for what a browser makes of the page: it writes HTML in its own way, and that way is not judged.
const RULES = {
  extends: ["html-validate:standard"],
  rules: {
    "attribute-boolean-style": "off",
    "attribute-empty-style": "off",
    "doctype-style": "off",
    "no-inline-style": "off", // Through the object model, as the policy allows.
    "no-trailing-whitespace": "off",
    "long-title": "off", // A database may have a long name.
    "void-style": "off",
    "no-raw-characters": "off",
    "require-sri": "off", // All of it is from this server.
  },
};
const validator = new HtmlValidate(RULES);

export async function assertValidHtml(html, where) {
  const report = await validator.validateString(html);
  const found = report.results.flatMap((result) =>
    result.messages.map(({ ruleId, message, line, column }) => {
      const near = html.split("\n")[line - 1]?.slice(Math.max(0, column - 80), column + 160);
      return `${ruleId}: ${message}\n    ${near}`;
    }),
  );
  assert.deepEqual([...new Set(found)], [], `${where} is not valid HTML`);
}

export async function assertNoOverflow(page, where) {
  const found = await page.evaluate(() => {
    const wide = document.documentElement.scrollWidth;
    if (wide <= window.innerWidth) return null;
    const beyond = [...document.body.querySelectorAll("*")].filter((one) => one.getBoundingClientRect().right > window.innerWidth + 1);
    const shown = beyond.slice(0, 8).map((one) => one.outerHTML.slice(0, 120));
    return `${wide} > ${window.innerWidth}: ${shown.join("\n")}`;
  });
  assert.equal(found, null, `${where} is wider than its window`);
}

export async function assertAccessible(page, where) {
  // The driver's own evaluation is not subject to the page's policy.
  await page.evaluate(AXE);
  const found = await page.evaluate(async () => {
    const { violations } = await window.axe.run(document, { resultTypes: ["violations"] });
    return violations
      .filter(({ impact }) => impact === "serious" || impact === "critical")
      .map(({ id, help, nodes }) => {
        const shown = nodes.slice(0, 5).map((node) => `${node.html.slice(0, 200)} ${node.failureSummary}`);
        return `${id}: ${help}\n    ${shown.join("\n    ")}`;
      });
  });
  assert.deepEqual(found, [], `${where} keeps somebody out`);
}

export const outerHtml = async (page) => `<!doctype html>\n${await page.evaluate(() => document.documentElement.outerHTML)}`;

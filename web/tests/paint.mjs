// Opens a page again and again, each time as somebody who was never there, and prints what it took as JSON:
//   node paint.mjs URL ROWS TIMES
// `first`: the first contentful paint; `rows`: so many rows of a table were painted; both in milliseconds from the navigation on.
// `files`: bytes that went over the wire for the page's own files, with their headers; `all`: for everything until then.

import { launch } from "./lib/browser.mjs";

const [url, rows, times] = process.argv.slice(2);

// Two frames after the rows are there they have been painted.
const NOTE = (rows) => {
  const look = () => {
    if (document.querySelectorAll("tbody tr").length < rows) return;
    observer.disconnect();
    requestAnimationFrame(() => requestAnimationFrame(() => (window.rowsPainted = performance.now())));
  };
  const observer = new MutationObserver(look);
  observer.observe(document, { childList: true, subtree: true });
};

async function open(browser) {
  const context = await browser.newContext({ viewport: { width: 1200, height: 800 } });
  const page = await context.newPage();
  const wire = await context.newCDPSession(page);
  await wire.send("Network.enable");
  const paths = new Map();
  const bytes = { files: 0, all: 0 };
  wire.on("Network.requestWillBeSent", ({ requestId, request }) => paths.set(requestId, new URL(request.url).pathname));
  wire.on("Network.loadingFinished", ({ requestId, encodedDataLength }) => {
    bytes.all += encodedDataLength;
    if (!paths.get(requestId)?.startsWith("/api/")) bytes.files += encodedDataLength;
  });
  await page.addInitScript(NOTE, Number(rows));
  await page.goto(url);
  await page.waitForFunction(() => window.rowsPainted, null, { timeout: 60_000 });
  const took = await page.evaluate(() => ({
    rows: window.rowsPainted,
    first: performance.getEntriesByName("first-contentful-paint")[0]?.startTime ?? null,
  }));
  await context.close();
  return { ...took, ...bytes };
}

const browser = await launch();
try {
  await open(browser); // The browser's own beginning is not the page's.
  const found = [];
  for (let time = 0; time < Number(times); time += 1) found.push(await open(browser));
  console.log(JSON.stringify(found));
} finally {
  await browser.close();
}

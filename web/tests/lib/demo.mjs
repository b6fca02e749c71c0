// A daemon with something of everything, for the screens: databases that do well and one that does not, runs, a snapshot, notifiers.

import { COPAL, Home } from "./home.mjs";

const DAY = 86_400_000;

// Rows, and what each day adds to them.
const DATABASES = {
  auth: [400, 10],
  billing: [3000, 60],
  crm: [1500, 40],
  forum: [6000, 300],
  metrics: [9000, 900],
  photos: [700, 15],
  shop: [2500, 120],
};
const RULES = 'schedule = "0 3 * * *"\nkeep = { last = 5, daily = 7, weekly = 4, monthly = 6 }\nmax_age = "36h"\ndrill = "@weekly"\ncatch_up = false\nretries = 0\nnotify = ["ops", "chat"]\n';

export class Demo {
  // `days` of backups before now, which takes the program `faketime`; 0: two backups just now.
  static async create({ days = 0, receiver = "http://127.0.0.1:9/hook" } = {}) {
    const demo = new Demo();
    demo.home = await Home.create();
    const { home } = demo;
    for (const name of Object.keys(DATABASES)) await home.database(`data/${name}.db`, DATABASES[name][0]);
    const databases = Object.fromEntries(Object.keys(DATABASES).map((name) => [name, `url = "sqlite:data/${name}.db"\n${RULES}`]));
    databases.wiki = `url = "sqlite:data/wiki.db"\n${RULES}`;
    const more = `[notify.ops]\nwebhook = "${receiver}"\n[notify.chat]\nwebhook = "http://127.0.0.1:9/away"\n`;
    await home.configure(databases, { more, top: 'database_wait = "10m"' });
    await home.copal("init", "--no-encrypt");
    // Each backup follows a change, so that there is something to plot.
    const times = days ? Array.from({ length: days }, (_, day) => Date.now() - (days - 1 - day) * DAY - 2 * 3_600_000) : [0, 0];
    for (const [number, time] of times.entries()) {
      if (number) await Promise.all(Object.entries(DATABASES).map(([name, [, more]]) => demo.grow(name, more)));
      await demo.copal(time, "backup", ...Object.keys(DATABASES), "--quiet", ...(number === times.length - 2 ? ["--label", "before 2.0"] : []));
    }
    for (const name of Object.keys(DATABASES)) await home.copal("verify", name, "--drill", "--quiet");
    await home.copal("snap", "before-import", "-d", "shop", "--quiet");
    await demo.record();
    return demo;
  }

  grow(name, rows) {
    return this.home.sqlite(
      `data/${name}.db`,
      `WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT ${rows})
       INSERT INTO items (name) SELECT hex(randomblob(60)) FROM n`,
    );
  }

  copal(time, ...args) {
    if (!time) return this.home.copal(...args);
    // Only what o'clock it is: files and waits keep their own time.
    const real = ["NO_FAKE_STAT=1", "FAKETIME_DONT_FAKE_MONOTONIC=1"];
    return this.home.run("env", [...real, "faketime", "-f", `@${new Date(time).toISOString().slice(0, 19).replace("T", " ")}`, COPAL, ...args]);
  }

  // A month of runs in the history, whose tables a daemon has made: those that made the backups, and some that failed.
  async record() {
    const daemon = await this.home.serve();
    await daemon.stop();
    const { results } = JSON.parse(await this.home.copal("list", "--json"));
    const runs = results.map(({ database, id, time, ...bytes }, index) => ({ database, id, at: Date.parse(time) + index, ...bytes }));
    for (const [index, database] of [...Object.keys(DATABASES), "wiki"].entries()) {
      const days = database === "wiki" ? [1, 2, 3] : [4 + ((index * 7) % 23)];
      for (const day of days) runs.push({ database, at: Date.now() - day * DAY + index, failed: 4 - day });
    }
    // The drill that verified the newest backup of each.
    for (const [index, database] of Object.keys(DATABASES).entries()) {
      const newest = runs.findLast((run) => run.database === database && run.id);
      runs.push({ ...newest, at: Date.now() - 3_600_000 - index * 1000, kind: "drill" });
    }
    const rows = runs.map(({ database, kind = "backup", id, at, failed, logical_bytes: logical, added_bytes: added, stored_bytes: stored }, index) => {
      const ending = id ? "'success', NULL, NULL" : `'permanent-failure', 'not-found', '${database} could not be opened: there is no such file'`;
      const made = id ? `'${id}', ${logical}, ${added}, ${stored}` : "NULL, NULL, NULL, NULL";
      return `(${at}, '${database}', '${kind}', 'scheduled', 1, ${at}, ${at}, ${at + 900}, ${ending}, ${700 + ((index * 37) % 400)}, ${id ? 0 : Math.max(1, failed)}, ${made}, 0, '[]', NULL)`;
    });
    await this.home.sqlite(
      "state/copal/history.sqlite",
      `INSERT INTO runs (id, database, kind, reason, attempt, due, started, ended, ending, error_kind, error, duration_ms,
         consecutive_failures, backup, logical_bytes, added_bytes, stored_bytes, damaged, warnings, target) VALUES ${rows.join(",\n")};
       INSERT OR REPLACE INTO lanes SELECT database, kind, max(id), max(id) FILTER (WHERE ending = 'success') FROM runs GROUP BY database, kind`,
    );
  }
}

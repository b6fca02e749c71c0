// A hermetic home: a temporary folder with real SQLite databases, a configuration, and `copal` run in it.

import { execFile, spawn } from "node:child_process";
import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";

import { Daemon } from "./daemon.mjs";

// What does not happen within this time does not happen, also where many others use the processors.
export const PATIENCE = 60_000;

export const COPAL = process.env.COPAL;

// A text as TOML has it; JSON's strings are TOML's, too.
export const toml = (text) => JSON.stringify(text);

export class Home {
  static async create() {
    if (!COPAL) throw new Error("COPAL must name the program; web/tests/run.sh does that");
    const home = new Home(await mkdtemp(join(tmpdir(), "copal-page-")));
    await mkdir(home.path("tmp"));
    return home;
  }

  constructor(folder) {
    this.folder = folder;
    this.holders = [];
    const kept = Object.entries(process.env).filter(([name]) => !/^(COPAL|AWS_|XDG_|NOTIFY_SOCKET|PG|NODE_)/.test(name));
    this.environment = {
      ...Object.fromEntries(kept),
      HOME: folder,
      XDG_STATE_HOME: this.path("state"),
      XDG_DATA_HOME: this.path("data"),
      XDG_CONFIG_HOME: this.path("config"),
      XDG_CACHE_HOME: this.path("cache"),
      TMPDIR: this.path("tmp"),
      LC_ALL: "C.UTF-8",
      TZ: "UTC",
    };
  }

  path(...parts) {
    return join(this.folder, ...parts);
  }

  async write(name, text) {
    await mkdir(dirname(this.path(name)), { recursive: true });
    await writeFile(this.path(name), text);
  }

  read(name) {
    return readFile(this.path(name), "utf8");
  }

  // What a program prints; an error that shows what it said if it does not succeed.
  run(program, args) {
    return new Promise((resolve, reject) => {
      const options = { cwd: this.folder, env: this.environment, maxBuffer: 1 << 26, timeout: 4 * PATIENCE };
      const child = execFile(program, args, options, (error, stdout, stderr) => {
        if (error) reject(new Error(`${program} ${args.join(" ")}: ${error.message}\n${stdout}${stderr}`));
        else resolve(stdout);
      });
      child.stdin.end();
    });
  }

  copal(...args) {
    return this.run(COPAL, args);
  }

  // Rows as text, without the line end.
  async sqlite(file, sql) {
    return (await this.run("sqlite3", [this.path(file), sql])).trimEnd();
  }

  // A database with `rows` rows of a table `items`.
  async database(file, rows = 20) {
    await mkdir(dirname(this.path(file)), { recursive: true });
    await this.sqlite(
      file,
      `CREATE TABLE items (id INTEGER PRIMARY KEY, name TEXT NOT NULL);
       WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT ${rows})
       INSERT INTO items (name) SELECT 'item ' || i FROM n`,
    );
  }

  // Writes copal.toml: what each database says by its name, and what stands beside.
  async configure(databases, { daemon = "", more = "", top = "" } = {}) {
    const tables = Object.entries(databases).map(([name, lines]) => `[databases.${toml(name)}]\n${lines}\n`);
    await this.write(
      "copal.toml",
      `timezone = "UTC"\n${top}\n[repository]\nurl = "repository"\n${tables.join("")}` +
        `[daemon]\nlisten = "127.0.0.1:0"\ngrace = "0s"\n${daemon}\n${more}\n`,
    );
  }

  // The common home: `shop` with one backup in a plain repository.
  static async withShop(options = {}) {
    const home = await Home.create();
    await home.database("shop.db");
    const { shop = "", others = {}, ...rest } = options;
    await home.configure({ shop: `url = "sqlite:shop.db"\n${shop}`, ...others }, rest);
    await home.copal("init", "--no-encrypt");
    await home.copal("backup", "shop", "--quiet");
    return home;
  }

  async token(role, name = role) {
    return (await this.copal("token", "add", name, "--role", role, "--quiet")).trim();
  }

  serve(args = ["--config", "copal.toml"]) {
    return Daemon.start(this, args);
  }

  // Holds a database's lock, so that whatever needs the database waits; `release` gives it back.
  async hold(file) {
    const child = spawn("sqlite3", ["-batch", this.path(file)], { stdio: ["pipe", "pipe", "inherit"], env: this.environment });
    const held = new Promise((resolve, reject) => {
      child.stdout.once("data", resolve);
      child.once("exit", () => reject(new Error(`${file} cannot be held`)));
    });
    child.stdin.write("PRAGMA journal_mode = DELETE; BEGIN EXCLUSIVE; SELECT 'held';\n");
    await held;
    const holder = {
      release: () =>
        new Promise((resolve) => {
          this.holders = this.holders.filter((other) => other !== holder);
          if (child.exitCode !== null) return resolve();
          child.once("exit", resolve);
          child.stdin.end("ROLLBACK;\n");
        }),
    };
    this.holders.push(holder);
    return holder;
  }

  async close() {
    for (const holder of [...this.holders]) await holder.release();
    await rm(this.folder, { recursive: true, force: true, maxRetries: 5 });
  }
}

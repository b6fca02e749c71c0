// A `copal serve` of its own on a free port.

import { spawn } from "node:child_process";
import { closeSync, openSync, readFileSync } from "node:fs";
import { setTimeout as pause } from "node:timers/promises";

import { COPAL, PATIENCE } from "./home.mjs";

// Everything that runs: killed if this process ends before it could stop them.
const running = new Set();
process.on("exit", () => running.forEach((child) => child.kill("SIGKILL")));

// Waits until a probe answers something true; an error shows what it answered last.
export async function until(what, probe, patience = PATIENCE) {
  const late = Date.now() + patience;
  for (;;) {
    let found;
    try {
      found = await probe();
    } catch (error) {
      found = undefined;
      if (Date.now() > late) throw new Error(`in vain: ${what}`, { cause: error });
    }
    if (found) return found;
    if (Date.now() > late) throw new Error(`in vain: ${what}: ${JSON.stringify(found)}`);
    await pause(40);
  }
}

export class Daemon {
  static async start(home, args) {
    const daemon = new Daemon(home, args);
    daemon.url = await daemon.said(/listening on (https?:\/\/\S+)/);
    return daemon;
  }

  // One that has nothing configured: it prints an address with a code.
  static async startFirst(home, args = ["--listen", "127.0.0.1:0"]) {
    const daemon = new Daemon(home, ["--setup", ...args]);
    daemon.start = await daemon.said(/(https?:\/\/\S+#\/start\?code=[A-Za-z0-9-]+)/);
    daemon.url = new URL(daemon.start).origin;
    return daemon;
  }

  constructor(home, args) {
    this.home = home;
    this.file = home.path(`serve-${Date.now()}.log`);
    const log = openSync(this.file, "a");
    const options = { cwd: home.folder, env: home.environment, stdio: ["ignore", log, log] };
    this.child = spawn(COPAL, ["serve", ...args], options);
    closeSync(log);
    running.add(this.child);
    this.ended = new Promise((resolve) => {
      this.child.once("exit", () => {
        running.delete(this.child);
        resolve();
      });
      this.child.once("error", () => resolve());
    });
  }

  log() {
    return readFileSync(this.file, "utf8");
  }

  async said(pattern) {
    const found = await until(`copal serve says ${pattern}`, () => {
      const match = this.log().match(pattern);
      if (!match && this.child.exitCode !== null) throw new Error(this.log());
      return match;
    }).catch((error) => {
      throw new Error(`${error.message}\n${this.log()}`);
    });
    return found[1];
  }

  get port() {
    return new URL(this.url).port;
  }

  async ask(method, path, { token, body } = {}) {
    const headers = { ...(token && { authorization: `Bearer ${token}` }), ...(body && { "content-type": "application/json" }) };
    const answer = await fetch(this.url + path, { method, headers, body: body && JSON.stringify(body) });
    const text = await answer.text();
    if (!answer.ok) throw new Error(`${method} ${path}: ${answer.status} ${text}`);
    return text && JSON.parse(text);
  }

  get(path, token) {
    return this.ask("GET", path, { token });
  }

  post(path, token, body = undefined) {
    return this.ask("POST", path, { token, body });
  }

  // The newest ended run that fits, once there is one.
  ran(token, fits, what = "a run has ended") {
    return until(what, async () => (await this.get("/api/runs", token)).runs.find((run) => run.ending && fits(run)));
  }

  async stop(signal = "SIGTERM") {
    if (this.child.exitCode === null && this.child.signalCode === null) this.child.kill(signal);
    const late = setTimeout(() => this.child.kill("SIGKILL"), PATIENCE);
    await this.ended;
    clearTimeout(late);
  }
}

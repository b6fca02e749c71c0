// How far the first start is. It is kept outside of the components: the page around them changes when the daemon takes over.

import { get, loadSession, path, post, signIn } from "../../lib/api.js";
import { store } from "../../lib/store.js";

const LOOK_MS = 700;
/** Longer than any daemon needs that starts at all. */
const PATIENCE_MS = 60_000;

/**
 * `step`: "what", "where" or "go"; `databases`: what shall be protected, `{ name, url, schedule }`; `written`: the server's answer;
 * `phase`: "" until it is written, then "waiting", "backing-up", and "drilling" or "failed"; `runs` by database; `drill`: `{ run, name }`.
 */
const first = {
    step: "what", databases: [], place: "", encrypt: true, passphrase: "", repeated: "",
    written: null, phase: "", runs: {}, live: [], drill: null, problem: null,
};

export const progress = store(first);
export const change = (more) => progress.set({ ...progress.get(), ...more });

const pause = () => new Promise((resolve) => setTimeout(resolve, LOOK_MS));

/** What cannot be in a code cannot be in a header either, and would look as if nobody answered. */
export const headers = (code) => ({ "X-Copal-Setup": code.replace(/[^A-Za-z0-9-]/g, "") });

/** Writes the configuration, and goes on to the proof; throws only if nothing was written. */
export async function write(code) {
    const { databases, place, encrypt, passphrase } = progress.get();
    const wish = { repository: place.trim() || null, encrypt, passphrase: encrypt ? passphrase : null, databases };
    const written = await post("/api/setup", wish, { headers: headers(code) });
    change({ written, passphrase: "", repeated: "" });
    prove();
}

/** Waits until the daemon has taken over; for a moment, nobody may answer. */
async function takenOver() {
    const end = Date.now() + PATIENCE_MS;
    for (;;) {
        try {
            if (!(await loadSession()).setup) return;
        } catch (problem) {
            if (Date.now() > end) throw problem;
        }
        if (Date.now() > end) throw new Error("the daemon has not started with the new configuration; its log says why");
        await pause();
    }
}

/** Waits until a backup of each database has ended, however it did; those that failed `before` do not count. */
async function backedUp(names, before) {
    for (;;) {
        const { runs, live } = await get("/api/runs?kind=backup&limit=500");
        const newest = Object.fromEntries(names.map((name) => [name, runs.find(({ database, id }) => database === name && id !== before[name])]));
        change({ runs: newest, live: live.filter(({ database }) => names.includes(database)) });
        if (names.every((name) => newest[name]?.ending)) return;
        await pause();
    }
}

/** A database with a good backup; of a whole server, one that is on it. That it has one is known a moment after the run's end. */
async function provable(names, runs) {
    const good = names.filter((name) => runs[name]?.ending === "success");
    const isOf = (name) => (one) => one.last_backup && (one.name === name || one.name.startsWith(`${name}.`));
    for (const end = Date.now() + PATIENCE_MS; good.length > 0 && Date.now() < end; await pause()) {
        const { databases } = await get("/api/databases");
        const found = good.map((name) => databases.find(isOf(name))).find(Boolean);
        if (found) return found.name;
    }
    return undefined;
}

/** Makes the first backup of each database and restores one of them to a scratch place; again from where it stopped. */
export async function prove() {
    const { written, databases } = progress.get();
    const names = databases.map(({ name }) => name);
    try {
        change({ phase: "waiting", problem: null });
        await takenOver();
        if (!(await loadSession()).signed_in) await signIn(written.token);
        change({ phase: "backing-up" });
        const { runs } = progress.get();
        const failed = names.filter((name) => runs[name]?.ending !== "success");
        for (const name of failed) await post(path`/api/databases/${name}/backup`);
        await backedUp(names, Object.fromEntries(failed.map((name) => [name, runs[name]?.id])));
        const name = await provable(names, progress.get().runs);
        if (!name) {
            change({ phase: "failed" });
            return;
        }
        const { run } = await post(path`/api/databases/${name}/verify`, { backup: "latest", drill: true });
        change({ phase: "drilling", drill: { run, name } });
    } catch (problem) {
        change({ problem });
    }
}

// Requests to the HTTP API, and who is signed in.

import { store } from "./store.js";
import { noteServerTime } from "./text.js";

const PATIENCE_MS = 90_000;
const RANKS = { viewer: 0, operator: 1, admin: 2 };

/** Why a request was not answered as hoped. */
export class Problem extends Error {
    constructor(status, { kind = "failed", message, causes = [], hint = null }, retryAfter = null) {
        super(message);
        Object.assign(this, { status, kind, causes, hint, retryAfter });
    }
}

const current = store(null);

async function failure(response) {
    const body = await response.json().catch(() => null);
    const error = body?.error ?? { message: `the answer was ${response.status} ${response.statusText}` };
    return new Problem(response.status, error, Number(response.headers.get("Retry-After")) || null);
}

async function ask(method, path, body, { headers = {}, signal } = {}) {
    const patience = AbortSignal.timeout(PATIENCE_MS);
    const options = { method, headers: { Accept: "application/json", ...headers }, credentials: "same-origin", cache: "no-cache" };
    options.signal = signal ? AbortSignal.any([signal, patience]) : patience;
    if (body !== undefined) {
        options.headers["Content-Type"] = "application/json";
        options.body = JSON.stringify(body);
    }
    const csrf = current.get()?.csrf;
    if (csrf && method !== "GET") options.headers["X-Copal-CSRF"] = csrf;
    let response;
    try {
        response = await fetch(path, options);
    } catch (error) {
        if (signal?.aborted) throw error;
        const hint = "see whether `copal serve` still runs, and whether this machine reaches it";
        throw new Problem(0, { kind: "unavailable", message: "copal does not answer", causes: [error.message], hint });
    }
    noteServerTime(response.headers.get("Date"));
    if (!response.ok) throw await failure(response);
    if (response.status === 204) return null;
    try {
        return await response.json();
    } catch (error) {
        if (signal?.aborted) throw error;
        throw new Problem(response.status, { message: "the answer could not be read", causes: [error.message] });
    }
}

async function request(method, path, body, options) {
    const known = current.get();
    try {
        return await ask(method, path, body, options);
    } catch (problem) {
        if (problem.status === 401 && known?.signed_in) {
            // Unless somebody has signed in anew since it was asked.
            if (current.get()?.csrf === known.csrf) current.set({ ...known, signed_in: false, csrf: null });
        } else if (problem.kind === "setup" && !known?.setup) {
            await loadSession().catch(() => {});
        } else if (problem.status === 403 && method !== "GET" && known?.csrf) {
            // Somebody signed in anew in another tab: nothing was done yet, and the other secret is the one that counts now. What one
            // has asked for is not done by the rights of another.
            const fresh = await loadSession().catch(() => null);
            if (fresh?.csrf && fresh.csrf !== known.csrf && fresh.who === known.who) return ask(method, path, body, options);
        }
        throw problem;
    }
}

/** The answer's JSON, or throws a Problem; `{ signal, headers }`. */
export const get = (path, options) => request("GET", path, undefined, options);
export const post = (path, body = {}, options) => request("POST", path, body, options);
export const put = (path, body = {}, options) => request("PUT", path, body, options);
export const del = (path, options) => request("DELETE", path, undefined, options);

/** A path of the API with names made safe: `` path`/api/databases/${name}` ``. */
export const path = (fixed, ...names) => String.raw({ raw: fixed }, ...names.map((name) => encodeURIComponent(name)));

/** Reads who is signed in. */
export async function loadSession() {
    const session = await ask("GET", "/api/session");
    current.set(session);
    return session;
}

export async function signIn(token) {
    current.set(await ask("POST", "/api/session", { token }));
}

export async function signOut() {
    await request("DELETE", "/api/session");
    await loadSession();
}

/** Who is signed in; null until that is known. */
export const session = current.get;
export const useSession = current.use;

/** Whether whoever is signed in has this role. */
export const can = (role) => RANKS[current.get()?.role] >= RANKS[role];

/** Why one may not do what takes this role; null if one may. */
export function whyNot(role, needsToken = false) {
    const now = current.get();
    if (!can(role)) return `This needs the role ${role}; you have ${now?.role ?? "none"}.`;
    if (needsToken && now?.may_restore === false) return "This needs a token: make one with `copal token add`, and sign in with it.";
    return null;
}

// Addresses of the page: `#/databases/NAME?search=x`. Names go through encodeURIComponent, so that no name can be an address.

import { store } from "./store.js";

const current = store(parse(location.hash));
let moves = 0;

function decode(text) {
    try {
        return decodeURIComponent(text);
    } catch {
        return text; // a stray per cent sign that somebody typed
    }
}

function parse(hash) {
    const [path, query = ""] = hash.replace(/^#\/?/, "").split(/\?(.*)/s);
    return {
        parts: path.split("/").filter(Boolean).map(decode),
        query: Object.fromEntries(new URLSearchParams(query)),
    };
}

addEventListener("hashchange", () => {
    const next = parse(location.hash);
    if (next.parts.join("/") !== current.get().parts.join("/")) moves += 1;
    current.set(next);
});

/** The query of an address, without what is empty. */
export function queryText(query) {
    const given = Object.entries(query ?? {}).filter(([, value]) => value !== undefined && value !== null && value !== "");
    const text = new URLSearchParams(given.map(([name, value]) => [name, String(value)])).toString();
    return text && `?${text}`;
}

/** The address of a place on the page: `href(["databases", name], { backup })`. */
export const href = (parts = [], query) => `#/${parts.map((part) => encodeURIComponent(part)).join("/")}${queryText(query)}`;

/** Goes there; `replace` leaves no step to go back to. */
export function go(parts, query, { replace = false } = {}) {
    if (!replace) {
        location.hash = href(parts, query);
        return;
    }
    history.replaceState(null, "", href(parts, query));
    dispatchEvent(new HashChangeEvent("hashchange"));
}

/** How often the place has changed: the first one keeps the focus that the browser gives. */
export const moved = () => moves;
export const useRoute = current.use;
export const route = current.get;

// What happens, as it happens: one stream of events for the whole page, and data that is read again when it is out of date.

import { useCallback, useEffect, useLayoutEffect, useRef, useState } from "./html.js";
import { get, loadSession, session } from "./api.js";
import { store } from "./store.js";

const NAMES = ["progress", "run-started", "run-ended", "missed", "stale", "damaged", "protected", "reloaded", "lagged"];
/** Read again at most so often. */
const PAUSE_MS = 1000;
const LONGEST_WAIT_MS = 30_000;
/** Browsers open six connections to a host: tabs that nobody sees must not hold them all. */
const UNSEEN_MS = 20_000;

const handlers = new Set();
/** `{ isLive, lostSince }`: neither live nor lost is one that is being made for the first time. */
const connection = store({ isLive: false, lostSince: null });
export const useConnection = connection.use;

let [source, timer, unseen, wait, wanted, wasOpen] = [null, null, null, PAUSE_MS, false, false];

function tell(event) {
    for (const handler of [...handlers]) handler(event);
}

function close() {
    source?.close();
    source = null;
    clearTimeout(timer);
}

function lost() {
    close();
    if (!wanted) return;
    connection.set({ isLive: false, lostSince: connection.get().lostSince ?? new Date() });
    timer = setTimeout(async () => {
        // A stream does not say why it is refused; this does (signed out, or nobody there).
        const now = await loadSession().catch(() => null);
        if (!wanted || source) return;
        if (now?.signed_in) open();
        else lost();
    }, wait * (0.75 + Math.random() / 2));
    wait = Math.min(wait * 2, LONGEST_WAIT_MS);
}

function open() {
    close();
    if (document.hidden) {
        // What is read until somebody looks is old by then.
        wasOpen = true;
        return;
    }
    source = new EventSource("/api/events");
    source.onopen = () => {
        wait = PAUSE_MS;
        connection.set({ isLive: true, lostSince: null });
        // Whatever happened in between was missed.
        if (wasOpen) tell({ type: "reconnected", data: {} });
        wasOpen = true;
    };
    source.onerror = lost;
    for (const name of NAMES) {
        source.addEventListener(name, (event) => {
            try {
                tell({ type: name, data: JSON.parse(event.data) });
            } catch {
                tell({ type: "lagged", data: {} }); // better to read everything again than to miss something
            }
        });
    }
}

document.addEventListener("visibilitychange", () => {
    clearTimeout(unseen);
    if (document.hidden) unseen = setTimeout(close, UNSEEN_MS);
    else if (wanted && !source) open();
});

// A stream over a network that is gone does not end by itself.
addEventListener("online", reconnect);

/** Listens while somebody is signed in. */
export function listen(isWanted) {
    if (isWanted === wanted) return;
    wanted = isWanted;
    if (wanted) open();
    else {
        close();
        wasOpen = false;
        connection.set({ isLive: false, lostSince: null });
    }
}

/** Tries at once to connect again. */
export function reconnect() {
    wait = PAUSE_MS;
    if (wanted) open();
}

/** Calls `handler({ type, data })` for every event; `reconnected` and `lagged` mean that some were missed. */
function useLive(handler) {
    const latest = useRef(handler);
    latest.current = handler;
    useEffect(() => {
        const call = (event) => latest.current(event);
        handlers.add(call);
        return () => handlers.delete(call);
    }, []);
}

/**
 * Data of the API that is kept up to date: `{ data, error, loading, isOther, reload }`.
 *
 * `on(event)` says whether an event concerns it. With `keep`, what was read for another path is shown until the new one is there; `isOther` says so.
 */
export function useResource(path, { on = () => false, keep = false } = {}) {
    const [state, show] = useState({ path: null, data: undefined, error: null });
    const [isLoading, setLoading] = useState(Boolean(path));
    const reading = useRef(null); // { abort, timer, last, again }

    const read = useCallback(async () => {
        const mine = reading.current;
        if (!path || mine?.path !== path) return;
        clearTimeout(mine.timer);
        mine.timer = null;
        mine.last = Date.now();
        mine.abort?.abort();
        const abort = new AbortController();
        mine.abort = abort;
        setLoading(true);
        try {
            const data = await get(path, { signal: abort.signal });
            if (!abort.signal.aborted) show({ path, data, error: null });
        } catch (error) {
            if (abort.signal.aborted) return;
            show((old) => ({ path, data: old.path === path ? old.data : undefined, error }));
            // Too many requests: it is known when the next one may come.
            if (error.retryAfter && session()?.signed_in) mine.timer = setTimeout(read, error.retryAfter * 1000);
        }
        if (mine.abort === abort) {
            mine.abort = null;
            setLoading(false);
            if (mine.again) soon(mine);
        }
    }, [path]);

    // One read at a time, and a pause between two, however many events there are.
    function soon(mine) {
        mine.again = Boolean(mine.abort);
        if (mine.again || mine.timer) return;
        mine.timer = setTimeout(read, Math.max(0, mine.last + PAUSE_MS - Date.now()));
    }

    // Not after the next paint: what is shown waits for it.
    useLayoutEffect(() => {
        const mine = { path, abort: null, timer: null, last: 0, again: false };
        reading.current = mine;
        read();
        return () => {
            clearTimeout(mine.timer);
            mine.abort?.abort();
        };
    }, [path]);

    useLive((event) => {
        if (!reading.current || !path) return;
        // A request over the connection that was lost may never be answered.
        if (event.type === "reconnected") read();
        else if (event.type === "lagged" || on(event)) soon(reading.current);
    });

    const isOther = state.path !== path;
    return {
        data: isOther && !keep ? undefined : state.data,
        error: isOther ? null : state.error,
        loading: isLoading || isOther,
        isOther,
        reload: read,
    };
}

/** Reads something again and again while it is wanted and looked at: what no event tells, and what is too important to miss one. */
export function useLook(isWanted, { reload, loading }, every = 4000) {
    const latest = useRef();
    latest.current = { reload, loading };
    useEffect(() => {
        if (!isWanted) return undefined;
        // One that takes longer is not begun anew: it would never end.
        const timer = setInterval(() => document.hidden || latest.current.loading || latest.current.reload(), every);
        return () => clearInterval(timer);
    }, [isWanted, every]);
}

/** The runs under way, as far as they are just now, from what was read last. */
export function useRunsUnderWay(read, concerns = () => true) {
    const [runs, show] = useState(read ?? []);
    useEffect(() => show(read ?? []), [read]);
    useLive(({ type, data }) => {
        if (type === "progress" && concerns(data)) {
            show((old) => (old.some(({ id }) => id === data.id) ? old.map((run) => (run.id === data.id ? data : run)) : [...old, data]));
        } else if (type === "run-ended") {
            show((old) => (old.some(({ id }) => id === data.id) ? old.filter(({ id }) => id !== data.id) : old));
        }
    });
    return runs;
}

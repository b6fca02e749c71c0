// A value that components follow.

import { useEffect, useState } from "./html.js";

/** Makes a store: `get`, `set`, and `use` inside components. */
export function store(first) {
    let value = first;
    const followers = new Set();
    const get = () => value;
    const set = (next) => {
        value = next;
        for (const follower of [...followers]) follower(next);
    };
    const use = () => {
        const [shown, show] = useState(value);
        useEffect(() => {
            // It may have changed between drawing and now.
            show(value);
            followers.add(show);
            return () => followers.delete(show);
        }, []);
        return shown;
    };
    return { get, set, use };
}

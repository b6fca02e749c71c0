// What of all databases is shown. It is kept in the address, so that it can be sent and gone back to.

import { html, useEffect, useRef, useState } from "../../lib/html.js";
import { Field, TextField } from "../../lib/parts.js";
import { count } from "../../lib/text.js";
import { firstOrder } from "./rows.js";

const STATES = [["", "All"], ["unprotected", "Not protected"], ["protected", "Protected"], ["running", "Running"], ["failing", "Failing"]];
const SORTS = [["state", "State"], ["name", "Name"], ["age", "Last backup"], ["drill", "Last drill"], ["size", "Size"], ["next", "Next run"]];
const TYPING_MS = 250;

const option = ([value, label]) => html`<option key=${value} value=${value}>${label}</option>`;

/** A choice of a few values. */
function Choice({ label, value, options, onChange }) {
    return html`<${Field} label=${label}>${(id) => html`<select id=${id} value=${value ?? ""} onChange=${(event) => onChange(event.currentTarget.value)}>${options.map(option)}</select>`}<//>`;
}

/** A field that tells what was typed after a moment without typing. */
function Search({ value, onChange }) {
    const [typed, setTyped] = useState(value ?? "");
    const told = useRef(value ?? "");
    useEffect(() => {
        // The address was changed by something else: going back, or "show all".
        if ((value ?? "") !== told.current) {
            told.current = value ?? "";
            setTyped(told.current);
        }
    }, [value]);
    useEffect(() => {
        if (typed === told.current) return undefined;
        const timer = setTimeout(() => {
            told.current = typed;
            onChange(typed);
        }, TYPING_MS);
        return () => clearTimeout(timer);
    }, [typed]);
    return html`<${TextField} label="Search" type="search" value=${typed} placeholder="name, engine or place" maxlength="200" onInput=${setTyped} />`;
}

/** The bar of filters. `onChange` is told what changes of the address's query. */
export default function Filter({ query, engines, total, isFiltered, onChange }) {
    const sort = query.sort || "state";
    // An engine that is gone is still what the list is filtered by.
    const known = query.engine && !engines.includes(query.engine) ? [...engines, query.engine] : engines;
    return html`<search class="filter" aria-label="Filter of databases">
        <${Search} value=${query.search} onChange=${(search) => onChange({ search })} />
        <${Choice} label="State" value=${query.state} options=${STATES} onChange=${(state) => onChange({ state })} />
        <${Choice} label="Engine" value=${query.engine} options=${[["", "All"], ...known.map((name) => [name, name])]} onChange=${(engine) => onChange({ engine })} />
        <div class="narrow-only"><${Choice} label="Sort by" value=${sort} options=${SORTS} onChange=${(id) => onChange({ sort: id, order: firstOrder(id) })} /></div>
        <p class="filter-result quiet" role="status">${isFiltered ? html`${count(total, "match", "matches")} · <a href="#/">show all</a>` : ""}</p>
    </search>`;
}

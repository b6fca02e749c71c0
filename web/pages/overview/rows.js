// The list of databases.

import { html } from "../../lib/html.js";
import { Ago, DatabaseLink, hint, Link, Name, State, Strip, Table, useNow } from "../../lib/parts.js";
import { age, bytes, spanOf, when } from "../../lib/text.js";

/** How much of the promised age is used up: of one that is promised as such, or until the next backup by the schedule is overdue. */
function Age({ row: { last_backup: last, max_age_seconds: longest, stale_after: stale } }) {
    useNow();
    if (!last) return html`<span class="quiet">no good backup</span>`;
    const promised = longest ?? (stale && (Date.parse(stale) - Date.parse(last.time)) / 1000);
    if (!promised) return html`<${Ago} time=${last.time} />`;
    const share = Math.max(0, age(last.time) / 1000 / promised);
    const kind = share > 1 ? "bad" : share > 0.8 ? "warn" : "good";
    const width = `${Math.min(100, share * 100).toFixed(1)}%`;
    return html`<${Ago} time=${last.time} /> <span class="quiet small-text" ...${hint(() => (stale ? `promised; stale after ${when(stale)}` : "promised"))}>of ${spanOf(promised)}</span>
        <span class=${`meter ${kind}`} aria-hidden="true"><span style=${{ width }}></span></span>`;
}

function Drill({ last }) {
    if (!last) return html`<span class="quiet">never</span>`;
    const isGood = last.ending === "success";
    return html`<${Link} to=${["runs", String(last.id)]} class="plain-link"><${Ago} time=${last.started} /><//>
        ${!isGood && html` <span class="bad-text">${last.ending === "cancelled" ? "cancelled" : "failed"}</span>`}`;
}

const database = (row) => html`<${DatabaseLink} name=${row.name} class="database" />
    <span class="quiet small-text place">${row.engine ?? "engine unknown"}${row.source && html` · <${Name}>${row.source}<//>`}</span>
    ${!row.configured && html`<span class="quiet small-text place">backed up by ${row.host ? html`<${Name}>${row.host}<//>` : "another host"}</span>`}`;

function Next({ time }) {
    useNow();
    if (!time) return html`<span class="quiet">none</span>`;
    return age(time) > 0 ? "due" : html`<${Ago} time=${time} />`;
}

function Reasons({ row }) {
    const [first, ...others] = row.problems ?? [];
    const note = first ? undefined : row.notes?.[0];
    return html`<${State} of=${row} />
        ${row.running && html` <${Link} to=${["runs", String(row.running)]} class="small-text">running<//>`}
        ${first && html`<span class="reason-text small-text">${first.message}${others.length > 0 && ` (and ${others.length} more)`}</span>`}
        ${note && html`<span class="quiet small-text note">${note}</span>`}
        ${row.consecutive_failures > 0 && html`<span class="reason-text small-text">${row.consecutive_failures} failed in a row</span>`}`;
}

// A first click on a column shows what may need somebody: the oldest, the largest.
const COLUMNS = [
    { id: "name", label: "Database", sortable: true, header: true, kind: "wide", cell: database },
    { id: "state", label: "State", sortable: true, kind: "state", cell: (row) => html`<${Reasons} row=${row} />` },
    { id: "age", label: "Last backup", sortable: true, first: "desc", kind: "age", cell: (row) => html`<${Age} row=${row} />` },
    { id: "drill", label: "Last drill", sortable: true, first: "desc", cell: (row) => html`<${Drill} last=${row.last_drill} />` },
    { id: "size", label: "Size", sortable: true, first: "desc", numeric: true, cell: (row) => bytes(row.repository_bytes) || html`<span class="quiet">–</span>` },
    { id: "strip", label: "Runs", cell: (row) => html`<${Strip} runs=${row.strip} />` },
    { id: "next", label: "Next run", sortable: true, cell: (row) => html`<${Next} time=${row.next_run} />` },
];

/** Rows as `/api/overview` has them. */
export default function Rows({ rows, sort, order, busy, onSort }) {
    return html`<${Table} caption="Databases" kind="databases" columns=${COLUMNS} rows=${rows} keyOf=${(row) => row.name} sort=${sort} order=${order} onSort=${onSort} busy=${busy} />`;
}

/** The order that a first click on a column sorts by. */
export const firstOrder = (sort) => COLUMNS.find(({ id }) => id === sort)?.first ?? "asc";

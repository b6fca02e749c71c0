// The repository: what it takes and for whom, who can open it, and who works in it.

import { html, useEffect, useRef, useState } from "../lib/html.js";
import { useLook, useResource } from "../lib/live.js";
import { Ago, Button, DatabaseLink, Empty, Facts, Failure, Heading, Loading, Section, Table, Time } from "../lib/parts.js";
import { go, queryText } from "../lib/route.js";
import { bytes, count, numeral, words } from "../lib/text.js";
import Prune from "./repository/prune.js";

const PAGE = 50;
/** The largest offset that the server takes. */
const MOST = 2 ** 32 - 1;
/** Which way the server sorts: the largest, and what was not read back for the longest time, come first. */
const ORDERS = { size: "desc", name: "asc", verified: "asc" };
const MODES = {
    none: "not encrypted",
    passphrase: "encrypted with a passphrase",
    "recovery-key": "encrypted with a recovery key",
};

/** A part of the whole as a bar; the number stands beside it. */
function Bar({ part, whole }) {
    const share = whole > 0 ? Math.min(100, (part / whole) * 100) : 0;
    return html`<span class="bar" aria-hidden="true"><span style=${{ width: `${share}%` }}></span></span>`;
}

function Databases({ data, sort, offset, loading, onPrune }) {
    const to = (change) => go(["repository"], { sort, ...change });
    const columns = [
        { id: "name", label: "Database", header: true, sortable: true, cell: ({ name }) => html`<${DatabaseLink} name=${name} />` },
        { id: "size", label: "Size", numeric: true, sortable: true, cell: (row) => html`<span class="bar-cell"><${Bar} part=${row.bytes ?? 0} whole=${data.total_bytes} />${row.bytes === undefined ? "not counted yet" : bytes(row.bytes)}</span>` },
        { id: "backups", label: "Backups", numeric: true, cell: ({ backups }) => numeral(backups) },
        { id: "last", label: "Last backup", cell: (row) => html`<${Ago} time=${row.last_backup} />` },
        { id: "verified", label: "Last read back", sortable: true, cell: (row) => html`<${Ago} time=${row.last_verified} />` },
        { id: "actions", label: "Actions", kind: "cell-actions", cell: ({ name }) => html`<${Button} kind="small" aria-label=${`What would a prune free? ${name}`}
            onClick=${() => onPrune(name)}>What would a prune free?<//>` },
    ];
    const last = Math.min(offset + data.databases.length, data.databases_total);
    return html`<${Table} kind="repository" caption="Databases in the repository" columns=${columns} rows=${data.databases} keyOf=${({ name }) => name}
            sort=${sort} order=${ORDERS[sort]} busy=${loading} onSort=${(sort) => to({ sort })} />
        ${data.databases_total > PAGE && html`<nav class="pages" aria-label="Pages of databases">
            <${Button} why=${offset === 0 ? "This is the first page." : undefined} onClick=${() => to({ offset: Math.max(0, offset - PAGE) || undefined })}>Previous<//>
            <span>${offset + 1} to ${last} of ${count(data.databases_total, "database")}</span>
            <${Button} why=${last >= data.databases_total ? "This is the last page." : undefined} onClick=${() => to({ offset: offset + PAGE })}>Next<//>
        </nav>`}`;
}

function Leases({ leases }) {
    if (leases.length === 0) return html`<p class="quiet">Nobody works in it just now.</p>`;
    return html`<ul class="leases">${leases.map((lease, n) => html`<li key=${n}>
        <strong>${words(lease.operation)}</strong> of <bdi>${lease.database}</bdi> by <bdi>${lease.host}</bdi>, process ${lease.pid}${lease.is_own && " (this daemon)"}${lease.since && html`, since <${Ago} time=${lease.since} />`}</li>`)}</ul>`;
}

function Keys({ keys }) {
    if (keys.length === 0) return null;
    return html`<${Section} title="Keys"><ul class="keys">${keys.map(({ id, kind, created }) => html`<li key=${id}>
        <span class="mono">${id}</span> ${words(kind)} <span class="quiet">made <${Time} time=${created} /></span></li>`)}</ul><//>`;
}

export default function Repository({ query }) {
    const sort = Object.hasOwn(ORDERS, query.sort ?? "") ? query.sort : "size";
    const offset = Math.min(MOST, Math.max(0, Math.floor(Number(query.offset)) || 0));
    const on = ({ type }) => ["run-ended", "run-started", "reloaded"].includes(type);
    const resource = useResource(`/api/repository${queryText({ sort, offset, limit: PAGE })}`, { on, keep: true });
    const { data, error, loading, isOther, reload } = resource;
    // Of the rows that are shown, which may still be those before.
    const shown = useRef(0);
    if (!isOther) shown.current = offset;
    // What other machines do in it, nobody tells.
    useLook(true, resource);
    // There are fewer than a moment ago, or somebody typed the address.
    const isBehind = data && !loading && data.databases.length === 0 && data.databases_total > 0;
    useEffect(() => {
        if (isBehind) go(["repository"], { sort }, { replace: true });
    }, [isBehind]);
    const [pruned, prune] = useState(null);
    const heading = html`<${Heading} title="Repository">Repository<//>`;
    if (!data) return html`${heading}${error ? html`<${Failure} problem=${error} onRetry=${reload} />` : html`<${Loading} />`}`;
    const facts = [
        ["Place", html`<bdi class="mono">${data.url}</bdi>`],
        ["Encryption", data.encryption && (MODES[data.encryption] ?? words(data.encryption))],
        ["Size", bytes(data.total_bytes)],
        ["Databases", numeral(data.databases_total)],
    ];
    return html`${heading}
        <${Failure} problem=${error} onRetry=${reload} title="This could not be read again" />
        ${data.error && html`<${Failure} problem=${{ message: data.error }} title="The repository does not answer as it should" onRetry=${reload} />`}
        <${Facts} items=${facts} />
        <${Section} title="Space by database">
            ${data.databases_total === 0
                ? html`<${Empty} title="It is empty."><p>The first backup of a database appears here.</p><//>`
                : html`<${Databases} data=${data} sort=${sort} offset=${shown.current} loading=${loading} onPrune=${prune} />`}
        <//>
        <${Section} title="Who works in it"><${Leases} leases=${data.leases ?? []} /><//>
        <${Keys} keys=${data.keys ?? []} />
        ${pruned !== null && html`<${Prune} name=${pruned} onClose=${() => prune(null)} />`}`;
}

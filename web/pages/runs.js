// What runs, what failed last, and all that ran.

import { html, useEffect, useState } from "../lib/html.js";
import { get } from "../lib/api.js";
import { useResource, useRunsUnderWay } from "../lib/live.js";
import { Ago, Button, DatabaseLink, Empty, Ending, Failure, Field, Heading, Link, Loading, Progress, Section, Table, TextField, Time, useAction } from "../lib/parts.js";
import { go, href, queryText } from "../lib/route.js";
import { bytes, capital, count, duration, words } from "../lib/text.js";

const PAGE = 50;
const FAILURES = 5;
const KINDS = ["backup", "drill", "verify", "restore", "prune", "snapshot", "rewind"];
const hasEnded = ({ type }) => type === "run-ended" || type === "run-started";

const COLUMNS = [
    { id: "run", label: "Run", header: true, kind: "keep", cell: (run) => html`<${Link} to=${["runs", String(run.id)]}>${capital(words(run.kind))}<span class="visually-hidden"> ${run.id}</span><//>` },
    { id: "database", label: "Database", kind: "wide", cell: (run) => html`<${DatabaseLink} name=${run.database} />` },
    { id: "ending", label: "Ending", cell: (run) => html`<${Ending} run=${run} />${run.warnings?.length > 0 && html` <span class="small-text warn-text">${count(run.warnings.length, "warning")}</span>`}` },
    { id: "started", label: "Started", cell: (run) => html`<${Time} time=${run.started} brief=${true} /> <span class="quiet small-text">${words(run.reason)}</span>` },
    { id: "duration", label: "Took", numeric: true, cell: (run) => duration(run.duration_ms) },
    { id: "added", label: "Added", numeric: true, cell: (run) => bytes(run.added_bytes) },
    { id: "error", label: "Why it failed", kind: "why", cell: (run) => run.error && html`<span class="bad-text">${run.error.message}</span>` },
];

function Failures({ database, query }) {
    const { data, error, reload } = useResource(`/api/runs${queryText({ failed: true, limit: FAILURES, database })}`, { on: hasEnded });
    if (error) return html`<${Failure} title="The failures could not be read" problem=${error} onRetry=${reload} />`;
    if (!data || data.runs.length === 0) return null;
    return html`<${Section} title="Failed last">
        <ul class="failures">${data.runs.map((run) => html`<li key=${run.id}>
            <p><span class="bad-text" aria-hidden="true">✕ </span><${Link} to=${["runs", String(run.id)]}>${capital(words(run.kind))}<//> of <${DatabaseLink} name=${run.database} />, <${Ago} time=${run.started} /></p>
            <p class="small-text">${run.error?.message}</p>
        </li>`)}</ul>
        <p><a href=${href(["runs"], { ...query, failed: "true" })}>All that failed</a></p>
    <//>`;
}

function Filter({ query, onChange }) {
    const [database, setDatabase] = useState(query.database ?? "");
    useEffect(() => setDatabase(query.database ?? ""), [query.database]);
    return html`<search class="filter" aria-label="Filter of runs">
        <${TextField} label="Database" type="search" value=${database} placeholder="its whole name" onInput=${setDatabase} onChange=${() => onChange({ database })} />
        <${Field} label="Kind">${(id) => html`<select id=${id} value=${query.kind ?? ""} onChange=${(event) => onChange({ kind: event.currentTarget.value })}>
            <option value="">All</option>${KINDS.map((kind) => html`<option key=${kind} value=${kind}>${capital(kind)}</option>`)}</select>`}<//>
        <label class="check"><input type="checkbox" checked=${query.failed === "true"} onChange=${(event) => onChange({ failed: event.currentTarget.checked ? "true" : undefined })} /> Failed only</label>
    </search>`;
}

/** The newest page, kept up to date, and older ones as they are asked for. */
function History({ filter }) {
    const first = useResource(`/api/runs${queryText({ ...filter, limit: PAGE })}`, { on: hasEnded, keep: true });
    const [older, setOlder] = useState({ runs: [], isEnd: false });
    const newest = first.data?.runs ?? [];
    // The older ones begin with what was newest then, so that the two overlap; nothing is shown twice.
    const seen = new Set(newest.map(({ id }) => id));
    // So many may be new that there is a gap between the two: then the older ones are asked for anew.
    const isJoined = older.runs.some(({ id }) => seen.has(id));
    const runs = isJoined ? [...newest, ...older.runs.filter(({ id }) => !seen.has(id))] : newest;
    const more = useAction(async () => {
        const answer = await get(`/api/runs${queryText({ ...filter, limit: PAGE, before: runs.at(-1).id })}`);
        setOlder({ runs: [...runs, ...answer.runs], isEnd: answer.runs.length < PAGE });
    });
    if (!first.data) return first.error ? html`<${Failure} problem=${first.error} onRetry=${first.reload} />` : html`<${Loading} />`;
    const isMore = !(isJoined && older.isEnd) && newest.length >= PAGE;
    return html`<${Failure} problem=${first.error} onRetry=${first.reload} />
        ${runs.length > 0 ? html`<${Table} caption="Runs" kind="runs" columns=${COLUMNS} rows=${runs} keyOf=${({ id }) => id} busy=${first.loading} />` : html`<${Empty} title="Nothing ran that is like this." />`}
        <${Failure} problem=${more.problem} onRetry=${more.run} />
        ${isMore && html`<${Button} busy=${more.busy} onClick=${more.run}>Show older runs<//>`}`;
}

function UnderWay({ database }) {
    const { data } = useResource(`/api/runs${queryText({ limit: 1, database })}`, { on: hasEnded, keep: true });
    const runs = useRunsUnderWay(data?.live, (run) => !database || run.database === database);
    if (runs.length === 0) return null;
    return html`<${Section} title="Under way"><ul class="runs-live">${runs.map((run) => html`<li key=${run.id}><${Progress} live=${run} showDatabase=${true} /></li>`)}</ul><//>`;
}

export default function Runs({ query }) {
    const { database, kind, failed } = query;
    const filter = { database, kind, failed };
    const change = (next) => go(["runs"], { ...filter, ...next }, { replace: true });
    return html`<${Heading} title="Runs">Runs<//>
        <${UnderWay} database=${database} />
        ${failed !== "true" && html`<${Failures} database=${database} query=${filter} />`}
        <${Section} title=${failed === "true" ? "All that failed" : "All runs"}>
            <${Filter} query=${query} onChange=${change} />
            <${History} key=${queryText(filter)} filter=${filter} />
        <//>`;
}

// The backups of a database, newest first: what each is, how long it stays, and what can be done with it.

import { html, useState } from "../../lib/html.js";
import { del, path, post, put } from "../../lib/api.js";
import { useResource } from "../../lib/live.js";
import { Button, Copy, Failure, Link, Loading, Problems, Section, Table, Time, say, useAction } from "../../lib/parts.js";
import { go } from "../../lib/route.js";
import { bytes, count, dayOf, duration, when, words } from "../../lib/text.js";

const STEP = 12;
/** A longer table would be slow: it is drawn as a whole. */
const MOST = 500;

const METHODS = { full: "all", changes: "only changes" };
const RULES = { "no-rule": "no rule deletes it", "newest-verified": "newest that was read back" };

function Kept({ backup }) {
    const rules = (backup.kept_by ?? []).map((rule) => RULES[rule] ?? words(rule)).join(", ");
    const end = backup.kept_for_ever ? "for ever" : backup.kept_until && html`until <time datetime=${backup.kept_until} title=${when(backup.kept_until)}>${dayOf(backup.kept_until)}</time>`;
    return html`<span>${rules}${rules && end && " · "}${end}</span>`;
}

function Actions({ backup, name, reload }) {
    const { id, pinned } = backup;
    const pin = useAction(async () => {
        await (pinned ? del : put)(path`/api/databases/${name}/backups/${id}/pin`);
        await reload();
    });
    const verify = useAction(async () => {
        const { run } = await post(path`/api/databases/${name}/verify`, { backup: id });
        say(`Backup ${id} is read back.`, { to: ["runs", String(run)], text: `Run ${run}` });
    });
    return html`<span class="row-actions">
        <${Button} kind="small" needs="operator" token aria-label=${`Restore ${id}`} onClick=${() => go(["databases", name, "restore"], { backup: id })}>Restore<//>
        <${Button} kind="small" needs="operator" busy=${verify.busy} aria-label=${`Verify ${id}`} onClick=${verify.run}>Verify<//>
        <${Button} kind="small" needs="operator" busy=${pin.busy} aria-label=${`${pinned ? "Unpin" : "Pin"} ${id}`} onClick=${pin.run}>${pinned ? "Unpin" : "Pin"}<//>
        <${Failure} problem=${pin.problem ?? verify.problem} />
    </span>`;
}

function columns(name, reload) {
    const made = (backup) => html`<span class="made"><${Time} time=${backup.time} brief />
        <span class="id mono quiet">${backup.id} <${Copy} text=${backup.id} label="Copy id" hidden /></span>
        ${backup.label && html`<bdi class="label">${backup.label}</bdi>`}</span>`;
    const sign = (is, yes, no) => (is ? html`<span class="yes"><span aria-hidden="true">✓ </span>${yes}</span>` : html`<span class="quiet">${no}</span>`);
    return [
        { id: "made", label: "Made", header: true, cell: made },
        { id: "method", label: "Stored", cell: ({ method }) => METHODS[method] ?? method },
        { id: "size", label: "Size", numeric: true, cell: ({ logical_bytes }) => bytes(logical_bytes) },
        { id: "added", label: "Added", numeric: true, cell: ({ added_bytes }) => bytes(added_bytes) },
        { id: "took", label: "Took", numeric: true, cell: ({ duration_ms }) => duration(duration_ms) },
        { id: "verified", label: "Read back", cell: ({ verified }) => sign(verified, "yes", "not yet") },
        { id: "pinned", label: "Pinned", cell: ({ pinned }) => sign(pinned, "pinned", "no") },
        { id: "kept", label: "Kept", cell: (backup) => html`<${Kept} backup=${backup} />` },
        { id: "actions", label: "Actions", kind: "cell-actions", cell: (backup) => html`<${Actions} backup=${backup} name=${name} reload=${reload} />` },
    ];
}

export default function Backups({ name, on }) {
    const [limit, setLimit] = useState(STEP);
    const { data, error, loading, reload } = useResource(`${path`/api/databases/${name}/backups`}?limit=${limit}`, { on, keep: true });
    const rows = [...(data?.backups ?? [])].reverse();
    const isUnknown = error?.status === 404;
    // The button stays while more is read: the focus is on it.
    const hasMore = limit < MOST && (rows.length === limit || (loading && rows.length * 2 === limit));
    return html`<${Section} title="Backups">
        ${isUnknown
            ? html`<p class="quiet">The repository has none of this name. Of a whole server, <${Link} to=${[]} query=${{ search: `${name}.` }}>each database<//> has its own.</p>`
            : html`<${Failure} problem=${error} onRetry=${reload} />`}
        ${!data && !error && html`<${Loading} />`}
        <${Problems} lines=${data?.damaged.map(({ object, problem }) => html`<bdi class="mono">${object}</bdi>: ${problem}`)} />
        ${data && rows.length === 0 && html`<p class="quiet">There is none.</p>`}
        ${rows.length > 0 && html`<${Table} kind="backups" caption="Backups, newest first" columns=${columns(name, reload)} rows=${rows} keyOf=${({ id }) => id} busy=${loading} />`}
        ${hasMore && html`<p><${Button} busy=${loading} onClick=${() => setLimit(Math.min(MOST, limit * 2))}>Show more<//></p>`}
        ${rows.length >= MOST && html`<p class="quiet">Older ones than these ${count(MOST, "backup")}: <code>copal list</code></p>`}
    <//>`;
}

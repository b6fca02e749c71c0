// One run: how it goes or ended, what it made, and its log.

import { html } from "../lib/html.js";
import { path } from "../lib/api.js";
import { useResource } from "../lib/live.js";
import { Ago, DatabaseLink, Empty, Ending, Facts, Failure, Heading, Link, Loading, Name, Progress, Section, Time } from "../lib/parts.js";
import { bytes, capital, duration, when, words } from "../lib/text.js";
import { useRun } from "./follow.js";

const LEVELS = { phase: "", note: "", warning: "⚠ warning", check: "✓ checked", error: "✕ error" };

function Line({ line }) {
    const sign = LEVELS[line.level];
    return html`<li class=${`log-${line.level}`}>
        <${Clock} time=${line.time} />
        <span>${sign && html`<span class="log-sign">${sign}: </span>`}${line.text}</span>
    </li>`;
}

/** The time of a line: the day is the run's. */
function Clock({ time }) {
    const at = new Date(time);
    return html`<time class="quiet" datetime=${time} title=${when(time)}>${Number.isNaN(at.getTime()) ? "" : at.toLocaleTimeString("en-GB")}</time>`;
}

function Log({ id, isRunning }) {
    const concerns = ({ data }) => String(data.id) === id;
    const { data, error, reload } = useResource(path`/api/runs/${id}/log`, { on: concerns });
    if (error) return html`<${Failure} problem=${error} onRetry=${reload} />`;
    if (!data) return html`<${Loading} />`;
    if (data.lines.length === 0) return html`<p class="quiet">${isRunning ? "Nothing yet." : "Nothing is kept of it."}</p>`;
    return html`${data.truncated && html`<p class="quiet">It was too long to be kept as a whole; some lines are missing.</p>`}
        <ol class="log scroll" tabindex="0" aria-label="Log">${data.lines.map((line, n) => html`<${Line} key=${n} line=${line} />`)}</ol>`;
}

function backupOf(run) {
    if (!run.backup) return null;
    if (run.ending !== "success") return html`<code>${run.backup}</code>`;
    return html`<code>${run.backup}</code> · <${Link} to=${["databases", run.database, "restore"]} query=${{ backup: run.backup }}>restore it<//>`;
}

function What({ run }) {
    const late = Date.parse(run.started) - Date.parse(run.due);
    return html`<${Facts} items=${[
        ["Database", html`<${DatabaseLink} name=${run.database} />`],
        ["Started", html`<${Time} time=${run.started} /> (<${Ago} time=${run.started} />)`],
        ["Why", `${words(run.reason)}${run.attempt > 1 ? `, attempt ${run.attempt}` : ""}${late > 60_000 ? `, ${duration(late)} late` : ""}`],
        ["Took", duration(run.duration_ms)],
        ["Backup", backupOf(run)],
        ["Restored to", run.target && html`<${Name}>${run.target}<//>`],
        ["Size of the database", bytes(run.logical_bytes)],
        ["Added to the repository", bytes(run.added_bytes)],
        ["Read by a restore", bytes(run.stored_bytes)],
        ["Damaged objects", run.damaged || null],
        ["Failures in a row", run.consecutive_failures || null],
        ["Number", String(run.id)],
    ]} />`;
}

function Warnings({ warnings }) {
    if (!warnings?.length) return null;
    return html`<div class="warning"><p><strong>Warnings</strong></p><ul>${warnings.map((text, n) => html`<li key=${n}>${text}</li>`)}</ul></div>`;
}

export default function Run({ params: { id } }) {
    const { run, live, problem: error, reload } = useRun(id, { hasLog: false });
    if (!run) {
        const isMissing = error?.status === 404 || error?.status === 400;
        return html`<${Heading} title=${`Run ${id}`}>Run ${id}<//>
            ${isMissing && html`<${Empty} title="There is no such run."><p>The history keeps runs for a limited time. <${Link} to=${["runs"]}>All runs<//></p><//>`}
            ${error && !isMissing && html`<${Failure} problem=${error} onRetry=${reload} />`}
            ${!error && html`<${Loading} />`}`;
    }
    return html`
        <p class="crumbs"><${Link} to=${["runs"]}>Runs<//></p>
        <div class="title-line">
            <${Heading} title=${`${capital(words(run.kind))} of ${run.database}`}>${capital(words(run.kind))} of <${Name}>${run.database}<//><//>
            <span role="status"><${Ending} run=${run} /></span>
        </div>
        ${!run.ending && live && html`<${Progress} live=${live} />`}
        <${Failure} problem=${error} onRetry=${reload} />
        ${run.error && html`<div class="failure"><p><strong>${capital(words(run.error.kind))}</strong></p><p>${run.error.message}</p></div>`}
        <${Warnings} warnings=${run.warnings} />
        <${What} run=${run} />
        <${Section} title="Log"><${Log} id=${id} isRunning=${!run.ending} /><//>`;
}

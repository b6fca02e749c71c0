// Runs that a page started or shows: how far they are, how they ended, and what they found.

import { html, useMemo } from "../lib/html.js";
import { path } from "../lib/api.js";
import { useLook, useResource, useRunsUnderWay } from "../lib/live.js";
import { Ending, Failure, Link, Loading, Progress } from "../lib/parts.js";
import { capital, duration } from "../lib/text.js";

/** Whether an event changes what is known of a database; runs of its whole server do, too. */
export const changes = (name) => ({ type, data }) =>
    type === "reloaded" || (type !== "progress" && Boolean(data.database) && (data.database === name || name.startsWith(`${data.database}.`)));

/** One run: `{ run, live, isOver, log, problem, reload }`; without an id, nothing. The log is read at its end, with `hasLog`. */
export function useRun(id, { hasLog = true } = {}) {
    const isIt = ({ type, data }) => (type === "run-ended" || type === "run-started") && String(data.id) === String(id);
    const resource = useResource(id ? path`/api/runs/${String(id)}` : null, { on: isIt });
    const { data, error, reload } = resource;
    const run = data?.run;
    const isOver = Boolean(run?.ending);
    const log = useResource(isOver && hasLog ? path`/api/runs/${String(id)}/log` : null);
    const underWay = useMemo(() => (data?.live ? [data.live] : []), [data]);
    const [live] = useRunsUnderWay(underWay, (other) => String(other.id) === String(id));
    // Events may be missed before the stream is open, or when there are too many streams: then this finds the end.
    useLook(Boolean(id) && !isOver && error?.status !== 404 && error?.status !== 400, resource);
    return { run, live, isOver, log, problem: error, reload };
}

/** What a run checked, as its log has it. */
function Checks({ log }) {
    const lines = (log.data?.lines ?? []).filter(({ level }) => level === "check" || level === "warning");
    if (log.error) return html`<${Failure} problem=${log.error} title="What was checked could not be read" onRetry=${log.reload} />`;
    if (!log.data) return html`<${Loading} what="Reading what was checked" />`;
    return html`<ul class="checks">${lines.map(({ level, text }, n) => html`<li key=${n} class=${level}>
        <span aria-hidden="true">${level === "check" ? "✓" : "!"}</span> ${level === "warning" && "Warning: "}${text}</li>`)}</ul>`;
}

function Result({ run, log, good }) {
    const took = run.duration_ms === null ? "" : ` after ${duration(run.duration_ms)}`;
    const number = html`<${Link} to=${["runs", String(run.id)]}>run ${run.id}<//>`;
    if (run.ending === "success") {
        const isChecked = (log.data?.lines ?? []).some(({ level }) => level === "check");
        const said = typeof good === "function" ? good(isChecked) : good;
        return html`<div class="result good">
            <p><span aria-hidden="true">✓</span> <strong>${said}</strong>${took} (${number})</p>
            <${Checks} log=${log} />
        </div>`;
    }
    return html`<div class="result bad">
        <p><${Ending} run=${run} />${took} (${number})</p>
        ${run.error && html`<p>${capital(run.error.message)}</p>`}
        ${log.data && html`<${Checks} log=${log} />`}
    </div>`;
}

/** A run from its start to its result: `good` is said of one that succeeded, or made by whether its log has a check. */
export function Follow({ following, good }) {
    const { run, live, isOver, log, problem, reload } = following;
    const isKnown = isOver && (log.data || log.error);
    // The place of the result is there before it, so that screen readers say what comes into it.
    return html`
        ${!run && (problem ? html`<${Failure} problem=${problem} onRetry=${reload} />` : html`<${Loading} what="Waiting for the run" />`)}
        ${run && !isKnown && (live ? html`<${Progress} live=${live} />` : html`<p class="quiet">Run ${run.id} begins or ends just now …</p>`)}
        <div role="status">${isKnown && html`<${Result} run=${run} log=${log} good=${good} />`}</div>`;
}

// One database: whether it is protected, what can be restored, how it grew, and what can be done with it.

import { html } from "../lib/html.js";
import { path, post } from "../lib/api.js";
import { useResource, useRunsUnderWay } from "../lib/live.js";
import { Ago, Button, Empty, Ending, Facts, Failure, Heading, Link, Loading, Name, Problems, Progress, Section, State, Time, say, useAction } from "../lib/parts.js";
import { go } from "../lib/route.js";
import { bytes, capital, count, duration, spanOf } from "../lib/text.js";
import Backups from "./database/backups.js";
import Growth from "./database/growth.js";
import Journal from "./database/journal.js";
import Snapshots from "./database/snapshots.js";
import { changes } from "./follow.js";

const RUNS_SHOWN = 8;

/** Why the daemon cannot do something with a database, besides the role. */
function reasons({ configured, capabilities }) {
    const elsewhere = configured ? undefined : "Another machine backs this database up; it is not in this configuration.";
    const drill = capabilities?.drill === false ? "This engine's backups cannot be restored to a scratch place." : elsewhere;
    return { backup: elsewhere, drill };
}

function Actions({ database }) {
    const { name } = database;
    const why = reasons(database);
    const told = (what) => say(`${what} of ${name} was asked for.`);
    const backup = useAction(async () => {
        await post(path`/api/databases/${name}/backup`);
        told("A backup");
    });
    const drill = useAction(async () => {
        await post(path`/api/databases/${name}/drill`);
        told("A drill");
    });
    const verify = useAction(async () => {
        const { run } = await post(path`/api/databases/${name}/verify`, { backup: "latest" });
        say(`The newest backup of ${name} is read back.`, { to: ["runs", String(run)], text: `Run ${run}` });
    });
    const nothing = database.backups === 0 ? "There is no backup yet." : undefined;
    return html`<div class="actions">
        <${Button} kind="primary" needs="operator" why=${why.backup} busy=${backup.busy} onClick=${backup.run}>Back up now<//>
        <${Button} needs="operator" token why=${nothing} onClick=${() => go(["databases", name, "restore"])}>Restore<//>
        <${Button} needs="operator" why=${nothing} busy=${verify.busy} onClick=${verify.run}>Verify<//>
        <${Button} needs="operator" why=${why.drill ?? nothing} busy=${drill.busy} onClick=${drill.run}>Drill<//>
    </div>
    <${Failure} problem=${backup.problem} />
    <${Failure} problem=${verify.problem} />
    <${Failure} problem=${drill.problem} />`;
}

/** With the zone: that of the schedule, which stands beside it, may be another. */
const timed = (time) => time && html`<${Ago} time=${time} /> <span class="quiet"><${Time} time=${time} /></span>`;

function Overview({ database: it }) {
    const drill = it.last_drill;
    const facts = [
        ["Engine", it.engine],
        ["Source", it.source && html`<bdi class="mono">${it.source}</bdi>`],
        ["Backed up by", it.host && html`<bdi>${it.host}</bdi>`],
        ["Schedule", it.schedule && html`<span class="mono">${it.schedule}</span>${it.timezone && html` <span class="quiet">${it.timezone}</span>`}`],
        ["Next backup", timed(it.next_run)],
        ["Last good backup", timed(it.last_backup?.time) ?? "never"],
        ["Promised", it.max_age_seconds && html`never older than ${spanOf(it.max_age_seconds)}`],
        ["Stale without another", timed(it.stale_after)],
        ["Read back", timed(it.last_verified?.time) ?? "never"],
        ["Kept", it.keep ?? (it.configured ? "all backups" : null)],
        ["Backups", it.backups !== undefined && `${count(it.backups, "backup")}${it.repository_bytes === undefined ? "" : `, ${bytes(it.repository_bytes)} in the repository`}`],
        ["Drills", it.drill_schedule && html`<span class="mono">${it.drill_schedule}</span>`],
        ["Next drill", timed(it.next_drill)],
        ["Last drill", drill && html`<${Ending} run=${drill} /> ${timed(drill.started)}${drill.error && html`<br /><bdi>${drill.error}</bdi>`}`],
        ["Failures in a row", it.consecutive_failures > 0 ? String(it.consecutive_failures) : null],
    ];
    return html`<${Facts} items=${facts.filter(([, value]) => value !== false)} />`;
}

function Runs({ name, runs }) {
    const { data, error, reload } = runs;
    const live = useRunsUnderWay(data?.live, (run) => run.database === name);
    const ended = (data?.runs ?? []).filter(({ ending }) => ending);
    return html`<${Section} title="Runs" actions=${html`<${Link} to=${["runs"]} query=${{ database: name }}>All runs<//>`}>
        <${Failure} problem=${error} onRetry=${reload} />
        ${live.map((run) => html`<${Progress} key=${run.id} live=${run} />`)}
        ${!data && !error && html`<${Loading} />`}
        ${data && ended.length === 0 && live.length === 0 && html`<p class="quiet">Nothing has run here yet.</p>`}
        <ul class="run-list">${ended.map((run) => html`<li key=${run.id}>
            <${Ending} run=${run} /> <${Link} to=${["runs", String(run.id)]}>${capital(run.kind)}<//>
            <span class="quiet"><${Ago} time=${run.started} />${run.duration_ms === null ? "" : ` · ${duration(run.duration_ms)}`}</span>
            ${run.error && html`<bdi class="reason-text">${run.error.message}</bdi>`}
        </li>`)}</ul>
    <//>`;
}

export default function Database({ params: { name } }) {
    const on = changes(name);
    const database = useResource(path`/api/databases/${name}`, { on });
    const runs = useResource(`${path`/api/runs?database=${name}`}&limit=${RUNS_SHOWN}`, { on });
    // A run that begins changes nothing in these.
    const series = useResource(path`/api/databases/${name}/series`, { on: (event) => event.type !== "run-started" && on(event) });
    const it = database.data;
    // Of one that was never backed up there is nothing to ask for; damaged backups are not counted.
    const hasBackups = it?.backups !== 0 || it.problems.some(({ kind }) => kind === "damage");
    const heading = html`<p class="crumbs"><${Link} to=${[]}>Databases<//></p>
        <div class="title-line"><${Heading} title=${name}><${Name}>${name}<//><//>${it && html`<${State} of=${it} />`}</div>`;
    if (!it) {
        const failure = html`<${Failure} problem=${database.error} onRetry=${database.reload} />`;
        return html`${heading}${database.error ? failure : html`<${Loading} />`}`;
    }
    return html`${heading}
        <${Problems} lines=${it.problems.map(({ message }) => capital(message))} />
        ${it.notes?.length > 0 && html`<ul class="notes">${it.notes.map((note, n) => html`<li key=${n}>${capital(note)}</li>`)}</ul>`}
        <${Failure} problem=${database.error} onRetry=${database.reload} title="This could not be read again" />
        <${Actions} database=${it} />
        <div class="halves">
            <${Section} title="Facts"><${Overview} database=${it} /><//>
            <${Runs} name=${name} runs=${runs} />
        </div>
        ${!hasBackups && html`<${Empty} title="There is no backup yet."><p>“Back up now” makes the first one.</p><//>`}
        <${Failure} problem=${series.error} title="How it grew could not be read" onRetry=${series.reload} />
        ${series.data?.days.length > 0 && html`<${Growth} series=${series.data} />`}
        ${hasBackups && html`<${Backups} name=${name} on=${on} />`}
        ${series.data?.journal.length > 0 && html`<${Journal} name=${name} journal=${series.data.journal} />`}
        ${it.capabilities?.snapshots !== false && html`<${Snapshots} name=${name} on=${on} />`}`;
}

// How a database grew, and on which days it was backed up.

import { html, useMemo } from "../../lib/html.js";
import { Section } from "../../lib/parts.js";
import { Calendar, Plot } from "../../lib/plot.js";
import { now } from "../../lib/text.js";

const PLOTS = [
    ["Size of the database", "logical_bytes", "Size", "bytes"],
    ["Added by each backup", "added_bytes", "Added", "bytes"],
    ["Read by a restore", "stored_bytes", "Read", "bytes"],
    ["Duration of each backup", "duration_ms", "Duration", "ms"],
];

/** The last day of the calendar; undefined for a zone that this browser does not know. */
function todayIn(timeZone) {
    try {
        // A zone without a name is an offset, "+02"; browsers want its minutes.
        return new Intl.DateTimeFormat("sv-SE", { timeZone: timeZone.replace(/^([+-]\d\d)$/, "$1:00") }).format(now());
    } catch {
        return undefined;
    }
}

export default function Growth({ series: { backups, days, timezone } }) {
    // The same arrays as long as nothing new was read: plots are drawn anew with others.
    const plots = useMemo(() => PLOTS.map(([title, key, label, unit]) => ({ title, series: [{ label, unit, values: backups[key] }] })), [backups]);
    return html`
        ${backups.time.length > 0 && html`<${Section} title="Growth">
            <div class="plots">${plots.map(({ title, series }) => html`<${Plot} key=${title} title=${title} times=${backups.time} series=${series} />`)}</div><//>`}
        <${Section} title="Days"><${Calendar} days=${days} today=${todayIn(timezone)} /><p class="quiet small-text">Days as in ${timezone}.</p><//>`;
}

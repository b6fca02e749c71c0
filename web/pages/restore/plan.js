// What a restore would do, as the server planned it.

import { html } from "../../lib/html.js";
import { Ago, Copy, Facts, Time } from "../../lib/parts.js";
import { bytes, capital, count, duration } from "../../lib/text.js";

const EXISTS = { true: "there is something", false: "nothing is there yet" };

function list(kind, sign, word, lines) {
    if (lines.length === 0) return null;
    return html`<ul class=${kind}>${lines.map((line, n) => html`<li key=${n}><span aria-hidden="true">${sign} </span><span class="visually-hidden">${word}: </span>${capital(line)}</li>`)}</ul>`;
}

export default function Plan({ plan }) {
    const { backup, segment, space } = plan;
    const seconds = plan.estimated_seconds;
    const long = seconds !== null && (seconds < 60 ? count(seconds, "second") : duration(seconds * 1000));
    const time = seconds === null ? "not known yet: nothing was restored before" : `about ${long}, by past ${plan.estimated_from}`;
    const room = space && `${space.is_enough ? "enough" : "not enough"}: ${bytes(space.needed_bytes)} needed, ${bytes(space.available_bytes)} free`;
    const facts = [
        ["Backup", html`<span class="mono">${backup.id}</span>, <${Time} time=${backup.time} /> <span class="quiet">(<${Ago} time=${backup.time} />)</span>`],
        ["Up to", segment && html`<${Time} time=${segment.time} />, by the journal`],
        ["To", html`<bdi class="mono">${plan.target}</bdi>${plan.is_original && " (its original place)"}`],
        ["What is there", plan.replaces ? html`<strong class="bad-text">a database, which is replaced</strong>` : (EXISTS[plan.exists] ?? "not known")],
        ["Size", bytes(plan.logical_bytes)],
        ["To be read", bytes(plan.read_bytes)],
        ["Time", time],
        ["Space", space && html`<span class=${space.is_enough ? "" : "bad-text"}>${room}</span>`],
    ];
    return html`<h3>What happens</h3>
        ${list("problems", "!", "Problem", plan.problems)}
        ${list("warnings", "⚠", "Warning", plan.warnings)}
        <${Facts} items=${facts} />
        ${plan.command && html`<details><summary>The same on the command line</summary><${Copy} text=${plan.command} /></details>`}`;
}

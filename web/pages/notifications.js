// Who is told, how that went, and trials.

import { html, useState } from "../lib/html.js";
import { path, post } from "../lib/api.js";
import { useLook, useResource } from "../lib/live.js";
import { Ago, Button, Empty, Failure, Heading, Loading, Name, Table, useAction } from "../lib/parts.js";
import { age, count } from "../lib/text.js";

const EXAMPLE = `[notify.ops]
webhook = "https://example.org/hook"

[databases.shop]
notify = ["ops"]`;

/** All that somebody might be told of. */
const concerns = ({ type }) => type !== "progress" && type !== "run-started";

function Trial({ name, onDone }) {
    const [isDelivered, setDelivered] = useState(false);
    const trial = useAction(async () => {
        setDelivered(false);
        try {
            await post(path`/api/notifiers/${name}/test`);
            setDelivered(true);
        } finally {
            onDone();
        }
    });
    return html`<${Button} needs="operator" busy=${trial.busy} aria-label=${`Send a test to ${name}`} onClick=${trial.run}>${trial.busy ? "Sending …" : "Send a test"}<//>
        <span role="status" class="trial-result">${isDelivered && html`<span class="good-text"><span aria-hidden="true">✓ </span>delivered</span>`}</span>
        <${Failure} problem=${trial.problem} />`;
}

function Errors({ status }) {
    if (!status.last_error) return html`<span class="quiet">none</span>`;
    return html`<span class="bad-text">${status.last_error}</span> <span class="quiet small-text"><${Ago} time=${status.last_error_time} /></span>`;
}

function Waiting({ status }) {
    if (status.waiting === 0) return html`<span class="quiet">none</span>`;
    const isDue = !status.next_attempt || age(status.next_attempt) >= 0;
    return html`${status.waiting} <span class="quiet small-text">${isDue ? "under way" : html`next attempt <${Ago} time=${status.next_attempt} />`}</span>`;
}

const columns = (reload) => [
    { id: "name", label: "Notifier", header: true, kind: "wide", cell: ([name]) => html`<${Name}>${name}<//>` },
    { id: "sent", label: "Last delivered", cell: ([, status]) => html`<${Ago} time=${status.last_sent} />` },
    { id: "error", label: "Last failure", kind: "why", cell: ([, status]) => html`<${Errors} status=${status} />` },
    { id: "waiting", label: "Waiting", cell: ([, status]) => html`<${Waiting} status=${status} />` },
    { id: "lost", label: "Never delivered", cell: ([, status]) => (status.lost ? html`<span class="bad-text">${status.lost}</span>` : html`<span class="quiet">none</span>`) },
    { id: "trial", label: "Test", cell: ([name]) => html`<${Trial} name=${name} onDone=${reload} />` },
];

function sentence(notifiers) {
    const bad = notifiers.filter(([, status]) => status.last_error).length;
    if (notifiers.length === 0) return "Nobody is told when something goes wrong";
    const state = bad === 0 ? "none has failed last" : bad === notifiers.length ? "none could deliver last" : `${bad} could not deliver last`;
    return notifiers.length === 1 ? `1 notifier, which ${bad > 0 ? "could not deliver last" : "has not failed last"}` : `${count(notifiers.length, "notifier")}, ${state}`;
}

export default function Notifications() {
    const resource = useResource("/api/notifiers", { on: concerns });
    const { data, error, loading, reload } = resource;
    // What is tried again later is no event.
    useLook(true, resource);
    if (!data) {
        return html`<${Heading} title="Notifications">Notifications<//>
            ${error ? html`<${Failure} problem=${error} onRetry=${reload} />` : html`<${Loading} />`}`;
    }
    const notifiers = Object.entries(data.notifiers);
    const isBad = notifiers.length === 0 || notifiers.some(([, status]) => status.last_error);
    return html`<div class=${`summary ${isBad ? "bad" : "good"}`}><${Heading} title="Notifications">${sentence(notifiers)}<//></div>
        <${Failure} problem=${error} onRetry=${reload} />
        ${notifiers.length > 0 && html`<${Table} caption="Notifiers" kind="notifiers" columns=${columns(reload)} rows=${notifiers} keyOf=${([name]) => name} busy=${loading} />`}
        ${notifiers.length === 0 && html`<${Empty} title="No notifier is configured.">
            <p>A failed backup that nobody hears of is found when it is needed. Name one in the configuration, for example:</p>
            <pre><code>${EXAMPLE}</code></pre>
        <//>`}`;
}

// Snapshots beside a database: take one, rewind to one, remove one.

import { html, useState } from "../../lib/html.js";
import { path, post } from "../../lib/api.js";
import { useResource } from "../../lib/live.js";
import { Ago, Button, Confirm, Dialog, Failure, Name, Problems, Section, Table, TextField, say, useAction } from "../../lib/parts.js";
import { bytes } from "../../lib/text.js";
import { Follow, useRun } from "../follow.js";

function Take({ name }) {
    const [called, setCalled] = useState("");
    const take = useAction(async () => {
        const { run } = await post(path`/api/databases/${name}/snapshots`, called.trim() ? { name: called.trim() } : {});
        setCalled("");
        say(`A snapshot of ${name} is taken.`, { to: ["runs", String(run)], text: `Run ${run}` });
    });
    const submit = (event) => {
        event.preventDefault();
        take.run();
    };
    return html`<form class="inline" onSubmit=${submit}>
        <${TextField} label="Name of a new snapshot" hint="If left empty it is named after the time." maxlength="200" value=${called} onInput=${setCalled} />
        <${Button} type="submit" needs="operator" busy=${take.busy}>Take a snapshot<//>
    </form>
    <${Failure} problem=${take.problem} />`;
}

function Together({ snapshot }) {
    const others = snapshot.together;
    if (others.length === 0) return null;
    return html`<p>It was taken together with ${others.map((other, n) => html`${n > 0 && ", "}<${Name} key=${other}>${other}<//>`)}, which stay as they are.</p>`;
}

function Rewind({ name, snapshot, onClose }) {
    const [typed, setTyped] = useState("");
    const [id, setId] = useState(null);
    const following = useRun(id);
    const start = useAction(async () => {
        const { run } = await post(path`/api/databases/${name}/rewind`, { snapshot: snapshot.id, confirm: typed });
        setId(run);
    });
    const why = typed === name ? undefined : "Type the database's name first.";
    return html`<${Dialog} title="Rewind to a snapshot" onClose=${onClose}>
        ${id ? html`<${Follow} following=${following} good="Rewound" />` : html`
            <p><${Name}>${name}<//> becomes what it was when the snapshot <${Name}>${snapshot.name}<//> was taken, <${Ago} time=${snapshot.time} />.
                Whatever was written since then is lost.</p>
            <${Together} snapshot=${snapshot} />
            <${Confirm} name=${name} value=${typed} onInput=${setTyped} />
            <${Failure} problem=${start.problem} />
            <${Button} kind="danger" needs="admin" token why=${why} busy=${start.busy} onClick=${start.run}>Rewind<//>`}
    <//>`;
}

function Remove({ name, snapshot, onClose, onRemoved }) {
    const [typed, setTyped] = useState("");
    const remove = useAction(async () => {
        await post(path`/api/databases/${name}/snapshots/${snapshot.id}/remove`, { confirm: typed });
        say(`The snapshot ${snapshot.name} was removed.`);
        onRemoved();
    });
    const why = typed === snapshot.name ? undefined : "Type the snapshot's name first.";
    return html`<${Dialog} title="Remove a snapshot" onClose=${onClose}>
        <p>The copy of <${Name}>${name}<//> that the snapshot <${Name}>${snapshot.name}<//> holds is deleted. Backups are not touched.</p>
        <${Together} snapshot=${snapshot} />
        <${Confirm} name=${snapshot.name} value=${typed} onInput=${setTyped} />
        <${Failure} problem=${remove.problem} />
        <${Button} kind="danger" needs="admin" why=${why} busy=${remove.busy} onClick=${remove.run}>Remove<//>
    <//>`;
}

export default function Snapshots({ name, on }) {
    const { data, error, reload } = useResource(path`/api/databases/${name}/snapshots`, { on: (event) => event.type === "run-ended" && on(event) });
    const [dialog, show] = useState(null);
    const close = () => show(null);
    if (!error && !data?.supported) return null;
    const columns = [
        { id: "name", label: "Name", header: true, cell: (it) => html`<${Name}>${it.name}<//>${it.label && html` <bdi class="quiet">${it.label}</bdi>`}` },
        { id: "time", label: "Taken", cell: (it) => html`<${Ago} time=${it.time} />` },
        { id: "size", label: "Size", numeric: true, cell: (it) => (it.size_bytes === null || it.size_bytes === undefined ? "not known" : bytes(it.size_bytes)) },
        { id: "actions", label: "Actions", kind: "cell-actions", cell: (it) => html`<span class="row-actions">
            <${Button} kind="small" needs="admin" token aria-label=${`Rewind to ${it.name}`} onClick=${() => show({ Shown: Rewind, snapshot: it })}>Rewind<//>
            <${Button} kind="small" needs="admin" aria-label=${`Remove ${it.name}`} onClick=${() => show({ Shown: Remove, snapshot: it })}>Remove<//></span>` },
    ];
    return html`<${Section} title="Snapshots">
        <${Failure} problem=${error} onRetry=${reload} />
        <${Problems} lines=${data?.failures} />
        ${data && html`<${Take} name=${name} />`}
        ${data?.snapshots.length > 0 && html`<${Table} kind="snapshots" caption="Snapshots, newest first" columns=${columns} rows=${data.snapshots} keyOf=${({ id }) => id} />`}
        ${dialog && html`<${dialog.Shown} name=${name} snapshot=${dialog.snapshot} onClose=${close} onRemoved=${() => {
            close();
            reload();
        }} />`}
    <//>`;
}

// What a prune would delete and free, and the prune itself.

import { html, useState } from "../../lib/html.js";
import { get, path, post } from "../../lib/api.js";
import { useResource } from "../../lib/live.js";
import { Button, Dialog, Facts, Failure, Loading, Name, useAction } from "../../lib/parts.js";
import { bytes, count, words } from "../../lib/text.js";
import { Follow, useRun } from "../follow.js";

/** The server takes no more ids than these at once. */
const MOST = 2000;

function Lists({ plan }) {
    const kept = plan.kept.map(({ id, reasons }) => html`<li key=${id}><span class="mono">${id}</span> <span class="quiet">${reasons.map(words).join(", ")}</span></li>`);
    return html`
        ${plan.deleted.length > 0 && html`<details open><summary>${count(plan.deleted.length, "backup")} would go</summary>
            <ul class="scroll ids" tabindex="0" aria-label="Backups that would go">${plan.deleted.map((id) => html`<li key=${id} class="mono">${id}</li>`)}</ul></details>`}
        <details><summary>${count(plan.kept.length, "backup")} would stay</summary><ul class="scroll ids" tabindex="0" aria-label="Backups that would stay">${kept.reverse()}</ul></details>`;
}

function Plan({ name, plan, onStarted, onChanged }) {
    const [isSure, setSure] = useState(false);
    const prune = useAction(async () => {
        // With time, rules let go of others: what goes is what is shown. The run refuses to delete more.
        const now = await get(path`/api/databases/${name}/prune`);
        if (String(now.deleted) !== String(plan.deleted)) {
            onChanged();
            return;
        }
        const { run } = await post(path`/api/databases/${name}/prune`, { deleted: plan.deleted });
        onStarted(run);
    });
    const number = plan.deleted.length;
    const why = () => {
        if (number > MOST) return `These are more than ${MOST}: copal prune deletes them on the command line.`;
        return isSure || number === 0 ? undefined : "Say that they may go first.";
    };
    const nothing = plan.rules ? "Nothing would go." : "There are no rules: nothing is ever deleted.";
    return html`
        <${Facts} items=${[["Rules", plan.rules ?? "none"], ["Would be freed", bytes(plan.freed_bytes)]]} />
        ${number === 0 && plan.freed_bytes === 0 && html`<p>${nothing}</p>`}
        <${Lists} plan=${plan} />
        ${number > 0 && html`<label class="check"><input type="checkbox" checked=${isSure} onChange=${(event) => setSure(event.currentTarget.checked)} />
            Delete ${count(number, "backup")} of <${Name}>${name}<//> for good</label>`}
        <${Failure} problem=${prune.problem} />
        ${(number > 0 || plan.freed_bytes > 0) && html`<${Button} kind="danger" needs="operator" busy=${prune.busy} onClick=${prune.run}
            why=${why()}>Prune now<//>`}`;
}

export default function Prune({ name, onClose }) {
    const [id, setId] = useState(null);
    const following = useRun(id);
    const { data, error, reload } = useResource(id ? null : path`/api/databases/${name}/prune`);
    const [isChanged, setChanged] = useState(false);
    const changed = () => {
        setChanged(true);
        reload();
    };
    // Another list has to be agreed to anew.
    const plan = data ? html`<${Plan} key=${String(data.deleted)} name=${name} plan=${data} onStarted=${setId} onChanged=${changed} />` : !error && html`<${Loading} what="Looking what would go" />`;
    return html`<${Dialog} title=${html`Prune of <${Name}>${name}<//>`} onClose=${onClose}>
        ${id ? html`<${Follow} following=${following} good="Pruned" />` : html`<${Failure} problem=${error} onRetry=${reload} />
            <div role="status">${isChanged && html`<p>Others would go than a moment ago; nothing was deleted yet.</p>`}</div>${plan}`}
    <//>`;
}

// What is restored, and where to.

import { html } from "../../lib/html.js";
import { Field, TextField } from "../../lib/parts.js";
import { ago, bytes, when } from "../../lib/text.js";
import { momentHint, momentOf } from "../moments.js";

function optionOf({ id, time, logical_bytes, label, verified, pinned }) {
    const parts = [`${when(time)} (${ago(time)})`, bytes(logical_bytes), label && `“${label}”`, verified && "read back", pinned && "pinned"];
    return html`<option key=${id} value=${id}>${parts.filter(Boolean).join(" · ")}</option>`;
}

function Radio({ group, value, choice, choose, children }) {
    return html`<label class="radio"><input type="radio" name=${group} value=${value} checked=${choice[group] === value}
        onChange=${() => choose({ [group]: value })} /><span>${children}</span></label>`;
}

export default function Choice({ choice, choose, backups, source }) {
    const isListed = backups.some(({ id }) => id === choice.backup);
    const pick = (key) => (value) => choose({ [key]: value });
    return html`
        <fieldset>
            <legend>What</legend>
            <div class="radios">
                <${Radio} group="what" value="backup" choice=${choice} choose=${choose}>A backup<//>
                <${Radio} group="what" value="moment" choice=${choice} choose=${choose}>A moment<//>
            </div>
            ${choice.what === "backup" && html`<${Field} label="Backup">${(id) => html`<select id=${id} value=${choice.backup} onChange=${(event) => pick("backup")(event.currentTarget.value)}>
                ${!isListed && choice.backup && html`<option value=${choice.backup}>${choice.backup}</option>`}
                ${[...backups].reverse().map(optionOf)}
            </select>`}<//>`}
            ${choice.what === "moment" && html`<${TextField} label="Moment" hint=${momentHint(momentOf(choice.moment, choice.at))} type="datetime-local" step="1"
                value=${choice.moment} onInput=${pick("moment")} />`}
        </fieldset>
        <fieldset>
            <legend>Where to</legend>
            <div class="radios">
                <${Radio} group="where" value="original" choice=${choice} choose=${choose}>Its original place${source && html` <bdi class="mono quiet">${source}</bdi>`}<//>
                <${Radio} group="where" value="other" choice=${choice} choose=${choose}>Another place<//>
            </div>
            ${choice.where === "other" && html`<${TextField} label="Place" hint="An absolute path on the daemon's machine, or a database's URL." value=${choice.to}
                autocapitalize="off" placeholder="sqlite:/tmp/copy.db" onInput=${pick("to")} />`}
        </fieldset>`;
}

// Which moments between the backups can be restored, and a moment to go to.

import { html, useMemo, useState } from "../../lib/html.js";
import { Button, Section, TextField, Time } from "../../lib/parts.js";
import { go } from "../../lib/route.js";
import { count } from "../../lib/text.js";
import { localInput, momentHint, momentOf } from "../moments.js";

const RANGES_SHOWN = 5;

export default function Journal({ name, journal }) {
    const newest = useMemo(() => [...journal].sort((a, b) => Date.parse(b.to) - Date.parse(a.to)), [journal]);
    const earliest = journal.reduce((first, { from }) => (Date.parse(from) < Date.parse(first) ? from : first), journal[0].from);
    const [last] = useState(newest[0].to);
    const [moment, setMoment] = useState(localInput(last));
    const at = momentOf(moment, last);
    const submit = (event) => {
        event.preventDefault();
        if (at) go(["databases", name, "restore"], { at });
    };
    return html`<${Section} title="Between the backups">
        <p>Any moment that was saved in these times can be restored:</p>
        <ul class="ranges">${newest.slice(0, RANGES_SHOWN).map(({ backup, from, to, segments }) => html`<li key=${backup}>
            <${Time} time=${from} /> to <${Time} time=${to} /> <span class="quiet">${count(segments, "moment")}</span></li>`)}</ul>
        ${newest.length > RANGES_SHOWN && html`<p class="quiet">and ${count(newest.length - RANGES_SHOWN, "earlier range")}, from <${Time} time=${earliest} /> on</p>`}
        <form class="inline" onSubmit=${submit}>
            <${TextField} label="Restore as it was at" hint=${momentHint(at)} type="datetime-local" step="1" min=${localInput(earliest)} value=${moment} onInput=${setMoment} />
            <${Button} type="submit" needs="operator" token why=${at ? undefined : "Choose a moment first."}>Restore this moment<//>
        </form>
    <//>`;
}

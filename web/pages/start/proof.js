// The third step's end: the first backups, and the proof that one of them can be restored.

import { html } from "../../lib/html.js";
import { useRunsUnderWay } from "../../lib/live.js";
import { Copy, DatabaseLink, Ending, Failure, Link, Progress } from "../../lib/parts.js";
import { capital } from "../../lib/text.js";
import { Follow, useRun } from "../follow.js";
import { change, prove } from "./progress.js";

function Written({ written }) {
    return html`<section class="written" aria-labelledby="written">
        <h2 id="written">It is written</h2>
        <p><strong>Your token:</strong> it is shown this once, and you sign in with it. Keep it.</p>
        <p><${Copy} text=${written.token} /></p>
        <p>The configuration is in <bdi class="mono">${written.configuration}</bdi>${written.passphrase_file && html`, the passphrase in <bdi class="mono">${written.passphrase_file}</bdi>`},
            the backups go to <bdi class="mono">${written.repository}</bdi>.</p>
        <details><summary>What is in the configuration</summary><pre class="scroll" tabindex="0">${written.text}</pre><${Copy} text=${written.text} hidden /></details>
    </section>`;
}

function Backup({ name, run, live }) {
    const progress = live.find(({ database }) => database === name);
    return html`<li><${DatabaseLink} name=${name} /> ${run?.ending ? html`<${Ending} run=${run} />` : html`<span class="quiet">waiting</span>`}
        ${!run?.ending && progress && html`<${Progress} live=${progress} />`}
        ${run?.error && html`<bdi class="reason-text">${capital(run.error.message)}</bdi>`}</li>`;
}

export default function Proof({ state }) {
    const { written, phase, databases, runs, drill, problem } = state;
    const live = useRunsUnderWay(state.live);
    const following = useRun(drill?.run);
    const isProven = following.run?.ending === "success";
    const good = (isChecked) => (isChecked ? "Restored and checked: it works" : "Read back; a restore could not be tried here");
    const end = () => change({ step: "what", databases: [], written: null, phase: "", runs: {}, live: [], drill: null });
    return html`
        <${Written} written=${written} />
        <h2>The first backups</h2>
        ${phase === "waiting" && !problem && html`<p role="status">The daemon starts …</p>`}
        <${Failure} problem=${problem} onRetry=${prove} />
        ${phase !== "waiting" && html`<ul class="firsts">${databases.map(({ name }) => html`<${Backup} key=${name} name=${name} run=${runs[name]} live=${live} />`)}</ul>`}
        ${phase === "failed" && html`<${Failure} problem=${{ message: "no backup could be made; what stands above says why" }} onRetry=${prove} />`}
        ${drill && html`<h2>The proof</h2><p>The backup of <${DatabaseLink} name=${drill.name} /> is restored to a scratch place and checked there.</p>
            <${Follow} following=${following} good=${good} />`}
        ${(isProven || phase === "failed" || following.isOver) && html`<p><${Link} to=${[]} class="button primary" onClick=${end}>To the overview<//></p>`}`;
}

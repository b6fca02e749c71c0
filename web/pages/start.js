// The first start in three steps: what, where to, go.

import { html, useEffect, useState } from "../lib/html.js";
import { get, loadSession, useSession } from "../lib/api.js";
import { Button, Empty, Facts, Failure, Heading, Link, Loading, Name, TextField, useAction } from "../lib/parts.js";
import { go } from "../lib/route.js";
import { change, headers, progress, write } from "./start/progress.js";
import Proof from "./start/proof.js";
import What, { whyNot as whyNotWhat } from "./start/what.js";
import Where from "./start/where.js";

const STEPS = [["what", "What to protect"], ["where", "Where to"], ["go", "Go"]];

function Steps({ step }) {
    return html`<ol class="steps" aria-label="Steps">${STEPS.map(([id, label]) => html`<li key=${id} aria-current=${id === step ? "step" : undefined}>${label}</li>`)}</ol>`;
}

/** The code from the terminal: it proves that it is you who started Copal. */
function Code({ code, problem, retry }) {
    const [typed, setTyped] = useState(code);
    const submit = (event) => {
        event.preventDefault();
        if (typed.trim() === code) retry();
        else if (typed.trim()) go(["start"], { code: typed.trim() }, { replace: true });
    };
    const isWrong = problem?.status === 401;
    return html`<form onSubmit=${submit}>
        ${isWrong ? html`<${Failure} problem=${problem} title="This code is not right" />` : html`<${Failure} problem=${problem} />`}
        <${TextField} label="Code" hint="It stands in the address that copal serve has printed." value=${typed} autocapitalize="characters" onInput=${setTyped} />
        <${Button} type="submit" kind="primary" why=${typed.trim() ? undefined : "Type the code first."}>Go on<//>
    </form>`;
}

function Go({ setup, code, state }) {
    const { databases, place, encrypt } = state;
    const doIt = useAction(() => write(code));
    const facts = [
        ["Databases", html`<ul class="plain-list">${databases.map(({ name, url, schedule }) => html`<li key=${url}><${Name}>${name}<//> <span class="quiet">${schedule}</span></li>`)}</ul>`],
        ["Backups go to", html`<bdi class="mono">${place.trim() || setup.default_repository}</bdi>`],
        ["Encryption", encrypt ? "with your passphrase" : "none"],
        ["Configuration", html`<bdi class="mono">${setup.configuration}</bdi>`],
    ];
    return html`<${Facts} items=${facts} />
        <p>The configuration is written, the daemon starts, makes the first backup of each database, and restores one of them to a scratch place to prove that it works.</p>
        <${Failure} problem=${doIt.problem} title="Nothing was written" />
        <p class="actions"><${Button} why=${doIt.busy ? "It is being written." : undefined} onClick=${() => change({ step: "where" })}>Back<//>
            <${Button} kind="primary" busy=${doIt.busy} why=${whyNotWhat(databases)} onClick=${doIt.run}>Protect them<//></p>`;
}

function Wizard({ code, state }) {
    const [{ setup, problem }, show] = useState({});
    const [turn, setTurn] = useState(0);
    useEffect(() => {
        let isWanted = true;
        const tell = (now) => isWanted && show(now);
        show({});
        if (code) get("/api/setup", { headers: headers(code) }).then((setup) => tell({ setup }), (problem) => {
            tell({ problem });
            // It may have been set up meanwhile, in another tab.
            loadSession().catch(() => {});
        });
        return () => {
            isWanted = false;
        };
    }, [code, turn]);
    if (!code || problem) return html`<${Code} key=${code} code=${code} problem=${problem} retry=${() => setTurn(turn + 1)} />`;
    if (!setup) return html`<${Loading} />`;
    const steps = {
        what: () => html`<${What} setup=${setup} code=${code} databases=${state.databases} />`,
        where: () => html`<${Where} setup=${setup} state=${state} />`,
        go: () => html`<${Go} setup=${setup} code=${code} state=${state} />`,
    };
    return html`<${Steps} step=${state.step} /><h2 tabindex="-1" key=${state.step} ref=${focusStep}>${STEPS.find(([id]) => id === state.step)[1]}</h2>${steps[state.step]()}`;
}

let focused = "what";

/** The heading of another step gets the focus, as that of another page does. */
function focusStep(heading) {
    const { step } = progress.get();
    if (!heading || focused === step) return;
    focused = step;
    heading.focus();
}

export default function Start({ query }) {
    const session = useSession();
    const state = progress.use();
    const heading = html`<${Heading} title="Start">Protect your databases<//>`;
    if (state.written) return html`<div class="start">${heading}<${Proof} state=${state} /></div>`;
    if (session && !session.setup) {
        return html`${heading}<${Empty} title="Copal is set up already."><p>Its databases are on the <${Link} to=${[]}>overview<//>; others are added in <code>copal.toml</code>.</p><//>`;
    }
    return html`<div class="start">${heading}<${Wizard} code=${query.code ?? ""} state=${state} /></div>`;
}

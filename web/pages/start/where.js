// The second step: where the backups go, and whether they are encrypted.

import { html, useState } from "../../lib/html.js";
import { Button, Copy, TextField } from "../../lib/parts.js";
import { change } from "./progress.js";

const SHORTEST = 8;
const LETTERS = "abcdefghjkmnpqrstuvwxyz23456789";
const GROUPS = 6;

/** A passphrase of 118 random bits that can be read out: six groups of four. */
function random() {
    const limit = 256 - (256 % LETTERS.length);
    let text = "";
    while (text.length < GROUPS * 4) {
        // What lies above would make the first letters likelier.
        const [byte] = crypto.getRandomValues(new Uint8Array(1));
        if (byte < limit) text += LETTERS[byte % LETTERS.length];
    }
    return text.match(/.{4}/g).join("-");
}

/** Why one cannot go on yet; undefined if one can. */
export function whyNot({ isOther, place, encrypt, passphrase, repeated }) {
    if (isOther && !place.trim()) return "Say where the backups go first.";
    if (!encrypt) return undefined;
    if (passphrase.length < SHORTEST) return `The passphrase needs ${SHORTEST} characters at least.`;
    if (passphrase !== repeated) return "The two passphrases differ.";
    return undefined;
}

export default function Where({ setup, state }) {
    const [isOther, setOther] = useState(state.place !== "");
    const [made, setMade] = useState("");
    const keep = (key) => (value) => change({ [key]: value });
    const other = (isOther) => {
        setOther(isOther);
        if (!isOther) change({ place: "" });
    };
    const make = () => {
        const passphrase = random();
        setMade(passphrase);
        change({ passphrase, repeated: passphrase });
    };
    const secret = (key, label) => html`<${TextField} label=${label} type="password" value=${state[key]} autocomplete="new-password" maxlength="1024" onInput=${keep(key)} />`;
    const why = whyNot({ ...state, isOther });
    const submit = (event) => {
        event.preventDefault();
        if (!why) change({ step: "go" });
    };
    return html`<form onSubmit=${submit}>
        <fieldset>
            <legend>Where to</legend>
            <label class="radio"><input type="radio" name="place" checked=${!isOther} onChange=${() => other(false)} /><span>On this machine <bdi class="mono quiet">${setup.default_repository}</bdi></span></label>
            <label class="radio"><input type="radio" name="place" checked=${isOther} onChange=${() => other(true)} /><span>Another place</span></label>
            ${isOther && html`<${TextField} label="Repository" hint="Another disk or machine survives what this one does not: an absolute path, or s3://bucket/path."
                value=${state.place} onInput=${keep("place")} />`}
        </fieldset>
        <fieldset>
            <legend>Encryption</legend>
            <label class="check"><input type="checkbox" checked=${state.encrypt} onChange=${(event) => change({ encrypt: event.currentTarget.checked })} /> Encrypt the backups with a passphrase</label>
            ${state.encrypt && html`
                ${secret("passphrase", "Passphrase")}
                ${secret("repeated", "Passphrase again")}
                <p><${Button} kind="small" onClick=${make}>Make one up<//></p>
                ${made && made === state.passphrase && html`<p>It is: <${Copy} text=${made} /></p>`}
                <p class="warning"><strong>Without the passphrase nothing can be restored, by nobody.</strong> Keep it where you find it when this machine is gone.
                    It will also stand in a file beside the configuration, which only you can read.</p>`}
            ${!state.encrypt && html`<p class="warning">Whoever can read the repository can then read your data.</p>`}
        </fieldset>
        <p class="actions"><${Button} onClick=${() => change({ step: "what" })}>Back<//> <${Button} type="submit" kind="primary" why=${why}>Next: go<//></p>
    </form>`;
}

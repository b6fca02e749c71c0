// Buttons, dialogs and fields.

import { html, useEffect, useId, useRef, useState } from "./html.js";
import { Problem, useSession, whyNot } from "./api.js";

/** An action and how it does: `{ run, busy, problem, clear }`. While it goes on it is not started again. */
export function useAction(act) {
    const [state, show] = useState({ busy: false, problem: null });
    const isBusy = useRef(false);
    const run = async (...given) => {
        if (isBusy.current) return;
        isBusy.current = true;
        show({ busy: true, problem: null });
        let problem = null;
        try {
            await act(...given);
        } catch (error) {
            problem = error instanceof Problem ? error : new Problem(0, { message: String(error) });
        }
        isBusy.current = false;
        show({ busy: false, problem });
    };
    return { ...state, run, clear: () => show({ busy: false, problem: null }) };
}

/**
 * A button. Who has not the role `needs` (and a token, with `token`), sees it with the reason why not, and `why` is any other
 * reason. It stays focusable then, since otherwise nobody who uses the keyboard would learn the reason.
 */
export function Button({ needs, token = false, why, busy = false, kind = "", onClick, children, ...rest }) {
    useSession();
    const id = useId();
    const reason = why ?? (needs ? whyNot(needs, token) : null);
    const isOff = Boolean(reason) || busy;
    const click = (event) => {
        if (isOff) event.preventDefault();
        else onClick?.(event);
    };
    return html`<span class="button-box">
        <button type="button" class=${`button ${kind}`} aria-disabled=${isOff ? "true" : undefined} aria-busy=${busy ? "true" : undefined}
            aria-describedby=${reason ? id : undefined} ...${rest} onClick=${click}>${children}</button>
        ${reason && html`<span class="reason" role="tooltip" id=${id}>${reason}</span>`}
    </span>`;
}

/** A label with what it is for; the child is told its id: `children(id, hintId)`. */
export function Field({ label, hint, children }) {
    const id = useId();
    return html`<div class="field">
        <label for=${id}>${label}</label>
        ${children(id, hint ? `${id}-hint` : undefined)}
        ${hint && html`<p class="hint" id=${`${id}-hint`}>${hint}</p>`}
    </div>`;
}

/** A field of one line; `onInput` is told the text, and what else is given goes to the input. */
export const TextField = ({ label, hint, onInput, ...rest }) => html`<${Field} label=${label} hint=${hint}>${(id, hintId) => html`<input id=${id}
    aria-describedby=${hintId} type="text" autocomplete="off" spellcheck=${false} ...${rest} onInput=${(event) => onInput(event.currentTarget.value)} />`}<//>`;

/** A dialog over the page. The browser keeps the focus in it, and it goes back to where it was. */
export function Dialog({ title, onClose, children, kind = "" }) {
    const dialog = useRef();
    const id = useId();
    useEffect(() => {
        const shown = dialog.current;
        const opener = document.activeElement;
        shown.showModal();
        return () => {
            shown.close();
            // What opened it may be gone, with the row that it was in.
            (opener?.isConnected ? opener : document.querySelector("h1"))?.focus();
        };
    }, []);
    const cancel = (event) => {
        event.preventDefault();
        onClose();
    };
    return html`<dialog ref=${dialog} class=${`dialog ${kind}`} aria-labelledby=${id} onCancel=${cancel}>
        <div class="dialog-head">
            <h2 id=${id}>${title}</h2>
            <button type="button" class="button small" onClick=${onClose}>Close</button>
        </div>
        <div class="dialog-body">${children}</div>
    </dialog>`;
}

/** Where a name has to be typed before something is lost. */
export function Confirm({ name, value, onInput }) {
    const label = html`Type <bdi class="to-type">${name}</bdi> to confirm`;
    return html`<${TextField} label=${label} value=${value} autocapitalize="off" onInput=${onInput} />`;
}

// Without TLS, browsers have no clipboard for pages of other machines, but still the command.
function copyBySelection(text) {
    const area = document.createElement("textarea");
    area.value = text;
    area.className = "visually-hidden";
    const place = document.activeElement;
    (document.querySelector("dialog[open]") ?? document.body).append(area);
    area.select();
    const isCopied = document.execCommand("copy");
    area.remove();
    place?.focus();
    return isCopied;
}

/** Text with a button that copies it. With `hidden`, only the button. */
export function Copy({ text, label = "Copy", hidden = false }) {
    const [state, show] = useState("");
    useEffect(() => {
        if (!state) return undefined;
        const timer = setTimeout(() => show(""), 3000);
        return () => clearTimeout(timer);
    }, [state]);
    const copy = async () => {
        const isCopied = await navigator.clipboard?.writeText(text).then(() => true, () => false);
        show(isCopied || copyBySelection(text) ? "Copied" : "Select it by hand");
    };
    return html`<span class="copy">
        ${!hidden && html`<code>${text}</code>`}
        <button type="button" class="button small" onClick=${copy}>${label}</button>
        <span class="copy-result" role="status">${state}</span>
    </span>`;
}

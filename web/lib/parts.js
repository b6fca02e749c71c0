// What all pages are made of. Controls and tables are in files of their own and are exported from here, too.

import { html, useEffect, useLayoutEffect, useRef, useState } from "./html.js";
import { post, path } from "./api.js";
import { Button, useAction } from "./controls.js";
import { href, moved } from "./route.js";
import { store } from "./store.js";
import { ago, age, bytes, capital, count, duration, shortly, spanOf, when, words } from "./text.js";

export { Button, Confirm, Copy, Dialog, Field, TextField, useAction } from "./controls.js";
export { Table } from "./table.js";

const clock = store(0);
setInterval(() => clock.set(clock.get() + 1), 15_000);

/** Draws again from time to time, since ages change by themselves. */
export const useNow = clock.use;

let [focused, isHandedOver] = [0, false];

/** The heading of a page: it gets the focus when somebody has gone to the page, so that screen readers read it, and hands it over to the next. */
export function Heading({ children, title }) {
    const heading = useRef();
    useEffect(() => {
        document.title = title ? `${title} · Copal` : "Copal";
    }, [title]);
    useEffect(() => {
        const mine = heading.current;
        if (isHandedOver) mine.focus({ preventScroll: true });
        isHandedOver = false;
        if (moved() !== focused) {
            focused = moved();
            mine.focus({ preventScroll: true });
            scrollTo(0, 0);
        }
    }, []);
    // Another one takes its place when what is below has been read. It is still in the document here.
    useLayoutEffect(() => () => {
        isHandedOver = document.activeElement === heading.current;
    }, []);
    return html`<h1 tabindex="-1" ref=${heading}>${children}</h1>`;
}

/** A part of a page with a heading. */
export function Section({ title, actions, children, id }) {
    return html`<section class="section" id=${id}>
        <div class="section-head"><h2>${title}</h2>${actions && html`<div class="actions">${actions}</div>`}</div>
        ${children}
    </section>`;
}

/** A link within the page: `to` is a list of names. */
export const Link = ({ to, query, children, ...rest }) => html`<a href=${href(to, query)} ...${rest}>${children}</a>`;

/** A name from the user: whatever direction it is written in, what is around it keeps its own. */
export const Name = ({ children }) => html`<bdi class="name">${children}</bdi>`;

/** A link to a database's page. */
export const DatabaseLink = ({ name, ...rest }) => html`<${Link} to=${["databases", name]} ...${rest}><${Name}>${name}<//><//>`;

/** A title that is made when somebody points at it: tables have hundreds, and the browser's formats are slow. */
export const hint = (make) => ({ onPointerEnter: ({ currentTarget }) => Object.assign(currentTarget, { title: make() }) });

export function Ago({ time }) {
    useNow();
    if (!time) return html`<span class="quiet">never</span>`;
    return html`<time datetime=${time} ...${hint(() => when(time))}>${ago(time)}</time>`;
}

/** A point in time, in the browser's zone; `brief` without year and zone, which are in its title. */
export function Time({ time, brief = false }) {
    if (!time) return null;
    return html`<time datetime=${time} title=${when(time)}>${brief ? shortly(time) : when(time)}</time>`;
}

const STATES = {
    true: ["good", "✓", "protected"],
    false: ["bad", "!", "not protected"],
    undefined: ["unknown", "?", "unknown"],
};

function Badge({ kind, icon, word }) {
    return html`<span class=${`badge ${kind}`}><span class="icon" aria-hidden="true">${icon}</span>${word}</span>`;
}

/** Whether a database is protected, as a word with a sign. */
export function State({ of }) {
    const [kind, icon, word] = STATES[of.protected ?? undefined];
    return html`<${Badge} kind=${kind} icon=${icon} word=${word} />`;
}

const ENDINGS = {
    success: ["good", "✓", "success"],
    "transient-failure": ["bad", "✕", "failed"],
    "permanent-failure": ["bad", "✕", "failed"],
    cancelled: ["unknown", "–", "cancelled"],
    interrupted: ["unknown", "–", "interrupted"],
};
const RUNNING = ["busy", "…", "running"];

/** How a run ended, as a word with a sign. */
export function Ending({ run }) {
    const [kind, icon, word] = run.ending ? (ENDINGS[run.ending] ?? ["unknown", "?", words(run.ending)]) : RUNNING;
    return html`<${Badge} kind=${kind} icon=${icon} word=${word} />`;
}

const endingWord = (run) => ENDINGS[run.ending]?.[2] ?? words(run.ending);
const isFailure = (run) => String(run.ending).endsWith("-failure");

/** From one bar to the next, and where bars begin of 22 units of height. */
const BAR = 5;
const BAR_TOPS = { good: 8, bad: 0, unknown: 16 };

/** The last runs, oldest first; failures differ by shape, not by colour alone. */
export function Strip({ runs }) {
    const [pointed, setPointed] = useState(null);
    if (!runs?.length) return html`<span class="quiet">no runs yet</span>`;
    const failed = runs.filter(isFailure).length;
    const last = runs.at(-1);
    const summary = `the last ${count(runs.length, "run")}: ${failed ? `${failed} failed` : "none failed"}; the newest ${ago(last.started)}: ${endingWord(last)}`;
    const bars = { good: "", bad: "", unknown: "" };
    runs.forEach((run, n) => {
        const kind = ENDINGS[run.ending]?.[0] ?? "unknown";
        bars[kind] += `M${n * BAR},${BAR_TOPS[kind]}h3V22h-3z`;
    });
    const point = ({ currentTarget, clientX }) => {
        const { left, width } = currentTarget.getBoundingClientRect();
        setPointed(Math.min(runs.length - 1, Math.max(0, Math.floor((clientX - left) / width * runs.length))));
    };
    const run = runs[pointed];
    return html`<svg class="strip" role="img" aria-label=${summary} viewBox=${`0 0 ${runs.length * BAR - 2} 22`} preserveAspectRatio="none"
        style=${{ "--bars": runs.length }} onMouseMove=${point}>
        ${run && html`<title>${whatOf(run)}</title>`}
        ${Object.entries(bars).map(([kind, d]) => d && html`<path key=${kind} class=${kind} d=${d} />`)}
    </svg>`;
}

/** A run in short; only of the one that is pointed at, since there are many. */
function whatOf(run) {
    const took = run.duration_ms === undefined || run.duration_ms === null ? "" : `, ${duration(run.duration_ms)}`;
    return `${run.kind} ${run.run}, ${when(run.started)}: ${endingWord(run)}${took}`;
}

/** What went wrong, why, and what to do about it; as it was said, since the first word may be a name. */
export function Failure({ problem, onRetry, title }) {
    if (!problem) return null;
    return html`<div class="failure" role="alert">
        <p><strong>${title ?? problem.message}</strong></p>
        ${title && html`<p>${problem.message}</p>`}
        ${problem.causes?.length > 0 && html`<ul>${problem.causes.map((cause, n) => html`<li key=${n}>${cause}</li>`)}</ul>`}
        ${problem.hint && html`<p class="hint">${problem.hint}</p>`}
        ${problem.retryAfter && html`<p class="hint">The next may come in ${count(problem.retryAfter, "second")}.</p>`}
        ${onRetry && html`<${Button} onClick=${onRetry}>Try again<//>`}
    </div>`;
}

/** Something is on its way; it is only said when it takes longer than a moment. */
export function Loading({ what = "Loading" }) {
    const [isSlow, setSlow] = useState(false);
    useEffect(() => {
        const timer = setTimeout(() => setSlow(true), 300);
        return () => clearTimeout(timer);
    }, []);
    return html`<p class="loading quiet" role="status">${isSlow && `${what} …`}</p>`;
}

/** There is nothing, and what to do about it. */
export const Empty = ({ title, children }) => html`<div class="empty"><p><strong>${title}</strong></p>${children}</div>`;

/** What is wrong, line by line. */
export const Problems = ({ lines }) => lines?.length > 0 && html`<ul class="problems">${lines.map((line, n) => html`<li key=${n}><span aria-hidden="true">! </span>${line}</li>`)}</ul>`;

/** Names and values; those that are not known are left out. */
export function Facts({ items }) {
    const known = items.filter(([, value]) => value !== undefined && value !== null && value !== "");
    return html`<dl class="facts">${known.map(([name, value]) => html`<div key=${name}><dt>${name}</dt><dd>${value}</dd></div>`)}</dl>`;
}

const STOPPING = { cancelled: "stopping, since somebody asked", "time-limit": "stopping, since it took too long", shutdown: "stopping with the daemon" };

/** How far a run is, and a button that cancels it. */
export function Progress({ live, showDatabase = false }) {
    useNow();
    const [isAsked, setAsked] = useState(false);
    const cancel = useAction(async () => {
        await post(path`/api/runs/${live.id}/cancel`);
        setAsked(true);
    });
    // One that waits for something tells nothing until it has stopped.
    const stopping = live.stopping ?? (isAsked ? "cancelled" : null);
    const isKnown = live.total > 0;
    const share = isKnown ? Math.min(1, live.done / live.total) : undefined;
    const far = isKnown ? `${bytes(live.done)} of ${bytes(live.total)} (${Math.floor(share * 100)} %)` : live.done > 0 ? bytes(live.done) : "";
    const parts = [STOPPING[stopping] ?? (live.phase || "starting"), far, `for ${spanOf(age(live.started) / 1000)}`];
    const what = `${capital(words(live.kind))} of ${live.database}`;
    return html`<div class="progress">
        <p class="progress-title"><${Link} to=${["runs", String(live.id)]}>${capital(words(live.kind))}<//>
            ${showDatabase && html` of <${DatabaseLink} name=${live.database} />`}</p>
        <progress aria-label=${what} max="1" value=${share}></progress>
        <p class="progress-text quiet">${parts.filter(Boolean).join(" · ")}</p>
        <${Button} kind="small" needs="operator" busy=${cancel.busy} why=${stopping ? "It stops already." : undefined}
            aria-label=${`Cancel: ${what}`} onClick=${cancel.run}>Cancel<//>
        <${Failure} problem=${cancel.problem} />
    </div>`;
}

const messages = store(null);

/** Says something at the bottom of the page until it is closed or something else is said. */
export const say = (text, link) => messages.set({ text, link, key: Date.now() });

/** Where `say` says it. */
export function Messages() {
    const message = messages.use();
    return html`<div class="messages" role="status">${message && html`<div class="message" key=${message.key}>
        <span>${message.text}</span>
        ${message.link && html`<${Link} to=${message.link.to}>${message.link.text}<//>`}
        <button type="button" class="button small" onClick=${() => messages.set(null)}>Close</button>
    </div>`}</div>`;
}

// The frame of the page: which page is shown, who is signed in, and whether what is shown is live.

import { html, render, useEffect, useErrorBoundary, useLayoutEffect, useState } from "./lib/html.js";
import { loadSession, signOut, useSession } from "./lib/api.js";
import { listen, reconnect, useConnection } from "./lib/live.js";
import { Button, Empty, Failure, Heading, Link, Loading, Messages, useAction } from "./lib/parts.js";
import { route, useRoute } from "./lib/route.js";
import SignIn from "./pages/signin.js";

// Each page is read when it is gone to first: the overview needs no plots.
const PAGES = {
    overview: () => import("./pages/overview.js"),
    database: () => import("./pages/database.js"),
    restore: () => import("./pages/restore.js"),
    repository: () => import("./pages/repository.js"),
    runs: () => import("./pages/runs.js"),
    run: () => import("./pages/run.js"),
    notifications: () => import("./pages/notifications.js"),
    start: () => import("./pages/start.js"),
};

const MENU = [
    ["Overview", []],
    ["Runs", ["runs"]],
    ["Repository", ["repository"]],
    ["Notifications", ["notifications"]],
];

/** What is at an address: a page, and perhaps a dialog over it. */
function resolve([place, name, action, ...rest]) {
    if (rest.length > 0) return null;
    if (place === "databases" && name && (!action || action === "restore")) {
        return { page: "database", dialog: action, params: { name }, key: `database/${name}` };
    }
    if (action) return null;
    if (place === "runs" && name) return { page: "run", params: { id: name }, key: `run/${name}` };
    if (name) return null;
    if (!place) return { page: "overview", params: {}, key: "overview" };
    return ["runs", "repository", "notifications", "start"].includes(place) ? { page: place, params: {}, key: place } : null;
}

/** The modules that were read. */
const READ = new Map();
const read = async (page) => READ.set(page, (await PAGES[page]()).default);

/** A page, once its module is there. */
function Lazy({ page, params, query }) {
    const [state, show] = useState({});
    useLayoutEffect(() => {
        if (READ.has(page)) return;
        read(page).then(
            () => show({ page }),
            (error) => show({ page, problem: { message: "this part of the page could not be read", causes: [error.message] } }),
        );
    }, [page]);
    const Shown = READ.get(page);
    if (Shown) return html`<${Shown} params=${params} query=${query} />`;
    if (state.page === page && state.problem) return html`<${Failure} problem=${state.problem} onRetry=${() => location.reload()} />`;
    return html`<${Loading} />`;
}

/** Shows what a mistake in a page was instead of an empty screen. */
function Guarded({ children }) {
    const [error, forget] = useErrorBoundary((error) => console.error(error));
    if (!error) return children;
    const problem = { message: "this page stopped; that is a mistake in copal", causes: [String(error)], hint: "the rest still works, and so does the command line" };
    return html`<${Heading} title="Error">Something went wrong<//><${Failure} problem=${problem} onRetry=${forget} />`;
}

const NotHere = () => html`<${Heading} title="Not found">There is no such page<//>
    <${Empty} title="The address may be misspelt."><p><${Link} to=${[]}>To the overview<//></p><//>`;

function Menu({ place }) {
    const isHere = ([first]) => (first ?? "") === (place === "databases" ? "" : (place ?? ""));
    return html`<nav aria-label="Pages"><ul class="menu">${MENU.map(([label, to]) => html`<li key=${label}>
        <${Link} to=${to} aria-current=${isHere(to) ? "page" : undefined}>${label}<//></li>`)}</ul></nav>`;
}

function Who({ session }) {
    const leave = useAction(signOut);
    return html`<div class="who">
        <span class="quiet"><bdi>${session.who}</bdi>${session.role !== session.who && ` · ${session.role}`}</span>
        ${session.csrf && html`<${Button} kind="small" busy=${leave.busy} onClick=${leave.run}>Sign out<//>`}
        <${Failure} problem=${leave.problem} />
    </div>`;
}

/** That what is shown is no longer live, and since when. */
function Connection() {
    const { isLive, lostSince } = useConnection();
    const clock = lostSince?.toLocaleTimeString("en-GB", { hour: "2-digit", minute: "2-digit" });
    return html`<div role="status" class="connection">${!isLive && lostSince && html`<p class="banner">
        <span><span aria-hidden="true">⚠ </span>Not live since ${clock}; trying again.</span>
        <${Button} kind="small" onClick=${reconnect}>Try now<//></p>`}</div>`;
}

function Frame({ children, place, session }) {
    const skip = (event) => {
        // The address is the place on the page: a link to an anchor would leave it.
        event.preventDefault();
        document.getElementById("main").focus();
    };
    return html`
        <a class="skip" href="#main" onClick=${skip}>Skip to the content</a>
        <header class="head"><div class="head-inside">
            <${Link} to=${[]} class="brand"><img src="/page/icon.svg" alt="" width="22" height="22" />Copal<//>
            ${session?.signed_in && html`<${Menu} place=${place} /><${Who} session=${session} />`}
        </div></header>
        ${session?.signed_in && html`<${Connection} />`}
        <main id="main" tabindex="-1">${children}</main>
        <${Messages} />
        ${session?.version && html`<footer class="foot quiet">Copal ${session.version} · <a href="/api/docs/">API</a></footer>`}`;
}

function Content({ session, parts, query }) {
    const isStart = session.setup || parts[0] === "start";
    if (!session.signed_in && !isStart) return html`<${SignIn} />`;
    // The first start goes on where it was when the daemon has become an ordinary one.
    const found = resolve(session.setup ? ["start"] : parts);
    if (!found) return html`<${NotHere} />`;
    const { page, dialog, params, key } = found;
    return html`<${Guarded} key=${key}>
        <${Lazy} page=${page} params=${params} query=${dialog ? {} : query} />
        ${dialog && html`<${Lazy} page=${dialog} params=${params} query=${query} />`}
    <//>`;
}

function App() {
    const session = useSession();
    const { parts, query } = useRoute();
    const [problem, setProblem] = useState(null);
    const ask = (asked) => asked.then(() => setProblem(null), setProblem);
    useLayoutEffect(() => {
        ask(FIRST_SESSION);
    }, []);
    const isIn = Boolean(session?.signed_in && !session.setup);
    useEffect(() => listen(isIn), [isIn]);
    let content = html`<${Loading} />`;
    if (session) content = html`<${Content} session=${session} parts=${parts} query=${query} />`;
    else if (problem) content = html`<${Heading}>Copal<//><${Failure} problem=${problem} onRetry=${() => ask(loadSession())} />`;
    return html`<${Frame} place=${parts[0]} session=${session}>${content}<//>`;
}

// Who is signed in is asked, and the page's module is read, before anything is drawn: neither waits for the other.
const FIRST_SESSION = loadSession();
const first = resolve(route().parts);
if (first) read(first.page).catch(() => {}); // whoever draws it tells

const place = document.getElementById("app");
place.replaceChildren();
render(html`<${App} />`, place);

// The first step: what shall be protected. Databases are looked for, or typed.

import { html, useState } from "../../lib/html.js";
import { post } from "../../lib/api.js";
import { Ago, Button, Failure, Field, TextField, useAction } from "../../lib/parts.js";
import { bytes, count } from "../../lib/text.js";
import { change, headers } from "./progress.js";

const SCHEDULES = [["every 15m", "every 15 minutes"], ["@hourly", "every hour"], ["@daily", "every day at midnight"], ["@weekly", "every week"]];
const NAME = /^[a-z0-9_-][a-z0-9._-]{0,63}$/;

/** A name that a database can have and no other has. */
function freeName(base, taken) {
    const plain = base.toLowerCase().replace(/[^a-z0-9._-]+/g, "-").replace(/^[.-]+|-+$/g, "").slice(0, 50) || "database";
    for (let n = 1; ; n += 1) {
        const name = n === 1 ? plain : `${plain}-${n}`;
        if (!taken.includes(name)) return name;
    }
}

/** The last part of a path or URL without its ending. */
function nameOf(url) {
    const last = url.replace(/[?#].*$/, "").replace(/\/(\*)?$/, "").split(/[/:\\@]/).filter(Boolean).at(-1) ?? "";
    return last.replace(/\.(db|sqlite3?|duckdb|dump|archive|rdb)$/i, "");
}

/** One database of a server: its name takes the place of the star. */
const urlOn = (server, database) => server.url.replace(/\*(?=$|\?)/, () => encodeURIComponent(database));

/** Why one cannot go on yet; undefined if one can. */
export function whyNot(databases) {
    const names = databases.map(({ name }) => name);
    if (names.length === 0) return "Choose or add a database first.";
    const bad = names.find((name) => !NAME.test(name));
    if (bad !== undefined) return `“${bad}” cannot be a name: use small letters, digits, dots, hyphens and underscores.`;
    if (new Set(names).size < names.length) return "Two of them have the same name.";
    return undefined;
}

function Found({ found, databases, add, remove }) {
    const toggle = (url, name, instead = []) => {
        const isChosen = databases.some((one) => one.url === url);
        return html`<input type="checkbox" checked=${isChosen} onChange=${() => (isChosen ? remove(url) : add(url, name, instead))} />`;
    };
    const file = ({ path, url = path, name, engine, bytes: size, modified }) => html`<li key=${url}><label class="check">${toggle(url, name ?? nameOf(path))}
        <span><bdi class="mono">${path}</bdi> <span class="quiet">${engine} · ${bytes(size)}${modified && html` · written <${Ago} time=${modified} />`}</span></span></label></li>`;
    const server = (one) => html`<li key=${one.url}>
        <p>${one.engine} ${one.version} <bdi class="mono quiet">${one.url}</bdi></p>
        ${one.error && html`<${Failure} problem=${{ message: one.error, hint: one.hint }} />`}
        ${!one.error && html`<ul class="found">
            ${one.databases.map((name) => html`<li key=${name}><label class="check">${toggle(urlOn(one, name), name, [one.url])}<bdi>${name}</bdi></label></li>`)}
            ${one.databases.length > 1 && html`<li><label class="check">${toggle(one.url, one.engine, one.databases.map((name) => urlOn(one, name)))} all of them, and those to come</label></li>`}
        </ul>`}</li>`;
    const number = found.files.length + found.servers.length;
    return html`<div role="status"><p>${number === 0 ? "No database was found" : `${count(found.files.length, "file")} and ${count(found.servers.length, "server")}`}
        ${!found.is_complete && ", and not everything could be searched"}.</p></div>
        <ul class="found">${found.files.map(file)}${found.servers.map(server)}</ul>`;
}

function Chosen({ databases, remove }) {
    const edit = (url, key) => (value) => {
        change({ databases: databases.map((one) => (one.url === url ? { ...one, [key]: value } : one)) });
    };
    return html`<ul class="chosen">${databases.map(({ url, name, schedule }) => html`<li key=${url}>
        <p><bdi class="mono">${url}</bdi></p>
        <div class="inline">
            <${TextField} label="Name" value=${name} maxlength="64" onInput=${edit(url, "name")} />
            <${Field} label="Backed up">${(id) => html`<select id=${id} value=${schedule} onChange=${(event) => edit(url, "schedule")(event.currentTarget.value)}>
                ${SCHEDULES.map(([value, label]) => html`<option key=${value} value=${value}>${label}</option>`)}</select>`}<//>
            <${Button} kind="small" aria-label=${`Leave out ${name}`} onClick=${() => remove(url)}>Leave out<//>
        </div>
    </li>`)}</ul>`;
}

export default function What({ setup, code, databases }) {
    const [folder, setFolder] = useState(setup.home ?? "");
    const [found, setFound] = useState(null);
    const [typed, setTyped] = useState("");
    // A database and the whole of its server exclude each other: it would be backed up twice.
    const add = (url, name, instead = []) => {
        if (databases.some((one) => one.url === url)) return;
        const others = databases.filter((one) => !instead.includes(one.url));
        change({ databases: [...others, { name: freeName(name, others.map((one) => one.name)), url, schedule: "@daily" }] });
    };
    const remove = (url) => change({ databases: databases.filter((one) => one.url !== url) });
    const find = useAction(async () => {
        setFound(await post("/api/setup/find", { folders: [folder.trim()] }, { headers: headers(code) }));
    });
    const look = (event) => {
        event.preventDefault();
        if (folder.trim()) find.run();
    };
    const type = (event) => {
        event.preventDefault();
        const url = typed.trim();
        if (!url) return;
        add(url, nameOf(url));
        setTyped("");
    };
    const why = whyNot(databases);
    return html`
        <form class="inline" onSubmit=${look}>
            <${TextField} label="Look for databases in" hint="Files in this folder and below it, and database servers of this machine." value=${folder} onInput=${setFolder} />
            <${Button} type="submit" busy=${find.busy} why=${folder.trim() ? undefined : "Name a folder first."}>${find.busy ? "Looking …" : "Look"}<//>
        </form>
        <${Failure} problem=${find.problem} />
        ${found && html`<${Found} found=${found} databases=${databases} add=${add} remove=${remove} />`}
        <form class="inline" onSubmit=${type}>
            <${TextField} label="Or name one" hint=${`A file's path or a URL: ${setup.engines.join(", ")}.`} value=${typed} placeholder="postgres://user@localhost/shop" onInput=${setTyped} />
            <${Button} type="submit" why=${typed.trim() ? undefined : "Type a path or a URL first."}>Add<//>
        </form>
        <h3>${databases.length === 0 ? "Nothing is chosen yet" : `${count(databases.length, "database")} will be protected`}</h3>
        <${Chosen} databases=${databases} remove=${remove} />
        <p><${Button} kind="primary" why=${why} onClick=${() => change({ step: "where" })}>Next: where to<//></p>`;
}

// All databases: one sentence on how they do, what runs, and the list. The server filters, sorts and pages.

import { html, useEffect, useRef, useState } from "../lib/html.js";
import { can } from "../lib/api.js";
import { useResource, useRunsUnderWay } from "../lib/live.js";
import { DatabaseLink, Empty, Failure, Heading, Loading, Progress, Section, useNow } from "../lib/parts.js";
import { go, queryText } from "../lib/route.js";
import { ago, count, numeral } from "../lib/text.js";
import Filter from "./overview/filter.js";
import Rows from "./overview/rows.js";

const PAGE = 50;
const SHOWN_RUNS = 6;
const EXAMPLE = `[databases.shop]
url = "sqlite:/var/lib/shop/shop.db"
schedule = "0 3 * * *"`;
/** Progress is drawn from the events themselves; everything else changes rows. */
const concerns = ({ type }) => type !== "progress";

function sentence({ databases, not_protected: bad, unknown, newest_backup: newest }) {
    if (databases === 0) return "No databases yet";
    const backup = newest ? `newest backup ${ago(newest)}` : "no backup yet";
    if (bad > 0) return `${numeral(bad)} of ${count(databases, "database")} not protected; ${backup}`;
    if (unknown === databases) return `${count(databases, "database")}, nothing known of them yet`;
    if (unknown > 0) return `${count(databases, "database")}, none known to be unprotected, ${numeral(unknown)} unknown; ${backup}`;
    return `${count(databases, "database")}, ${databases === 1 ? "protected" : "all protected"}; ${backup}`;
}

/** What is wrong beyond single databases. */
function Alarms({ summary }) {
    const { repository_error: repository, configuration_error: configuration } = summary;
    return html`
        ${repository && html`<${Failure} title="The repository cannot be read" problem=${{ message: repository, hint: "what is shown of backups is what was known before" }} />`}
        ${configuration && html`<${Failure} title="The changed configuration is not in force" problem=${{ message: configuration, hint: "the one before it goes on; correct the file, and it is read again by itself" }} />`}`;
}

function Worst({ worst, total }) {
    if (worst.length === 0) return null;
    const more = total - worst.length;
    return html`<ul class="worst">
        ${worst.map(({ name, message }) => html`<li key=${name}><span aria-hidden="true" class="icon">!</span><span><${DatabaseLink} name=${name} />: ${message}</span></li>`)}
        ${more > 0 && html`<li key="more"><span aria-hidden="true" class="icon">!</span><a href=${`#/${queryText({ state: "unprotected" })}`}>and ${numeral(more)} more</a></li>`}
    </ul>`;
}

function UnderWay({ live }) {
    const [isAll, setAll] = useState(false);
    const runs = useRunsUnderWay(live);
    if (runs.length === 0) return null;
    const shown = isAll ? runs : runs.slice(0, SHOWN_RUNS);
    const rest = runs.length - shown.length;
    return html`<${Section} title=${`${count(runs.length, "run")} under way`}>
        <ul class="runs-live">${shown.map((run) => html`<li key=${run.id}><${Progress} live=${run} showDatabase=${true} /></li>`)}</ul>
        ${rest > 0 && html`<button type="button" class="button" onClick=${() => setAll(true)}>Show ${rest} more</button>`}
    <//>`;
}

function Nothing({ summary }) {
    if (summary.databases > 0) {
        return html`<${Empty} title="No database is like that."><p><a href="#/">Show all ${count(summary.databases, "database")}</a></p><//>`;
    }
    return html`<${Empty} title="Nothing is backed up here yet.">
        <p>Name a database in the configuration, for example:</p>
        <pre><code>${EXAMPLE}</code></pre>
        <p>The file is read again by itself. ${can("operator") ? "Its first backup can be made here then, or" : "Its first backup is made"} by <code>copal backup shop</code>.</p>
    <//>`;
}

function Pages({ total, offset, query }) {
    if (total <= PAGE) return null;
    const last = Math.min(offset + PAGE, total);
    const link = (label, to, isThere) => isThere
        ? html`<a class="button" href=${`#/${queryText({ ...query, offset: to || undefined })}`}>${label}</a>`
        : html`<span class="button" aria-disabled="true">${label}</span>`;
    return html`<nav class="pages" aria-label="Pages of the list">
        ${link("Previous", Math.max(0, offset - PAGE), offset > 0)}
        <span class="quiet" role="status">${numeral(offset + 1)} to ${numeral(last)} of ${numeral(total)}</span>
        ${link("Next", offset + PAGE, last < total)}
    </nav>`;
}

/** What of the address is the API's; an offset that is no number starts at the front. */
function apiQuery({ search, state, engine, sort, order, offset }) {
    const start = Math.min(2 ** 32 - 1, Math.max(0, Number.parseInt(offset, 10) || 0));
    return { search, state, engine, sort, order, offset: start || undefined, limit: PAGE };
}

export default function Overview({ query }) {
    useNow();
    const asked = apiQuery(query);
    const { data, error, loading, isOther, reload } = useResource(`/api/overview${queryText(asked)}`, { on: concerns, keep: true });
    // Of the rows that are shown, which may still be those before.
    const offset = useRef(0);
    if (!isOther) offset.current = asked.offset ?? 0;
    const change = (next) => go([], { ...query, offset: undefined, ...next }, { replace: true });
    // Fewer match than a moment ago: an empty page far behind the end helps nobody.
    const isBehind = data && !loading && data.rows.length === 0 && data.total > 0;
    useEffect(() => {
        if (isBehind) change({});
    }, [isBehind]);
    if (!data) {
        return html`<${Heading} title="Overview">Databases<//>
            ${error ? html`<${Failure} problem=${error} onRetry=${reload} />` : html`<${Loading} />`}`;
    }
    const { summary, worst, engines, total, rows, live } = data;
    const isBad = summary.not_protected > 0 || summary.repository_error || summary.configuration_error;
    const isFiltered = ["search", "state", "engine"].some((name) => asked[name]);
    return html`
        <div class=${`summary ${isBad ? "bad" : summary.databases > 0 ? "good" : ""}`}><${Heading} title=${summary.not_protected > 0 ? `${summary.not_protected} not protected` : "Overview"}>${sentence(summary)}<//></div>
        <${Failure} problem=${error} onRetry=${reload} />
        <${Alarms} summary=${summary} />
        <${Worst} worst=${worst} total=${summary.not_protected} />
        <${UnderWay} live=${live} />
        ${summary.databases > 0 && html`<${Filter} query=${query} engines=${engines} total=${total} isFiltered=${isFiltered} onChange=${change} />`}
        ${rows.length > 0 ? html`<${Rows} rows=${rows} sort=${query.sort || "state"} order=${query.order || "asc"} busy=${loading} onSort=${(sort, order) => change({ sort, order })} />` : html`<${Nothing} summary=${summary} />`}
        <${Pages} total=${total} offset=${offset.current} query=${query} />`;
}

// Restoring a database: choose what and where to, see what would happen, and follow it to its end.

import { html, useEffect, useRef, useState } from "../lib/html.js";
import { path, post } from "../lib/api.js";
import { useResource } from "../lib/live.js";
import { Button, Confirm, Copy, Dialog, Failure, Loading, Name, say, useAction } from "../lib/parts.js";
import { go } from "../lib/route.js";
import { Follow, useRun } from "./follow.js";
import { localInput, momentOf } from "./moments.js";
import Choice from "./restore/choice.js";
import Plan from "./restore/plan.js";

/** While somebody types, no plan is asked for. */
const PAUSE_MS = 350;
const LISTED = 200;

/** What the server is asked for, as text that changes with it; null as long as something is missing. */
function requestOf({ what, backup, moment, at, where, to }) {
    const request = {};
    if (what === "backup") request.backup = backup;
    else request.at = momentOf(moment, at);
    if (where === "other") request.to = to.trim();
    return Object.values(request).every(Boolean) ? JSON.stringify(request) : null;
}

/** The plan of what is chosen: `{ plan, request, problem, isCurrent, reload }`; `request` is what the plan is of. */
function usePlan(name, request) {
    const [state, show] = useState({});
    const [turn, setTurn] = useState(0);
    useEffect(() => {
        if (!request) return undefined;
        const abort = new AbortController();
        const timer = setTimeout(async () => {
            try {
                const plan = await post(path`/api/databases/${name}/restore/plan`, JSON.parse(request), { signal: abort.signal });
                if (!abort.signal.aborted) show({ request, plan });
            } catch (problem) {
                if (!abort.signal.aborted) show({ request, problem });
            }
        }, PAUSE_MS);
        return () => {
            clearTimeout(timer);
            abort.abort();
        };
    }, [name, request, turn]);
    const reload = () => {
        show({});
        setTurn(turn + 1);
    };
    return { ...state, isCurrent: Boolean(request) && state.request === request, reload };
}

/** What carries the plan out: the very backup, or moment of its journal, that was planned; not what has come since. */
function bodyOf(request, plan, typed) {
    const body = { backup: (plan.segment ?? plan.backup).id, to: JSON.parse(request).to };
    return plan.replaces ? { ...body, replace: true, confirm: typed } : body;
}

function whyNot({ request, plan, isCurrent }, typed) {
    if (!request) return "First choose what to restore, and where to.";
    if (!isCurrent || !plan) return "What would happen is not known yet.";
    if (!plan.is_possible) return "This cannot be done; the plan says why.";
    if (plan.replaces && typed !== plan.confirm) return "Type the name of what is replaced first.";
    if (!plan.may) return `This needs the role ${plan.role} and a token.`;
    return undefined;
}

/** What screen readers say when the plan has changed. */
function summaryOf({ is_possible, replaces }) {
    if (!is_possible) return "This cannot be done; the plan says why.";
    return replaces ? "Planned: what is there is replaced." : "Planned: nothing is replaced.";
}

function Chooser({ name, choice, choose, listing, onStarted }) {
    const [confirmed, setConfirmed] = useState({});
    const request = requestOf(choice);
    const planned = usePlan(name, request);
    const { problem, isCurrent } = planned;
    // What was planned before is shown until something else is; but not when nothing is chosen any more.
    const plan = request ? planned.plan : undefined;
    // What was typed for one place is not meant for another, though the name may be the same.
    const place = plan && JSON.stringify([plan.target, plan.confirm]);
    const typed = confirmed.place === place ? confirmed.text : "";
    const why = whyNot({ request, plan, isCurrent }, typed);
    const start = useAction(async () => {
        const { run } = await post(path`/api/databases/${name}/restore`, bodyOf(planned.request, plan, typed));
        onStarted(run, plan);
    });
    const submit = (event) => {
        event.preventDefault();
        if (!why) start.run();
    };
    return html`<form class="restore" onSubmit=${submit}>
        <${Choice} choice=${choice} choose=${choose} backups=${listing.data?.backups ?? []} source=${listing.data?.source} />
        <section aria-label="What would happen" class="plan-place" aria-busy=${request && !isCurrent ? "true" : undefined}>
            ${!request && html`<p class="quiet">Choose what to restore, and where to.</p>`}
            ${request && !plan && !problem && html`<${Loading} what="Looking what would happen" />`}
            ${request && problem && html`<${Failure} problem=${problem} onRetry=${planned.reload} />`}
            ${plan && html`<${Plan} plan=${plan} />`}
        </section>
        <p class="visually-hidden" role="status">${isCurrent && plan && summaryOf(plan)}</p>
        ${plan?.replaces && plan.is_possible && html`<${Confirm} name=${plan.confirm} value=${typed} onInput=${(text) => setConfirmed({ place, text })} />`}
        <${Failure} problem=${start.problem} />
        <${Button} type="submit" kind=${plan?.replaces ? "danger" : "primary"} why=${why} busy=${start.busy}>
            ${plan?.replaces ? "Replace and restore" : "Restore"}<//>
    </form>`;
}

function Started({ name, started: { plan }, following }) {
    return html`<div class="restore">
        <p><${Name}>${name}<//> is restored from ${plan.backup.id} to <bdi class="mono">${plan.target}</bdi>.</p>
        <${Follow} following=${following} good=${(isChecked) => (isChecked ? "Restored and checked" : "Restored")} />
        ${!following.isOver && html`<p class="quiet">This can be closed: the restore goes on, and is shown among the runs.</p>`}
        ${plan.command && html`<p>The same on the command line:</p><${Copy} text=${plan.command} />`}
    </div>`;
}

export default function Restore({ params: { name }, query }) {
    const [choice, setChoice] = useState({
        what: query.at ? "moment" : "backup",
        backup: query.backup ?? "",
        moment: query.at ? localInput(query.at) : "",
        at: query.at,
        where: "original",
        to: "",
    });
    const [started, setStarted] = useState(null);
    const following = useRun(started?.run);
    const listing = useResource(`${path`/api/databases/${name}/backups`}?limit=${LISTED}`);
    const choose = (change) => setChoice((old) => ({ ...old, ...change }));
    const newest = listing.data?.backups.at(-1);
    useEffect(() => {
        if (newest && !choice.backup) choose({ backup: newest.id });
    }, [newest?.id]);
    // The dialog is also closed by going back, and says the same then.
    const tell = (run) => say(`The restore of ${name} goes on.`, { to: ["runs", String(run)], text: `Run ${run}` });
    const end = useRef();
    end.current = { run: started?.run, isOver: following.isOver };
    const isClosed = useRef(false);
    useEffect(() => () => {
        isClosed.current = true;
        if (end.current.run && !end.current.isOver) tell(end.current.run);
    }, []);
    // It may have been closed before the server answered.
    const begin = (run, plan) => (isClosed.current ? tell(run) : setStarted({ run, plan }));
    // The repository knows nothing of a database that was never backed up.
    const isUnknown = listing.error?.status === 404;
    const isEmpty = isUnknown || (listing.data && !newest);
    return html`<${Dialog} title=${html`Restore <${Name}>${name}<//>`} kind="wide" onClose=${() => go(["databases", name], {}, { replace: true })}>
        ${!isUnknown && html`<${Failure} problem=${listing.error} onRetry=${listing.reload} />`}
        ${isEmpty && html`<p>There is no backup that could be restored.</p>`}
        ${started
            ? html`<${Started} name=${name} started=${started} following=${following} />`
            : !isEmpty && html`<${Chooser} name=${name} choice=${choice} choose=${choose} listing=${listing} onStarted=${begin} />`}
    <//>`;
}

// Plots over time and a calendar of days, each with the same as text or as a table.

import { html, useEffect, useMemo, useRef, useState } from "./html.js";
import { bytes, count, duration, when } from "./text.js";
import uPlot from "../vendor/uPlot.js";

const HEIGHT = 180;
const DAY_MS = 86_400_000;
const LONGEST_YEAR = 371;
const SHADES = ["--plot-1", "--plot-2", "--plot-3"];
/** Steps of an axis of bytes: 1 MiB, 2 MiB, 4 MiB …, not 0.95 MiB. */
const BYTE_STEPS = Array.from({ length: 60 }, (_, n) => 2 ** n);
const FORMATS = { bytes, ms: duration, count: (n) => (n ?? "").toLocaleString("en") };
const dark = matchMedia("(prefers-color-scheme: dark)");

const [MONTH, DAY, CLOCK] = [{ month: "short", year: "numeric" }, { day: "numeric", month: "short" }, { hour: "2-digit", minute: "2-digit" }]
    .map((parts) => new Intl.DateTimeFormat("en-GB", parts));

/** Dates below a plot, as all others of the page: uPlot's own are American. `step` is the time between two, in seconds. */
const datesOf = (times, step) => times.map((seconds) => {
    const at = new Date(seconds * 1000);
    if (step * 1000 >= 28 * DAY_MS) return MONTH.format(at);
    return (step * 1000 >= DAY_MS || at.getHours() + at.getMinutes() === 0 ? DAY : CLOCK).format(at);
});

const formatOf = (series) => FORMATS[series.unit] ?? FORMATS.count;

function options({ title, series }, width, style) {
    const colour = (name) => style.getPropertyValue(name).trim();
    const font = `12px ${style.fontFamily}`;
    const axis = { stroke: colour("--muted"), font, grid: { stroke: colour("--line"), width: 1 }, ticks: { show: false } };
    const format = formatOf(series[0]);
    const line = (one, n) => ({
        label: one.label,
        stroke: colour(SHADES[n % SHADES.length]),
        width: 2,
        // Two lines that cross are told apart without colours, too.
        dash: n === 0 ? undefined : [6 - n, 3 + n],
        points: { size: 5 },
        value: (_, value) => (value === null ? "–" : formatOf(one)(value)),
    });
    return {
        width,
        height: HEIGHT,
        ariaLabel: title,
        cursor: { drag: { x: true, y: false } },
        scales: { y: { range: (_, low, high) => [0, (high || 1) * 1.05] } },
        series: [{ label: "Time", value: (_, seconds) => (seconds === null ? "–" : when(new Date(seconds * 1000))) }, ...series.map(line)],
        axes: [{ ...axis, space: 68, values: (plot, times, index, space, step) => datesOf(times, step) }, { ...axis, size: 76, ...(series[0].unit === "bytes" && { incrs: BYTE_STEPS }), values: (_, ticks) => ticks.map(format) }],
    };
}

function summaryOf({ title, times, series }) {
    const parts = series.map((one) => {
        const known = one.values.filter((value) => value !== null && value !== undefined);
        if (known.length === 0) return `${one.label}: nothing known`;
        const format = formatOf(one);
        // Not by spreading: the stack ends before 2,000 times the number of series does.
        const [low, high] = known.reduce(([low, high], value) => [Math.min(low, value), Math.max(high, value)], [Infinity, -Infinity]);
        return `${one.label}: newest ${format(known.at(-1))}, least ${format(low)}, most ${format(high)}`;
    });
    return `${title}, ${count(times.length, "point")}. ${parts.join("; ")}`;
}

/** Lines over time: `times` in seconds since 1970, `series` as `{ label, values, unit: "bytes"|"ms"|"count" }` of one unit. */
export function Plot({ title, times, series }) {
    const place = useRef();
    const [isOpen, setOpen] = useState(false);
    const isEmpty = times.length === 0;
    useEffect(() => {
        if (isEmpty) return undefined;
        let plot = null;
        const draw = () => {
            plot?.destroy();
            plot = new uPlot(options({ title, series }, place.current.clientWidth, getComputedStyle(place.current)), [times, ...series.map(({ values }) => values)], place.current);
        };
        draw();
        const resized = new ResizeObserver(([entry]) => {
            const width = Math.floor(entry.contentRect.width);
            if (width > 0 && width !== plot.width) plot.setSize({ width, height: HEIGHT });
        });
        resized.observe(place.current);
        dark.addEventListener("change", draw);
        return () => {
            resized.disconnect();
            dark.removeEventListener("change", draw);
            plot.destroy();
        };
    }, [title, times, series, isEmpty]);
    const rows = () => times.map((time, n) => html`<tr key=${n}>
        <th scope="row">${when(new Date(time * 1000))}</th>
        ${series.map((one) => html`<td class="numeric" key=${one.label}>${formatOf(one)(one.values[n])}</td>`)}</tr>`).reverse();
    return html`<figure class="plot">
        <figcaption>${title}</figcaption>
        ${isEmpty ? html`<p class="quiet">nothing to show yet</p>` : html`<div class="plot-place" role="img" aria-label=${summaryOf({ title, times, series })} ref=${place}></div>
        <details onToggle=${(event) => setOpen(event.currentTarget.open)}>
            <summary>As a table<span class="visually-hidden">: ${title}</span></summary>
            ${isOpen && html`<section class="scroll" tabindex="0" aria-label=${title}><table class="plain">
                <thead><tr><th scope="col">Time</th>${series.map(({ label }) => html`<th scope="col" class="numeric" key=${label}>${label}</th>`)}</tr></thead>
                <tbody>${rows()}</tbody>
            </table></section>`}
        </details>`}
    </figure>`;
}

const KINDS = { good: "backed up", mixed: "backed up, with failures", failed: "failed", none: "no backup" };

function kindOf(day) {
    if (!day || day.good + day.failed === 0) return "none";
    if (day.failed === 0) return "good";
    return day.good > 0 ? "mixed" : "failed";
}

/** The days up to `today`, a column for each week from Monday on. Dates are days, not points in time: UTC counts them without gaps. */
function weeksOf(days, today) {
    const byDate = new Map(days.map((day) => [day.date, day]));
    const end = Date.parse(`${today}T00:00:00Z`);
    const all = Array.from({ length: LONGEST_YEAR }, (_, n) => {
        const at = new Date(end - (LONGEST_YEAR - 1 - n) * DAY_MS);
        const date = at.toISOString().slice(0, 10);
        return { date, weekday: (at.getUTCDay() + 6) % 7, kind: kindOf(byDate.get(date)), ...byDate.get(date) };
    });
    return all.slice((7 - all[0].weekday) % 7);
}

function titleOf({ date, kind, good = 0, failed = 0 }) {
    const numbers = [good && count(good, "good backup"), failed && `${failed} failed`].filter(Boolean).join(", ");
    return `${date}: ${numbers || KINDS[kind]}`;
}

/** The last year: which days have good backups. `today` is the last day shown, otherwise today in UTC. */
export function Calendar({ days, today = new Date().toISOString().slice(0, 10) }) {
    const shown = useMemo(() => weeksOf(days, today), [days, today]);
    const scroller = useRef();
    // The newest days are at the end.
    useEffect(() => {
        scroller.current.scrollLeft = scroller.current.scrollWidth;
    }, [shown]);
    const number = (kind) => shown.filter((day) => day.kind === kind).length;
    const summary = `Backups by day in the last year: ${count(number("good") + number("mixed"), "day")} with a good backup, ${number("failed")} with failures only, ${number("none")} without any`;
    const bad = shown.filter(({ kind }) => kind === "failed" || kind === "mixed").reverse();
    return html`<figure class="calendar">
        <figcaption class="calendar-key quiet">${Object.entries(KINDS).map(([kind, word]) => html`<span key=${kind}><i class=${kind} aria-hidden="true"></i> ${word}</span>`)}</figcaption>
        <section class="scroll" ref=${scroller} tabindex="0" aria-label="Calendar of backups">
            <div class="calendar-days" role="img" aria-label=${summary}>
                ${shown.map((day) => html`<i key=${day.date} class=${day.kind} title=${titleOf(day)}></i>`)}
            </div>
        </section>
        ${bad.length > 0 && html`<details><summary>${count(bad.length, "day")} with failures</summary>
            <ul class="scroll" tabindex="0">${bad.map((day) => html`<li key=${day.date}>${titleOf(day)}</li>`)}</ul></details>`}
    </figure>`;
}

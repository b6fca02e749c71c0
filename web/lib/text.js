// Numbers and times as words.

let skew = 0;

/** The server's clock counts: ages would be wrong by a browser whose clock is. */
export function noteServerTime(date) {
    const server = Date.parse(date ?? "");
    if (Number.isNaN(server)) return;
    const off = server - Date.now();
    skew = Math.abs(off) < 5000 ? 0 : off;
}

export const now = () => Date.now() + skew;

const UNITS = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];

/** "1.4 GiB"; empty for what is not known. */
export function bytes(n) {
    if (n === undefined || n === null) return "";
    let [value, unit] = [Math.abs(n), 0];
    while (value >= 999.5 && unit < UNITS.length - 1) {
        value /= 1024;
        unit += 1;
    }
    const digits = unit === 0 || value >= 99.95 ? 0 : 1;
    return `${n < 0 ? "−" : ""}${value.toFixed(digits)} ${UNITS[unit]}`;
}

const STEPS = [[86400, "day"], [3600, "hour"], [60, "minute"], [1, "second"]];

/** A whole number: "12,345". Not by the browser's own formats, which take fifty milliseconds to begin with. */
export const numeral = (n) => String(n).replace(/\B(?=(\d{3})+$)/g, ",");

/** "1 database", "12 databases". */
export function count(n, word, words = `${word}s`) {
    return `${numeral(n)} ${n === 1 ? word : words}`;
}

/** A length of time, roughly: "3 hours". */
function span(seconds) {
    const whole = Math.max(0, Math.round(seconds));
    // Two days are said in hours up to here, since the promises are.
    const [size, word] = STEPS.find(([size]) => whole >= size * (size === 86400 ? 2 : 1)) ?? STEPS[3];
    return count(Math.floor(whole / size), word);
}

/** A length of time, shortly: "350 ms", "4.2 s", "3 min 20 s", "5 h 12 min". */
export function duration(ms) {
    if (ms === undefined || ms === null) return "";
    if (ms < 1000) return `${Math.round(ms)} ms`;
    if (ms < 9950) return `${(ms / 1000).toFixed(1)} s`;
    const seconds = Math.round(ms / 1000);
    const pair = (size, big, small, unit) => {
        const rest = Math.floor((seconds % size) / small);
        return `${Math.floor(seconds / size)} ${big}${rest ? ` ${rest} ${unit}` : ""}`;
    };
    if (seconds < 60) return `${seconds} s`;
    if (seconds < 3600) return pair(60, "min", 1, "s");
    if (seconds < 172800) return pair(3600, "h", 60, "min");
    return pair(86400, "d", 3600, "h");
}

const millis = (time) => (time instanceof Date ? time.getTime() : Date.parse(time));

/** "4 minutes ago", "in 3 hours"; "never" for no time. */
export function ago(time) {
    if (!time) return "never";
    const seconds = (now() - millis(time)) / 1000;
    if (Number.isNaN(seconds)) return String(time);
    if (Math.abs(seconds) < 5) return seconds < 0 ? "now" : "just now";
    return seconds > 0 ? `${span(seconds)} ago` : `in ${span(-seconds)}`;
}

/** Milliseconds since then. */
export const age = (time) => now() - millis(time);

const LONG = {
    day: "numeric", month: "short", year: "numeric", hour: "2-digit", minute: "2-digit", second: "2-digit", timeZoneName: "short",
};
const DAY = { day: "numeric", month: "short", year: "numeric" };
const SHORT = { day: "numeric", month: "short", hour: "2-digit", minute: "2-digit" };

/** Formats take long to make: each is made once, when it is needed. */
const made = new Map();

function formatted(parts, time) {
    const at = millis(time);
    if (Number.isNaN(at)) return String(time ?? "");
    if (!made.has(parts)) made.set(parts, new Intl.DateTimeFormat("en-GB", parts));
    return made.get(parts).format(at);
}

/** In the browser's zone, which is said: "1 Nov 2026, 04:00:12 CET". */
export const when = (time) => formatted(LONG, time);

/** "1 Nov, 04:00"; of another year only the day, "1 Nov 2024". */
export const shortly = (time) => formatted(new Date(time).getFullYear() === new Date(now()).getFullYear() ? SHORT : DAY, time);

/** "1 Nov 2026". */
export const dayOf = (time) => formatted(DAY, time);

/** A promise or rule as words: 86400 → "24 hours". */
export const spanOf = span;

/** "transient-failure" → "transient failure". */
export const words = (text) => String(text ?? "").replaceAll("-", " ");

/** With a capital letter. */
export const capital = (text) => text.charAt(0).toUpperCase() + text.slice(1);

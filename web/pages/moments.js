// Moments as fields of forms have them: in the browser's zone and without naming it.

import { when } from "../lib/text.js";

const two = (n) => String(n).padStart(2, "0");

/** "2026-11-20T15:30:00" for a field of the type datetime-local; a moment in whole seconds means all of that second. */
export function localInput(time) {
    const at = new Date(time);
    if (Number.isNaN(at.getTime())) return "";
    const day = `${String(at.getFullYear()).padStart(4, "0")}-${two(at.getMonth() + 1)}-${two(at.getDate())}`;
    return `${day}T${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}`;
}

/** The moment in UTC, null for what is none. It is `known` as long as the field shows that: in autumn an hour comes twice. */
export function momentOf(input, known) {
    if (!input) return null;
    const at = Math.floor(new Date(localInput(known) === input ? known : input).getTime() / 1000) * 1000;
    return Number.isNaN(at) ? null : new Date(at).toISOString();
}

/** What is said below such a field: also which of the two hours is meant, or what is meant by one that spring leaves out. */
export const momentHint = (at) => `In the time zone of this browser${at ? `: ${when(at)}` : ""}. What was saved last before it is restored.`;

// Tables: on narrow screens their rows are cards.

import { html } from "./html.js";

/**
 * `columns` are `{ id, label, cell(row), sortable, first: "asc"|"desc", numeric, header, kind }`: `header` is the column that names
 * its row, `first` the order that a first click sorts by. The roles are written out, since style sheets that turn rows into
 * cards take them away.
 */
export function Table({ caption, columns, rows, keyOf, sort, order, onSort, busy = false, kind = "" }) {
    const head = (column) => {
        const isSorted = column.id === sort;
        const direction = { asc: "ascending", desc: "descending" }[order];
        const next = isSorted ? (order === "asc" ? "desc" : "asc") : (column.first ?? "asc");
        const sign = isSorted ? (order === "asc" ? "▲" : "▼") : "";
        const label = column.sortable
            ? html`<button type="button" class="sort" onClick=${() => onSort(column.id, next)}>${column.label}<span aria-hidden="true">${sign}</span></button>`
            : column.label;
        return html`<th key=${column.id} role="columnheader" scope="col" class=${column.numeric ? "numeric" : ""}
            aria-sort=${column.sortable && isSorted ? direction : undefined}>${label}</th>`;
    };
    const cell = (row) => (column) => {
        const classes = `${column.numeric ? "numeric" : ""} ${column.kind ?? ""}`;
        const content = column.cell(row);
        return column.header
            ? html`<th key=${column.id} role="rowheader" scope="row" class=${classes}>${content}</th>`
            : html`<td key=${column.id} role="cell" data-label=${column.label} class=${classes}>${content}</td>`;
    };
    return html`<table role="table" class=${`table ${kind}`} aria-busy=${busy ? "true" : undefined}>
        <caption class="visually-hidden">${caption}</caption>
        <thead role="rowgroup"><tr role="row">${columns.map(head)}</tr></thead>
        <tbody role="rowgroup">${rows.map((row) => html`<tr role="row" key=${keyOf(row)}>${columns.map(cell(row))}</tr>`)}</tbody>
    </table>`;
}

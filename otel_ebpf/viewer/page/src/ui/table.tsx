// A table that sorts by its columns; what it is sorted by is a parameter of the address.

import type { ComponentChildren } from "preact";
import { param, setQuery } from "../url";

export interface Column<Row> {
  id: string;
  title: string;
  /** What the column is sorted by; without it the column does not sort. null sorts last. */
  value?: (row: Row) => number | string | null;
  cell: (row: Row) => ComponentChildren;
  number?: boolean;
  /** Takes the room that is left; what does not fit is clipped. */
  wide?: boolean;
  hint?: string;
}

/** `sort` is the column's id, with "-" before it: largest first. */
export function sorted<Row>(rows: readonly Row[], columns: readonly Column<Row>[], sort: string): Row[] {
  const down = sort.startsWith("-");
  const value = columns.find((column) => column.id === sort.replace(/^-/, ""))?.value;
  if (!value) return [...rows];
  const keyed = rows.map((row, index) => ({ row, index, key: value(row) }));
  keyed.sort((one, other) => {
    if (one.key === null || other.key === null) return Number(one.key === null) - Number(other.key === null) || one.index - other.index;
    const order = typeof one.key === "number" && typeof other.key === "number"
      ? one.key - other.key
      : String(one.key).localeCompare(String(other.key), undefined, { numeric: true });
    return (down ? -order : order) || one.index - other.index;
  });
  return keyed.map((one) => one.row);
}

export function Table<Row>({ rows, columns, caption, rowKey, order, name = "sort", dense = false, selected, limit }: {
  rows: readonly Row[]; columns: readonly Column<Row>[];
  /** What the table holds; for screen readers. */
  caption: string;
  rowKey: (row: Row) => string;
  /** Sorted by this if the address does not say otherwise. */
  order: string;
  /** The parameter that holds the order; tables of one page need different ones. */
  name?: string;
  dense?: boolean; selected?: (row: Row) => boolean; limit?: number;
}) {
  const sort = param(name, order);
  // Rows that are equal in what they are sorted by stand in an order that the next answer does not change.
  const steady = [...rows].sort((one, other) => rowKey(one).localeCompare(rowKey(other)));
  const shown = sorted(steady, columns, sort);
  const choose = (column: Column<Row>): void => {
    const largestFirst = column.number === true;
    const first = largestFirst ? `-${column.id}` : column.id;
    const second = largestFirst ? column.id : `-${column.id}`;
    const next = sort === first ? second : first;
    setQuery({ [name]: next === order ? null : next }, { replace: true });
  };
  return (
    <div class="scroll">
      <table class={dense ? "data dense" : "data"}>
        <caption class="visually-hidden">{caption}</caption>
        <thead><tr>{columns.map((column) => {
          const direction = sort === column.id ? "ascending" : sort === `-${column.id}` ? "descending" : undefined;
          return (
            <th key={column.id} scope="col" class={column.number ? "number" : ""} aria-sort={direction} title={column.hint}>
              {column.value
                ? <button type="button" onClick={() => choose(column)}>{column.title}<span aria-hidden="true">{direction ? (direction === "ascending" ? "↑" : "↓") : ""}</span></button>
                : <span>{column.title}</span>}
            </th>
          );
        })}</tr></thead>
        <tbody>{shown.slice(0, limit ?? shown.length).map((row) => (
          <tr key={rowKey(row)} aria-selected={selected ? selected(row) : undefined}>
            {columns.map((column) => (
              <td key={column.id} class={`${column.number ? "number" : ""} ${column.wide ? "wide" : ""}`}>
                {column.wide ? <span>{column.cell(row)}</span> : column.cell(row)}
              </td>
            ))}
          </tr>
        ))}</tbody>
      </table>
      {limit !== undefined && shown.length > limit && <p class="more muted">{limit} of {shown.length} are shown.</p>}
    </div>
  );
}

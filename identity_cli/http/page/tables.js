// Tables: the evidence beside its picture, a chain, and the history.

import { element, fill, momentOf, nameOf, pager, placeOf, textButton, valueText } from "./elements.js";

const ROWS = 50;

/** Show all values with the rows that linked them; `read` returns the branches of a page. */
export function showTable({ total, read, choose }) {
  const show = async (offset, isMoved = true) => {
    const branches = await read(offset, ROWS);
    if (branches === null) return;
    fill(
      "table-body",
      tableOf(
        "Each value, and the row that linked it, from the primary on",
        ["Value", "Linked with", "Row", "Run", "File and line", "Time"],
        branches.map((branch) => {
          const row = branch.link ?? branch.origin;
          return [
            textButton(valueText(branch.value), () => choose(branch.value)),
            branch.parent === null ? "–" : valueText(branch.parent),
            row ? nameOf(row) : "–",
            row?.run_id ?? "–",
            row ? element("span", { class: "place" }, placeOf(row)) : "–",
            row ? element("span", { class: "moment" }, momentOf(row.time)) : "–",
          ];
        }),
        "table-caption",
      ),
      pager({ offset, size: ROWS, total, what: "values", show }),
    );
    if (isMoved) document.querySelector("#table-body .scroll").focus();
  };
  return show(0, false);
}

/** Show the hops of a chain in order. */
export function chainList(hops, choose) {
  return element(
    "ol",
    { class: "chain" },
    ...hops.map((hop) =>
      element(
        "li",
        {},
        valueText(hop.value),
        " to ",
        valueText(hop.other_value),
        ": ",
        textButton(`${nameOf(hop)}, ${placeOf(hop)}`, () => choose({ hop }, { isFollowed: true })),
      ),
    ),
  );
}

/** Show the events of a contact; `more` reads older ones, if there may be any. */
export function showHistory(events, more) {
  fill(
    "history-body",
    events.length
      ? tableOf(
          "What happened to the contact and its identity, newest first",
          ["Time", "What", "Who", "Reason"],
          events.map((event) => [
            element("span", { class: "moment" }, momentOf(event.at)),
            element("span", { class: "place" }, described(event)),
            event.role ?? "–",
            event.reason ?? "–",
          ]),
          "history-caption",
        )
      : element("p", {}, "Nothing is recorded."),
    more ? element("p", {}, element("button", { type: "button", class: "plain", click: more }, "Show older events")) : null,
  );
}

function tableOf(caption, columns, rows, id) {
  return element(
    "div",
    { class: "scroll", role: "region", tabindex: "0", "aria-labelledby": id },
    element(
      "table",
      {},
      element("caption", { id }, caption),
      element("thead", {}, element("tr", {}, ...columns.map((title) => element("th", { scope: "col" }, title)))),
      element(
        "tbody",
        {},
        ...rows.map(([first, ...cells]) =>
          element("tr", {}, element("th", { scope: "row" }, first), ...cells.map((cell) => element("td", {}, cell))),
        ),
      ),
    ),
  );
}

function described(event) {
  const run = event.run_id ? `, run ${event.run_id}` : "";
  const line = event.line ? `, line ${event.line} of its inputs` : "";
  const identity = (id) => (id === null ? "no identity" : `identity ${id}`);
  const [from, to] = [event.fromPrimaryContactId, event.toPrimaryContactId];
  switch (event.event) {
    case "stored":
      return `contact ${event.contactId} was stored ${to === null ? "as a primary" : `and linked with contact ${to}`}${run}${line}`;
    case "merge":
      return `identity ${from} became part of ${identity(to)}${run}${line}`;
    case "moved":
      return `contact ${event.contactId} moved from ${identity(from)} to ${identity(to)} by ${event.command} (command ${event.command_id})`;
    default:
      return `command ${event.command_id}: ${[event.command, event.detail].filter(Boolean).join(" ")}${run}`;
  }
}

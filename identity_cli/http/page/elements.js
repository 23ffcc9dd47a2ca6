// Elements and texts. Whatever a value holds becomes text, never markup.

const SVG = "http://www.w3.org/2000/svg";

/** Return an HTML element with attributes and children; strings become text. */
export function element(name, attributes = {}, ...children) {
  return filled(document.createElement(name), attributes, children);
}

/** Return an SVG element with attributes and children; strings become text. */
export function shape(name, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, name), attributes, children);
}

function filled(one, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") one.addEventListener(name, value);
    else if (value !== null && value !== undefined && value !== false) {
      one.setAttribute(name, value === true ? "" : value);
    }
  }
  one.append(...children.filter((child) => child !== null && child !== undefined));
  return one;
}

/** Replace what an element of the page holds. */
export function fill(id, ...children) {
  document.getElementById(id).replaceChildren(...children.filter(Boolean));
}

/** Return a stored value as an element. */
export function valueText(value) {
  return element("span", { class: "value" }, String(value));
}

/** Return a button that looks like a link. */
export function textButton(label, onClick, attributes = {}) {
  return element("button", { type: "button", class: "text", click: onClick, ...attributes }, label);
}

/** Return a list of names and descriptions; those without a description are left out. */
export function facts(pairs) {
  return element(
    "dl",
    { class: "facts" },
    ...pairs
      .filter(([, description]) => description !== null && description !== undefined)
      .flatMap(([name, description]) => [element("dt", {}, name), element("dd", {}, description)]),
  );
}

export function count(number, one, several = `${one}s`) {
  return `${number.toLocaleString("en")} ${number === 1 ? one : several}`;
}

/** Return what a row of evidence is called: its table and its id. */
export function nameOf(row) {
  return row.contact_id === null ? `evidence ${row.evidence_id}` : `contact ${row.contact_id}`;
}

/** Return the file and line of a row, or how else it came. */
export function placeOf(row) {
  if (row.run_id === null) return "identify or HTTP";
  if (row.path === null) return row.line === null ? "unknown input" : `line ${row.line} of all inputs`;
  return `${row.path === "-" ? "standard input" : row.path}:${row.line}`;
}

/** Return a moment to the second, in UTC. */
export function momentOf(text) {
  return `${new Date(text).toISOString().slice(0, 19).replace("T", " ")} UTC`;
}

/** Return a page number's buttons and its place; `show` is called with the new offset. */
export function pager({ offset, size, total, what, show }) {
  if (total <= size) return null;
  const last = Math.min(offset + size, total);
  const move = (label, target, isPossible) =>
    element(
      "button",
      { type: "button", class: "plain", disabled: !isPossible, click: () => show(target) },
      label,
    );
  return element(
    "div",
    { class: "pager", role: "group", "aria-label": `Pages of ${what}` },
    move("Previous", offset - size, offset > 0),
    element("span", {}, `${(offset + 1).toLocaleString("en")}–${last.toLocaleString("en")} of ${total.toLocaleString("en")}`),
    move("Next", offset + size, last < total),
  );
}

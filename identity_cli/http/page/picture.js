// The picture of an identity's evidence: values as boxes, rows as the lines between them.

import { nameOf, placeOf, shape } from "./elements.js";
import { HEIGHT, lineBetween, lineTo, placesOf, shortened } from "./layout.js";

/**
 * Draw the tree into its box; `choose` is called with a value or a hop that is selected.
 *
 * Returns an object whose `mark` shows what is selected.
 */
export function drawPicture(box, { evidence, asked, choose }) {
  const layout = placesOf(evidence.tree, box.clientWidth);
  const stops = []; // what the arrow keys reach, in order
  const svg = shape("svg", {
    width: layout.width,
    height: layout.height,
    role: "group",
    "aria-label": "Picture of the evidence",
    "aria-describedby": "picture-help",
  });
  const boxes = shape("g");
  for (const place of layout.places.values()) {
    if (place.parent) stops.push(drawLine(svg, place));
    stops.push(drawBox(boxes, place, evidence.tree, asked));
  }
  for (const hop of evidence.other_hops) {
    stops.push(drawOther(svg, layout.places, hop));
  }
  svg.append(boxes);
  box.replaceChildren(svg);
  return steered(box, svg, stops, choose);
}

function drawBox(parent, place, tree, asked) {
  const { branch, x, y, grid } = place;
  const hidden = branch.children - tree.filter((one) => one.parent === branch.value).length;
  const text = shape("text", { x: x + 10, y: y + (hidden ? 19 : 26) }, shortened(branch.value, grid.columns));
  const node = shape(
    "g",
    {
      class: `node ${branch.value.includes("@") ? "email" : "phone"}${asked.has(branch.value) ? " asked" : ""}`,
      role: "button",
      tabindex: "-1",
      "aria-pressed": "false",
      "aria-label": `${branch.value}${hidden ? `, and ${hidden.toLocaleString("en")} more values that are left out` : ""}`,
    },
    shape("title", {}, branch.value),
    shape("rect", { x, y, width: grid.box, height: HEIGHT, rx: 8 }),
    text,
    hidden ? shape("text", { x: x + 10, y: y + 35, class: "more" }, `and ${hidden.toLocaleString("en")} more`) : null,
  );
  parent.append(node);
  return { node, place, value: branch.value, select: { value: branch.value } };
}

function drawLine(parent, place) {
  const { branch, skipped, grid } = place;
  const { path, texts } = lineTo(place);
  const link = branch.link;
  const labels = skipped
    ? [`${skipped.toLocaleString("en")} more values`, "are left out"]
    : [`${nameOf(link)}${link.merged_id === null ? "" : ", merged"}`, placeOf(link)];
  const hop = { value: branch.parent, other_value: branch.value, ...link };
  const kind = skipped ? "gap" : link.contact_id === null ? "evidence" : "stored";
  const node = shape(
    "g",
    {
      class: `row ${kind}${link.merged_id === null ? "" : " merge"}`,
      role: "button",
      tabindex: "-1",
      "aria-pressed": "false",
      "aria-label": skipped ? labels.join(" ") : rowLabel(hop),
    },
    shape("title", {}, skipped ? labels.join(" ") : rowLabel(hop)),
    shape("path", { class: "line", d: path }),
    shape("path", { class: "hit", d: path }),
    ...labels.map((label, i) =>
      shape("text", { x: texts[i][0], y: texts[i][1] }, shortened(label, grid.label)),
    ),
  );
  parent.append(node);
  // The row of a branch whose parent is left out leads to that parent, not to the root.
  return { node, place, start: place.parent, hop, select: { hop } };
}

function drawOther(parent, places, hop) {
  const path = lineBetween(places.get(hop.value), places.get(hop.other_value));
  const node = shape(
    "g",
    {
      class: `row other ${hop.contact_id === null ? "evidence" : "stored"}`,
      role: "button",
      tabindex: "-1",
      "aria-pressed": "false",
      "aria-label": rowLabel(hop),
    },
    shape("title", {}, rowLabel(hop)),
    shape("path", { class: "line", d: path }),
    shape("path", { class: "hit", d: path }),
  );
  parent.append(node);
  const [start, place] = [hop.value, hop.other_value].map((value) => places.get(value));
  return { node, place, start, hop, select: { hop } };
}

function rowLabel(hop) {
  return `${nameOf(hop)}, ${placeOf(hop)}, joins ${hop.value} and ${hop.other_value}`;
}

/** Return whether two hops are the same row. */
function isSameRow(one, other) {
  return one.contact_id === other.contact_id && one.evidence_id === other.evidence_id;
}

/** Let the pointer and the keyboard select; one stop at a time can be reached with Tab. */
function steered(box, svg, stops, choose) {
  let current = stops[0];
  const stopOf = (target) => stops.find((stop) => stop.node.contains(target));

  const reach = (stop, { focus }) => {
    current.node.setAttribute("tabindex", "-1");
    current = stop;
    current.node.setAttribute("tabindex", "0");
    if (focus) current.node.focus({ preventScroll: true });
    bringIntoView(box, stop);
  };
  const isValue = (stop) => stop.value !== undefined;
  const step = (from, by) => {
    let place = stops.indexOf(from) + by;
    while (stops[place] && isValue(stops[place]) !== isValue(from)) place += by;
    return stops[place];
  };
  // Both ends of a row: the values to its left and right, or for a value the rows there.
  const toParent = (from) =>
    isValue(from)
      ? stops.find((stop) => stop.hop && stop.place === from.place)
      : stops.find((stop) => isValue(stop) && stop.place === from.start);
  const toChild = (from) =>
    isValue(from)
      ? stops.find((stop) => stop.hop && stop.start === from.place)
      : stops.find((stop) => isValue(stop) && stop.place === from.place);
  const moves = {
    ArrowUp: (from) => step(from, -1),
    ArrowDown: (from) => step(from, 1),
    ArrowLeft: toParent,
    ArrowRight: toChild,
    Home: () => stops[0],
    End: () => stops.at(-1),
  };

  svg.addEventListener("click", (event) => {
    const stop = stopOf(event.target);
    if (!stop) return;
    reach(stop, { focus: true });
    choose(stop.select);
  });
  // A screen reader may focus any of them.
  svg.addEventListener("focusin", (event) => reach(stopOf(event.target) ?? current, { focus: false }));
  svg.addEventListener("keydown", (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    if (event.key === "Enter" || event.key === " ") choose(current.select);
    else if (moves[event.key]) reach(moves[event.key](current) ?? current, { focus: true });
    else return;
    event.preventDefault();
  });
  current.node.setAttribute("tabindex", "0");

  return {
    /** Show what is selected, and bring it into view. */
    mark(selected) {
      for (const stop of stops) {
        const isMarked = isValue(stop)
          ? stop.value === selected.value
          : Boolean(selected.hop) && isSameRow(stop.hop, selected.hop) && stop.hop.other_value === selected.hop.other_value;
        stop.node.setAttribute("aria-pressed", String(isMarked));
        if (isMarked) reach(stop, { focus: false });
      }
    },
  };
}

function bringIntoView(box, { place: { x, y, grid } }) {
  const margin = 60;
  if (x < box.scrollLeft || x + grid.box + 8 > box.scrollLeft + box.clientWidth) {
    box.scrollLeft = Math.max(0, x + grid.box + margin - box.clientWidth);
  }
  if (y - margin < box.scrollTop || y + HEIGHT + margin > box.scrollTop + box.clientHeight) {
    box.scrollTop = Math.max(0, y - box.clientHeight / 2);
  }
}

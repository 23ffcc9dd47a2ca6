// What is known of the value or the row that is selected, and the commands that would correct it.

import { commandList, commandsOfHop, commandsOfValue } from "./commands.js";
import { count, element, facts, fill, momentOf, nameOf, placeOf, textButton, valueText } from "./elements.js";

/** Show the value or the hop; `choose` selects another one, `lookUp` asks for what is around one. */
export function showDetails(selected, { evidence, choose, lookUp, announce }) {
  const parts = selected.hop
    ? hopParts(selected.hop, choose)
    : valueParts(selected.value, evidence, { choose, lookUp });
  const commands = selected.hop ? commandsOfHop(selected.hop) : commandsOfValue(selected.value);
  fill(
    "details-body",
    ...parts,
    element("h4", {}, "To correct it, run on the command line"),
    ...commandList(commands, announce),
  );
}

function hopParts(hop, choose) {
  return [
    element(
      "p",
      {},
      `${hop.contact_id === null ? "Evidence" : "Contact"} ${hop.evidence_id ?? hop.contact_id} shows `,
      textButton(valueText(hop.value), () => choose({ value: hop.value }, { isFollowed: true })),
      " and ",
      textButton(valueText(hop.other_value), () => choose({ value: hop.other_value }, { isFollowed: true })),
      ".",
    ),
    rowFacts(hop),
  ];
}

function valueParts(value, evidence, { choose, lookUp }) {
  const branch = evidence.tree.find((one) => one.value === value);
  const hops = hopsOf(value, evidence);
  const shown = evidence.tree.filter((one) => one.parent === value).length;
  const hidden = branch ? branch.children - shown : 0;
  return [
    element("p", {}, value.includes("@") ? "Email " : "Phone number ", valueText(value)),
    branch?.origin ? element("h4", {}, "Brought in by") : null,
    branch?.origin ? rowFacts(branch.origin) : null,
    hops.length ? element("h4", {}, "Follow a row to the next value") : null,
    hops.length
      ? element(
          "ul",
          { class: "hops" },
          ...hops.map((hop) =>
            element(
              "li",
              {},
              textButton(
                element("span", {}, "to ", valueText(hop.value === value ? hop.other_value : hop.value)),
                () => choose({ hop }, { isFollowed: true }),
              ),
              element("span", { class: "quiet place" }, `${nameOf(hop)}, ${placeOf(hop)}`),
            ),
          ),
        )
      : null,
    hidden
      ? element(
          "p",
          { class: "quiet" },
          `${count(hidden, "more value")} that it linked ${hidden === 1 ? "is" : "are"} left out of the picture; the table has all.`,
        )
      : null,
    hidden || !branch
      ? element("p", {}, textButton("Show what is around this value", () => lookUp(bodyOf(value, branch))))
      : null,
  ];
}

/** Return the body of a look-up of a stored value, which must not be taken for an id. */
function bodyOf(value, branch) {
  if (branch?.origin) return { id: branch.origin.contact_id };
  return value.includes("@") ? { email: value } : { phoneNumber: value };
}

/** Return the rows that join a value with others, the one towards the primary first. */
function hopsOf(value, evidence) {
  const ofTree = evidence.tree
    .filter((branch) => branch.link && (branch.value === value || branch.parent === value))
    .map((branch) => ({ value: branch.parent, other_value: branch.value, ...branch.link }));
  ofTree.sort((one, other) => (other.other_value === value) - (one.other_value === value));
  const others = evidence.other_hops.filter((hop) => hop.value === value || hop.other_value === value);
  return [...ofTree, ...others];
}

function rowFacts(row) {
  return facts([
    ["Row", nameOf(row)],
    ["Run", row.run_id ?? "none"],
    ["Source", element("span", { class: "place" }, placeOf(row))],
    ["Time", momentOf(row.time)],
    ["Merged", row.merged_id && `the identity of contact ${row.merged_id} became part of this one`],
  ]);
}

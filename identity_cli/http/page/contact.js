// The consolidated contact, and the rules that keep a value from having one.

import { commandList, commandsOfRule } from "./commands.js";
import { count, element, facts, fill, momentOf, pager, textButton, valueText } from "./elements.js";

const LISTED = 20;

/** Show the consolidated contact, or its counts if it is too large to be listed. */
export function showContact(contact, { ambiguous, choose, lookUpPhone }) {
  const figures = [
    ["Primary contact", contact.primaryContatctId],
    ["Contacts", amount(contact.secondaryContactIds) + 1],
    ["Emails", amount(contact.emails)],
    ["Phone numbers", amount(contact.phoneNumbers)],
  ];
  const isListed = Array.isArray(contact.emails);
  fill(
    "contact-body",
    ambiguous
      ? element(
          "p",
          { class: "notice" },
          `${ambiguous} is the id of this contact, and also the phone number of another identity. `,
          textButton("Look up the phone number", lookUpPhone),
        )
      : null,
    element(
      "dl",
      { class: "figures" },
      ...figures.map(([name, number]) =>
        element("div", {}, element("dt", {}, name), element("dd", {}, number.toLocaleString("en"))),
      ),
    ),
    isListed
      ? element(
          "div",
          { class: "values" },
          valueList("Emails", contact.emails, choose),
          valueList("Phone numbers", contact.phoneNumbers, choose),
        )
      : element(
          "p",
          { class: "notice" },
          "This identity is too large to be listed here: run ",
          element("code", {}, `identity show --id ${contact.primaryContatctId}`),
          " on the command line.",
        ),
  );
}

function amount(found) {
  return Array.isArray(found) ? found.length : found;
}

function valueList(title, values, choose) {
  const list = element("div", { "aria-live": "off" });
  const show = (offset, isMoved = true) => {
    const shown = values.slice(offset, offset + LISTED);
    list.replaceChildren(
      values.length
        ? element(
            "ul",
            { "aria-label": title },
            ...shown.map((value) => element("li", {}, textButton(valueText(value), () => choose(value)))),
          )
        : element("p", { class: "quiet" }, "None."),
    );
    const pages = pager({ offset, size: LISTED, total: values.length, what: title.toLowerCase(), show });
    if (pages) list.append(pages);
    if (isMoved) list.querySelector("ul button")?.focus();
  };
  show(0, false);
  return element("div", {}, element("h3", {}, title), list);
}

/** Return why a rule keeps values apart, and the command that removes it. */
export function ruleNotice(rule, announce) {
  const kinds = {
    blocked: "This value is blocked: it belongs to no identity.",
    pattern: "This value is blocked by a pattern: it belongs to no identity.",
    hub: "This value was seen with more others than the policy allows: it belongs to no identity.",
    unlinked: "These two values were unlinked.",
  };
  return element(
    "div",
    { class: "rule" },
    element("p", {}, kinds[rule.kind]),
    facts([
      [rule.values.length > 1 ? "Values" : "Value", element("span", {}, ...rule.values.flatMap((value, i) => [i ? ", " : "", valueText(value)]))],
      ["Command", rule.command_id],
      ["Time", rule.time && momentOf(rule.time)],
      ["Reason", rule.reason],
    ]),
    ...commandList(commandsOfRule(rule), announce),
  );
}

/** Return a sentence about an identity. */
export function sizeOf(evidence) {
  const parts = [count(evidence.contacts, "contact"), count(evidence.values, "value")];
  if (evidence.pairs) parts.push(count(evidence.pairs, "row of later evidence", "rows of later evidence"));
  return parts.join(", ");
}

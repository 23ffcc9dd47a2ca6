// The commands that would correct what is shown, quoted for a POSIX shell.

import { element } from "./elements.js";

const SAFE = /^[\w@%+=:,./-]+$/;

/** Return a word as a shell reads it back. */
export function quoted(word) {
  return SAFE.test(word) ? word : `'${word.replaceAll("'", `'"'"'`)}'`;
}

/** Return a command line; words that begin with a hyphen cannot be taken for options. */
export function commandLine(names, values) {
  const words = values.map(String);
  const end = words.some((word) => word.startsWith("-")) ? ["--"] : [];
  return ["identity", ...names, ...end, ...words.map(quoted)].join(" ");
}

/** Return what would separate the two values of a hop. */
export function commandsOfHop(hop) {
  const values = [hop.value, hop.other_value];
  const commands = [
    ["If these two belong to different people", commandLine(["unlink"], values)],
    ["If they stay joined by other rows: the fewest pairs to unlink", commandLine(["unlink", "--cut"], values)],
  ];
  if (hop.run_id !== null) {
    commands.push(["If the whole import was a mistake, and is the newest", commandLine(["undo"], [hop.run_id])]);
  }
  return commands;
}

/** Return what would take a value out of its identity. */
export function commandsOfValue(value) {
  return [
    ["If it belongs to many people, or to none", commandLine(["block"], [value])],
    ["If its owner asks to be forgotten", commandLine(["forget"], [value])],
  ];
}

/** Return what would make a rule's values link again. */
export function commandsOfRule(rule) {
  if (rule.kind === "unlinked") return [["To let the two link again", commandLine(["relink"], rule.values)]];
  if (rule.kind === "hub") return [["To exempt it from the limit", commandLine(["policy", "allow"], rule.values)]];
  if (rule.kind === "pattern") return [["To see the pattern that blocks it", "identity block --list"]];
  return [["To let it link again", commandLine(["unblock"], rule.values)]];
}

/** Return commands with their reasons, and a button for each that copies it. */
export function commandList(commands, announce) {
  return commands.flatMap(([why, line]) => {
    const code = element("code", { tabindex: "-1" }, line);
    const copy = async ({ target }) => {
      try {
        await navigator.clipboard.writeText(line);
        announce("Copied.");
        target.textContent = "Copied";
        setTimeout(() => (target.textContent = "Copy"), 2000);
      } catch {
        // Without HTTPS a page may not copy: the user does.
        getSelection().selectAllChildren(code);
        code.focus();
        announce("Selected: press Ctrl+C to copy it.");
      }
    };
    return [
      element("p", { class: "why" }, `${why}:`),
      element(
        "p",
        { class: "command" },
        code,
        element("button", { type: "button", class: "plain", click: copy, "aria-label": `Copy ${line}` }, "Copy"),
      ),
    ];
  });
}

// The page: what is asked for, what is shown, and what is selected.

import { ruleNotice, showContact, sizeOf } from "./contact.js";
import { showDetails } from "./details.js";
import { element, fill } from "./elements.js";
import { drawPicture } from "./picture.js";
import { ServiceError, ask, token } from "./service.js";
import { chainList, showHistory, showTable } from "./tables.js";

const EVENTS = 20;
const EVENTS_MAX = 1000;
const byId = (id) => document.getElementById(id);

let controller = new AbortController();
let waiting = null; // the body of the look-up that waits for a token
let shown = null; // what was found: the place, the evidence, the picture, the selection

function say(text, { isBad = false } = {}) {
  byId("status").textContent = text;
  byId("status").classList.toggle("bad", isBad);
}

async function lookUp(body) {
  controller.abort();
  controller = new AbortController();
  const { signal } = controller;
  say("Looking up…");
  byId("result").setAttribute("aria-busy", "true");
  try {
    const located = await ask("lookup", { body, signal });
    const path = `contacts/${located.contact_id}`;
    const [contact, evidence, history] = await Promise.all([
      readContact(path, signal),
      orTooLarge(ask(`${path}/evidence`, { signal })),
      orTooLarge(ask(`${path}/history?limit=${EVENTS}`, { signal })),
    ]);
    show({ located, path, contact, evidence, history });
  } catch (error) {
    if (error.name !== "AbortError") fail(error, body);
  } finally {
    if (!signal.aborted) byId("result").removeAttribute("aria-busy");
  }
}

async function readContact(path, signal) {
  const found = await orTooLarge(ask(path, { signal }));
  return found instanceof ServiceError ? (await ask(`${path}?summary=1`, { signal })).contact : found.contact;
}

/** Return the error instead of throwing it if the identity is too large for an answer. */
async function orTooLarge(answer) {
  try {
    return await answer;
  } catch (error) {
    if (error.code === "identity_too_large") return error;
    throw error;
  }
}

function fail(error, body) {
  clear();
  if (!(error instanceof ServiceError)) {
    say("Something went wrong in this page.", { isBad: true });
    throw error;
  }
  if (error.status === 401) {
    say(token.get() ? "This token was refused: check it." : "This service needs a token.", { isBad: true });
    token.forget();
    waiting = body;
    byId("token-form").hidden = false;
    byId("token-kept").hidden = true;
    byId("token").focus();
    return;
  }
  say(error.message, { isBad: true });
  byId("rules").hidden = !error.rules.length;
  fill("rules-body", ...error.rules.map((rule) => ruleNotice(rule, say)));
}

function clear() {
  shown = null;
  byId("result").hidden = true;
  byId("rules").hidden = true;
  for (const id of ["contact-body", "picture", "details-body", "chain-body", "table-body", "history-body", "rules-body"]) fill(id);
}

function show(found) {
  const { located, path, contact, evidence, history } = found;
  clear();
  shown = found;
  byId("result").hidden = false;
  byId("token-kept").hidden = !token.get();
  showContact(contact, {
    ambiguous: located.is_ambiguous ? located.value : null,
    lookUpPhone: () => lookUp({ phoneNumber: String(located.value) }),
    choose: (value) => choose({ value }, { isFollowed: true }),
  });
  const hasEvidence = !(evidence instanceof ServiceError);
  for (const id of ["evidence-body", "chain", "table-heading"]) byId(id).hidden = !hasEvidence;
  if (hasEvidence) showEvidence(found);
  else byId("evidence-summary").textContent = evidence.message;
  if (history instanceof ServiceError) fill("history-body", element("p", {}, history.message));
  else showEvents(path, history.events, EVENTS);
  say(`Found contact ${located.contact_id} of identity ${located.primary_id}${hasEvidence ? `: ${sizeOf(evidence)}` : ""}.`);
}

function showEvidence(found) {
  const { located, path, evidence } = found;
  const isAsked = (branch) =>
    located.kind === "id" ? branch.origin?.contact_id === located.contact_id : branch.value === located.value;
  const asked = new Set(evidence.tree.filter(isAsked).map((branch) => branch.value));
  byId("evidence-summary").textContent = evidence.is_pruned
    ? `${evidence.tree.length} of ${evidence.values.toLocaleString("en")} values are drawn: those nearest to what was looked up. The table has all.`
    : `${evidence.values === 1 ? "Its only value is" : `All ${evidence.values} values are`} drawn.`;
  found.asked = asked;
  draw();
  choose({ value: [...asked][0] ?? evidence.tree[0].value });
  showTable({
    total: evidence.values,
    choose: (value) => choose({ value }, { isFollowed: true }),
    read: async (offset, limit) => {
      if (!evidence.is_pruned) return evidence.tree.slice(offset, offset + limit);
      try {
        const { signal } = controller;
        return (await ask(`${path}/evidence?offset=${offset}&limit=${limit}`, { signal })).tree;
      } catch (error) {
        if (error.name !== "AbortError") say(error.message, { isBad: true });
        return null;
      }
    },
  });
}

function draw() {
  const { evidence, asked } = shown;
  const box = byId("picture");
  shown.width = box.clientWidth;
  shown.picture = drawPicture(box, { evidence, asked, choose });
  if (shown.selected) shown.picture.mark(shown.selected);
}

/** Select a value or a hop; one that is followed from a list takes the focus with it. */
function choose(selected, { isFollowed = false } = {}) {
  const { evidence } = shown;
  if (evidence instanceof ServiceError) return;
  shown.selected = selected;
  shown.picture.mark(selected);
  showDetails(selected, { evidence, choose, lookUp, announce: say });
  if (isFollowed) byId("details-heading").focus();
}

function showEvents(path, events, limit) {
  const next = Math.min(limit * 5, EVENTS_MAX);
  const mayHaveMore = events.length === limit && limit < EVENTS_MAX;
  const more = async () => {
    try {
      const { signal } = controller;
      showEvents(path, (await ask(`${path}/history?limit=${next}`, { signal })).events, next);
      byId("history-body").querySelector(".scroll").focus();
    } catch (error) {
      if (error.name !== "AbortError") say(error.message, { isBad: true });
    }
  };
  showHistory(events, mayHaveMore ? more : null);
}

async function showChain(text) {
  const { path, located } = shown;
  const { signal } = controller;
  try {
    const other = await ask("lookup", { body: { value: text }, signal });
    const chain = await ask(`${path}/evidence?to=${other.contact_id}`, { signal });
    if (!chain.hops) {
      fill(
        "chain-body",
        element("p", {}, `They are two identities: ${located.primary_id} and ${other.primary_id}. Nothing that links joins them.`),
        ...chain.rules.map((rule) => ruleNotice(rule, say)),
      );
      say("They are two identities.");
      return;
    }
    const hops = between(chain.hops, located, other);
    fill("chain-body", hops.length ? chainList(hops, choose) : element("p", {}, "Both are the same value or contact."));
    say(`The chain has ${hops.length} ${hops.length === 1 ? "hop" : "hops"}.`);
  } catch (error) {
    if (error.name === "AbortError") return;
    fill("chain-body", element("p", { class: "bad" }, error.message), ...(error.rules ?? []).map((rule) => ruleNotice(rule, say)));
    say(error.message, { isBad: true });
  }
}

/** The chain joins two contacts: leave out what is before the one value and after the other. */
function between(hops, start, end) {
  const first = start.kind === "id" ? -1 : hops.findLastIndex((hop) => hop.value === start.value);
  const rest = hops.slice(Math.max(first, 0));
  if (start.kind !== "id" && end.kind !== "id" && start.value === end.value) return [];
  const last = end.kind === "id" ? -1 : rest.findIndex((hop) => hop.other_value === end.value);
  return last < 0 ? rest : rest.slice(0, last + 1);
}

function onSubmit(id, handle) {
  byId(id).addEventListener("submit", (event) => {
    event.preventDefault();
    handle(byId(id).querySelector("input"));
  });
}

onSubmit("search", (input) => lookUp({ value: input.value }));
onSubmit("chain", (input) => showChain(input.value));
onSubmit("token-form", (input) => {
  token.keep(input.value.trim());
  input.value = "";
  byId("token-form").hidden = true;
  byId("value").focus();
  if (waiting) lookUp(waiting);
  waiting = null;
});
byId("forget-token").addEventListener("click", () => {
  controller.abort();
  token.forget();
  clear();
  byId("token-kept").hidden = true;
  say("The token is forgotten.");
  byId("value").focus();
});

let resizing = 0;
addEventListener("resize", () => {
  clearTimeout(resizing);
  resizing = setTimeout(() => {
    if (shown?.picture && byId("picture").clientWidth !== shown.width) draw();
  }, 150);
});
byId("value").focus();

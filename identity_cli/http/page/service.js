// Requests to the service. The token is kept in this tab only; values go into bodies, not URLs.

const KEY = "identity.token";

/** An answer that is not a 200: its status, its message, and the rules that explain it. */
export class ServiceError extends Error {
  constructor(status, content) {
    super(messageOf(content) ?? `The service answered with status ${status}.`);
    this.status = status;
    this.rules = Array.isArray(content?.rules) ? content.rules : [];
    this.code = Array.isArray(content?.detail) ? content.detail[0]?.type : undefined;
  }
}

export const token = {
  get: () => sessionStorage.getItem(KEY),
  keep: (text) => sessionStorage.setItem(KEY, text),
  forget: () => sessionStorage.removeItem(KEY),
};

/** Send a request; with a body it is a POST. Throws `ServiceError`. */
export async function ask(path, { body, signal } = {}) {
  const headers = {};
  if (body !== undefined) headers["Content-Type"] = "application/json";
  const kept = token.get();
  if (kept) headers.Authorization = `Bearer ${bytesAsText(kept)}`;
  let answer;
  let content;
  try {
    answer = await fetch(path, {
      method: body === undefined ? "GET" : "POST",
      body: body === undefined ? undefined : JSON.stringify(body),
      headers,
      signal,
      cache: "no-store",
      credentials: "omit",
      referrerPolicy: "no-referrer",
    });
    content = await answer.json();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    if (!answer) throw new ServiceError(0, { detail: "The service cannot be reached." });
  }
  if (!answer.ok) throw new ServiceError(answer.status, content);
  if (!content) throw new ServiceError(0, { detail: "The answer is not from this service." });
  return content;
}

function messageOf(content) {
  const detail = content?.detail;
  if (typeof detail === "string") return sentence(detail);
  if (Array.isArray(detail) && detail.length) return sentence(detail.map((one) => one.msg).join("; "));
  return undefined;
}

function sentence(text) {
  const ended = /[.!?]$/.test(text) ? text : `${text}.`;
  return ended[0].toUpperCase() + ended.slice(1);
}

/** Headers are bytes: a token is compared as UTF-8. */
function bytesAsText(text) {
  return Array.from(new TextEncoder().encode(text), (byte) => String.fromCharCode(byte)).join("");
}

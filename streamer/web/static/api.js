// Requests to the server that the page comes from.

export const root = new URL("..", import.meta.url).pathname.replace(/\/$/, ""); // /ns/NAME in a namespace

export class Refused extends Error {
  constructor(status, error) {
    super(error?.message ?? `the server answered ${status}`);
    Object.assign(this, { status, code: error?.code ?? "" });
  }
}

export class Gone extends Error {}

const unauthorized = new EventTarget();
export const onUnauthorized = listener => unauthorized.addEventListener("asked", listener);
export const access = { keyed: false }; // whether the server asks for a key

export async function api(path, { method = "GET", body, signal } = {}) {
  const headers = body === undefined ? {} : { "Content-Type": "application/json" };
  let answer;
  try {
    answer = await fetch(root + path, { method, headers, body: body === undefined ? undefined : JSON.stringify(body), signal });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Gone("The server does not answer.");
  }
  const text = await answer.text();
  let told = null;
  try { told = text ? JSON.parse(text) : null; } catch { /* no JSON: the status says enough */ }
  if (answer.ok) return told;
  if (answer.status === 401) {
    access.keyed = true;
    if (method === "GET") unauthorized.dispatchEvent(new Event("asked"));
  }
  throw new Refused(answer.status, told?.error);
}

export const path = (strings, ...ids) => strings.reduce((all, part, n) => all + encodeURIComponent(ids[n - 1]) + part);

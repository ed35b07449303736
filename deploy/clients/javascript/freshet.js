// @ts-check
/** A client of Freshet's HTTP API for pages and for Node: one file, no package. Types: schema.d.ts, of the API's document. */

/** @typedef {import("./schema.d.ts").components["schemas"]} Schemas */
/** @typedef {Schemas["AskedList"]} RecommendationList */
/** @typedef {Schemas["Accepted"]} Accepted */
/** @typedef {Omit<import("./schema.d.ts").operations["List.recommendations"]["parameters"], "path">["query"]} ListOptions */

const PASSING = new Set([429, 502, 503, 504]);
const FIRST_MS = 200, LONGEST_MS = 10_000;

/** What the API refused: `status` of HTTP, `code` for programs, and the `field` that is wrong, if one is. */
export class Refused extends Error {
  /** @param {number} status @param {{code?: string, message?: string, field?: string}} told */
  constructor(status, told) {
    super(`${told.message ?? "refused"} (${status} ${told.code ?? "unknown"})`);
    this.name = "Refused";
    this.status = status;
    this.code = told.code ?? "unknown";
    this.field = told.field;
  }
}

/** @param {string} text of an answer; a proxy may answer in another form */
function toldIn(text) {
  try {
    return JSON.parse(text).error ?? {};
  } catch {
    return {};
  }
}

/** Calls of one server for one user or visitor. */
export class Freshet {
  #address; #user; #key; #retries;

  /**
   * @param {string} address of `freshet serve`, whose `cors_origins` names this page's origin; /ns/NAME behind it for a namespace
   * @param {string} userId who is here: a user, or a session of somebody who has not logged in
   * @param {{apiKey?: string, retries?: number}} [options] apiKey: on a server alone, since whoever has a page reads its keys
   */
  constructor(address, userId, {apiKey, retries = 5} = {}) {
    this.#address = address.replace(/\/$/, "");
    this.#user = userId;
    this.#key = apiKey;
    this.#retries = retries;
  }

  /**
   * A list for the user, made now.
   * @param {ListOptions} [options]
   * @returns {Promise<RecommendationList>}
   */
  recommendations(options = {}) {
    const query = new URLSearchParams();
    for (const [name, value] of Object.entries(options))
      for (const one of Array.isArray(value) ? value : [value]) query.append(name, String(one));
    return this.#ask("GET", `/v1/users/${encodeURIComponent(this.#user)}/recommendations?${query}`);
  }

  /**
   * Says what the user did with an item. It counts once, however often it has to be sent, and is sent when the page goes away too.
   * @param {string} itemId
   * @param {string} [eventType] view, click, cart, purchase, or what the server's event_weights name
   * @param {Partial<Schemas["Interaction"]>} [more] other fields, such as value, session_id, context
   * @returns {Promise<Accepted>}
   */
  happened(itemId, eventType = "view", more = {}) {
    const event = {event_id: crypto.randomUUID(), user_id: this.#user, item_id: itemId, event_type: eventType, ...more};
    return this.#ask("POST", "/v1/interactions", event);
  }

  /**
   * Says what came of a list: impression, click, purchase, …
   * @param {{list_id: string}} list that was shown
   * @param {string} event
   * @param {string} [itemId]
   * @param {Partial<Schemas["Feedback"]>} [more]
   * @returns {Promise<Accepted>}
   */
  feedback(list, event, itemId, more = {}) {
    const told = {event_id: crypto.randomUUID(), user_id: this.#user, list_id: list.list_id, event, ...more};
    return this.#ask("POST", "/v1/feedback", itemId === undefined ? told : {...told, item_id: itemId});
  }

  /**
   * Each list that is published for the user, from the newest one on; null where it was withdrawn. For pages, without a key.
   * @param {(list: RecommendationList | null) => void} show
   * @returns {() => void} ends it
   */
  lists(show) {
    const source = new EventSource(`${this.#address}/v1/users/${encodeURIComponent(this.#user)}/lists/stream`);
    source.addEventListener("list", told => show(JSON.parse(told.data)));
    source.addEventListener("withdrawn", () => show(null));
    return () => source.close();
  }

  /**
   * @param {string} method @param {string} path @param {object} [body]
   * @returns {Promise<any>}
   */
  async #ask(method, path, body) {
    /** @type {Record<string, string>} */
    const headers = body ? {"Content-Type": "application/json"} : {};
    if (this.#key) headers["X-API-Key"] = this.#key;
    for (let n = 0; ; n++) {
      let status = 0, text = "", wait = NaN;  // 0: no answer, or half of one
      try {
        const got = await fetch(this.#address + path, {method, headers, body: body && JSON.stringify(body), keepalive: method === "POST"});
        text = await got.text();
        if (got.ok) return JSON.parse(text);
        status = got.status;
        wait = Number(got.headers.get("Retry-After") ?? NaN) * 1000;
      } catch (error) {
        if (n >= this.#retries) throw error;
      }
      if (status && (!PASSING.has(status) || n >= this.#retries)) throw new Refused(status, toldIn(text));
      const grown = Math.min(FIRST_MS * 2 ** n, LONGEST_MS) * (0.5 + Math.random() / 2);
      await new Promise(after => setTimeout(after, Number.isNaN(wait) ? grown : Math.min(wait, LONGEST_MS)));
    }
  }
}

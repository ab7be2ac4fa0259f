// The form that sends a test push. The token stays in its input: it goes nowhere but into requests to this gateway.
const $ = (id) => document.getElementById(id);
const form = $("push-form"), result = $("push-result");
const DELAYS = [300, 700, 1_000, 2_000, 3_000, 5_000, 8_000]; // milliseconds before each question for the outcome
const FIELDS = { route: "push-route", collapse_key: "push-key", data: "push-data" };
let latest = 0; // the number of the attempt whose progress is shown

// Offers the routes of the gateway; called with every event.
export function offerRoutes(names) {
  const select = $("push-route"), shown = [...select.options].map((option) => option.value);
  if (names.join() === shown.join()) return;
  const chosen = select.value;
  select.replaceChildren(...names.map((name) => new Option(name, name, false, name === chosen)));
}

function show(kind, text, inputs = []) {
  result.className = kind;
  result.textContent = text;
  for (const input of form.elements) input.removeAttribute("aria-invalid");
  for (const input of inputs) input.setAttribute("aria-invalid", "true");
  inputs[0]?.focus();
}

// A text that is a JSON object is sent as one; any other text is sent as it is.
function readData(text) {
  if (!text.trimStart().startsWith("{")) return text;
  try { return JSON.parse(text); } catch { return text; }
}

function readPush() {
  const push = { route: $("push-route").value, [$("push-kind").value]: $("push-target").value };
  if ($("push-key").value) push.collapse_key = $("push-key").value;
  if ($("push-data").value) push.data = readData($("push-data").value);
  return push;
}

function ask(path, options = {}) {
  const headers = { "Content-Type": "application/json", Authorization: `Bearer ${$("push-token").value}` };
  return fetch(path, { ...options, headers, credentials: "omit" });
}

// Describes an answer that is no success, as arguments of `show`.
async function explain(answer) {
  const text = await answer.text();
  if (answer.status === 401) return ["bad", "This is not the gateway’s push_token (401).", [$("push-token")]];
  if (answer.status !== 400) return ["bad", `${answer.status}: ${text}`];
  const { errors } = JSON.parse(text);
  const details = errors.map(({ field, detail }) => detail.startsWith(field) ? detail : `${field}: ${detail}`);
  const inputs = errors.map(({ field }) => $(FIELDS[field.split(".")[0]] ?? "push-target"));
  return ["bad", `The push is invalid: ${details.join("; ")}`, inputs];
}

// Asks what became of a push until it has ended, a few times; gives arguments of `show`.
async function follow(id, isLatest) {
  for (const delay of DELAYS) {
    await new Promise((resolve) => setTimeout(resolve, delay));
    if (!isLatest()) return [];
    const answer = await ask(`v1/push/${encodeURIComponent(id)}`);
    if (answer.ok) {
      const { outcome, reason, message_name } = await answer.json(), more = reason || message_name;
      return [outcome === "sent" ? "good" : "bad", `${id}: ${outcome.replace("_", " ")}${more ? ` (${more})` : ""}`];
    }
    if (answer.status !== 404) return explain(answer);
  }
  return ["wait", `${id}: accepted, and not ended yet. The state of its route says why.`];
}

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const attempt = ++latest, isLatest = () => attempt === latest;
  const tell = (...result) => { if (isLatest()) show(...result); };
  tell("", "Sending");
  try {
    const answer = await ask("v1/push", { method: "POST", body: JSON.stringify(readPush()) });
    if (answer.status !== 202) { tell(...await explain(answer)); return; }
    const { ids: [id] } = await answer.json();
    tell("wait", `${id}: accepted; waiting for its outcome`);
    tell(...await follow(id, isLatest));
  } catch (error) {
    tell("bad", `Not answered: ${error.message}`);
  }
});

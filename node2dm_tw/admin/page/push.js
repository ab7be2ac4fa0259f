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

async function showRefusal(answer) {
  const text = await answer.text();
  if (answer.status === 400) {
    const { errors } = JSON.parse(text);
    const inputs = errors.map(({ field }) => $(FIELDS[field.split(".")[0]] ?? "push-target"));
    show("bad", `The push is invalid: ${errors.map(({ field, detail }) => detail.startsWith(field) ? detail : `${field}: ${detail}`).join("; ")}`, inputs);
  } else if (answer.status === 401) show("bad", "This is not the gateway’s push_token (401).", [$("push-token")]);
  else show("bad", `${answer.status}: ${text}`);
}

async function follow(id, attempt) {
  for (const delay of DELAYS) {
    await new Promise((resolve) => setTimeout(resolve, delay));
    const answer = await ask(`v1/push/${encodeURIComponent(id)}`);
    if (attempt !== latest) return;
    if (answer.ok) {
      const { outcome, reason, message_name } = await answer.json();
      const more = reason || message_name;
      show(outcome === "sent" ? "good" : "bad", `${id}: ${outcome.replace("_", " ")}${more ? ` (${more})` : ""}`);
      return;
    }
    if (answer.status !== 404) { await showRefusal(answer); return; }
  }
  show("wait", `${id}: taken, and not ended yet. The state of its route says why.`);
}

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const attempt = ++latest;
  show("", "Sending");
  try {
    const answer = await ask("v1/push", { method: "POST", body: JSON.stringify(readPush()) });
    if (answer.status !== 202) { await showRefusal(answer); return; }
    const { ids: [id] } = await answer.json();
    show("wait", `${id}: taken; waiting for its outcome`);
    await follow(id, attempt);
  } catch (error) {
    show("bad", `Not answered: ${error.message}`);
  }
});

// The status page: shows the events of /events. Only the form of push.js sends anything.
import { Plot, POINTS, ceiling, duration, number, spark, timeCeiling } from "./plot.js";
import { offerRoutes } from "./push.js";

const $ = (id) => document.getElementById(id);
const OUTCOMES = { sent: "sent", refused: "failed", bad_device: "failed", blocked: "failed", expired: "failed", overflowed: "failed", collapsed: "idle", handed_over: "idle" };
const FAILED = Object.keys(OUTCOMES).filter((name) => OUTCOMES[name] === "failed");
// The colours of a condition: "wait" ends by itself, "bad" needs a person.
const KINDS = { ready: "good", "signed out": "wait", "signing in": "wait", paused: "wait", "callbacks held back": "bad", "not ready": "bad", locked: "bad" };
const SILENCE = 10_000; // milliseconds without an event (there is one each second) after which the stream is opened again
const COLUMNS = ["Sent /s", "Queue", "Next push", "In flight", "Sent", "Failed", "Blocked"];
const seconds = (value) => value < 10 && !Number.isInteger(value) ? `${value.toFixed(1)} s` : duration(value);

let series = {};
const plots = [
  new Plot($("rates"), $("rates-legend"), "Pushes a second", [
    { label: "received", name: "received", index: 0, area: true },
    { label: "sent", name: "sent", index: 1 },
    { label: "failed", name: "failed", index: 2, sparse: true }], number, ceiling),
  new Plot($("depth"), $("depth-legend"), "Pushes in the queue", [{ label: "in the queue", name: "queue", index: 3, area: true }], number, (most) => Math.max(10, ceiling(most))),
  new Plot($("age"), $("age-legend"), "Age of the next push", [{ label: "age", name: "age", index: 4, area: true }], seconds, timeCeiling),
];

function say(node, text) { if (node.textContent !== text) node.textContent = text; }

function make(name, properties = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) key in made ? made[key] = value : made.setAttribute(key, value);
  made.append(...children);
  return made;
}

function failed(values) { return FAILED.reduce((sum, name) => sum + values[`messages_${name}`], 0); }

function showBadge(text, kind) {
  say($("ready"), text);
  $("ready").className = `pill ${kind}`;
  document.title = kind === "good" ? "node2dm" : `${text} · node2dm`;
}

function showHead({ health, totals }) {
  showBadge(health.worst.text, KINDS[health.worst.condition]);
  const list = $("notices");
  const notices = health.reasons.map((text) => ["bad", text]).concat(health.notices.map(({ condition, text }) => [KINDS[condition], text]));
  const shown = JSON.stringify(notices);
  if (list.dataset.shown !== shown) {
    list.dataset.shown = shown;
    list.replaceChildren(...notices.map(([className, text]) => make("li", { className }, text)));
    list.hidden = !notices.length;
  }
  say($("version"), `version ${totals.version}`);
  say($("uptime"), `up ${duration(totals.uptime)}`);
}

function urgent(values) {
  const count = values.messages_urgent_in_queue;
  return count ? `; ${number(count)} urgent, next is ${seconds(values.oldest_urgent_age)} old` : "";
}

function showTiles({ totals, routes }) {
  for (const node of document.querySelectorAll("[data-total]")) say(node, number(totals[node.dataset.total]));
  const rates = (series[""] ?? []).at(-1) ?? [0, 0, 0];
  ["received", "sent", "failed"].forEach((name, i) => say($(`rate-${name}`), number(rates[i])));
  say($("oldest"), totals.messages_in_queue ? `next is ${seconds(totals.oldest_age)} old${urgent(totals)}` : "nothing waits");
  say($("window"), `of at most ${number(totals.window)}`);
}

function routeRow(name) {
  const cells = COLUMNS.map((label) => make("td", { className: "number", role: "cell", "data-label": label }));
  const row = make("tr", { role: "row" }, make("th", { scope: "row", role: "rowheader" }, name),
    make("td", { role: "cell" }, make("span", { className: "pill" })), make("td", { className: "spark", role: "cell" }), ...cells);
  row.dataset.route = name;
  return row;
}

function showRoutes({ routes, health }) {
  const body = document.querySelector(".routes tbody");
  const rows = new Map([...body.children].map((row) => [row.dataset.route, row]));
  for (const [name, values] of Object.entries(routes)) {
    const row = rows.get(name) ?? body.appendChild(routeRow(name)), points = series[name] ?? [];
    rows.delete(name);
    const pill = row.children[1].firstChild;
    say(pill, health.routes[name]);
    pill.className = `pill ${KINDS[health.conditions[name]]}`;
    spark(row.children[2], points);
    const rate = (points.at(-1) ?? [0])[0];
    [number(rate), number(values.messages_in_queue), values.messages_in_queue ? seconds(values.oldest_age) : "–",
      `${values.messages_in_flight} of ${values.window}`, number(values.messages_sent), number(failed(values)), number(values.rate_limited_tokens),
    ].forEach((text, i) => say(row.children[3 + i], text));
  }
  for (const row of rows.values()) row.remove();
  offerRoutes(Object.keys(routes));
}

function showOutcomes({ totals }) {
  const list = $("outcomes"), all = Object.keys(OUTCOMES).reduce((sum, name) => sum + totals[`messages_${name}`], 0);
  if (!list.children.length) for (const [name, kind] of Object.entries(OUTCOMES)) {
    list.append(make("div", {}, make("dt", {}, name.replace("_", " ")), make("span", { className: `bar ${kind}`, ariaHidden: "true" }, make("i")), make("dd")));
  }
  Object.keys(OUTCOMES).forEach((name, i) => {
    const [term, bar, value] = list.children[i].children, count = totals[`messages_${name}`];
    say(value, number(count));
    for (const node of [term, value]) node.classList.toggle("zero", !count);
    bar.firstChild.style.setProperty("--share", `${all ? count / all * 100 : 0}%`);
    bar.firstChild.style.setProperty("--least", count ? ".25rem" : "0");
  });
}

function showErrors({ details, invalid, when }) {
  const errors = Object.entries(details).flatMap(([route, { errors }]) => errors.map((error) => ({ route, ...error })))
    .concat(invalid.map(({ reason, detail, source, count, age }) => (
      { route: "", kind: "invalid", reason: `${reason}: ${detail}`, device: `from ${source}`, count, when: when - age })));
  // The latest minute first; within a minute by count, so that rows keep their places.
  const minutes = (error) => Math.floor((when - error.when) / 60);
  errors.sort((a, b) => minutes(a) - minutes(b) || b.count - a.count);
  $("no-errors").hidden = errors.length > 0;
  $("errors").hidden = !errors.length;
  document.querySelector("#errors tbody").replaceChildren(...errors.slice(0, 10).map((error) =>
    make("tr", { role: "row" }, ...[`${duration(Math.max(0, when - error.when))} ago`, error.route, error.kind, error.reason, error.device, number(error.count)]
      .map((text, i) => make("td", { role: "cell", className: i === 5 ? "number" : "" }, text)))));
}

function showBlocked({ details }) {
  const blocked = Object.values(details).flatMap(({ blocked }) => blocked).sort((a, b) => b.left - a.left).slice(0, 12);
  $("no-blocked").hidden = blocked.length > 0;
  $("blocked").replaceChildren(...blocked.map(({ device, left }) => make("li", {}, `${device} · ${duration(left)} left`)));
}

function showNumbers({ totals, routes }) {
  if (!$("all").open) return;
  const columns = [["", totals], ...Object.entries(routes)];
  const names = [...new Set(columns.flatMap(([, values]) => Object.keys(values)))];
  const head = make("tr", {}, make("th", { scope: "col" }, "line"), ...columns.map(([name]) => make("th", { scope: "col", className: "number" }, name || "totals")));
  $("numbers").replaceChildren(make("thead", {}, head), make("tbody", {}, ...names.map((name) =>
    make("tr", {}, make("th", { scope: "row" }, name), ...columns.map(([route, values]) =>
      make("td", { className: "number", "data-stat": name, "data-route": route }, name in values ? String(values[name]) : ""))))));
}

function take(point) {
  for (const [name, values] of Object.entries(point)) {
    const points = series[name] ??= [];
    points.push(values);
    if (points.length > POINTS) points.shift();
  }
}

function show(now) {
  if (now.point) take(now.point);
  for (const part of [showHead, showTiles, showRoutes, showOutcomes, showErrors, showBlocked, showNumbers]) part(now);
  const points = series[""] ?? [], [received, sent, failed] = points.at(-1) ?? [0, 0, 0];
  for (const plot of plots) plot.show(points, [received, sent, failed, now.totals.messages_in_queue, now.totals.oldest_age]);
  document.documentElement.dataset.when = now.when;
}

let latest = null, events = null, silence = 0;
function setLive(live) {
  document.body.classList.toggle("lost", !live);
  if (!live) showBadge("connection lost", "bad");
  const when = latest && new Date(latest.when * 1000).toLocaleTimeString();
  say($("live"), live ? "live" : when ? `values of ${when}, trying again` : "trying again");
}

function expectEvent() {
  clearTimeout(silence);
  silence = setTimeout(() => { setLive(false); connect(); }, SILENCE);
}

// The browser reopens a broken stream by itself, but not a silent one, nor one that a proxy answered with an error.
function connect() {
  expectEvent();
  events?.close();
  events = new EventSource("events");
  events.addEventListener("error", () => setLive(false));
  events.addEventListener("history", (event) => { series = JSON.parse(event.data); });
  events.addEventListener("now", (event) => {
    expectEvent();
    latest = JSON.parse(event.data);
    setLive(true);
    show(latest);
  });
}
connect();
$("all").addEventListener("toggle", () => { if (latest) showNumbers(latest); });

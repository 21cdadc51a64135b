"use strict";
// What agents wrote is only ever set as text, never as markup.
const PAGE = 400, MARKS = 4000;
const all = [...document.querySelectorAll("script.told")].map((it) => JSON.parse(it.textContent));
all.sort((a, b) => a.t - b.t || a.seq - b.seq);
// A session's command may name everything that it does.
for (const it of all) it.words = JSON.stringify({ ...it, command: null }).toLowerCase();
const operations = all.filter((it) => it.verdict);
const $ = (id) => document.getElementById(id);

/// What is invisible or changes the direction of what stands around it is spelled out.
const TRICKY = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]/g;
const plain = (text) => text.replace(TRICKY, (it) => `\\u{${it.charCodeAt(0).toString(16)}}`);
const maker = (space) => (name, attributes, ...children) => {
  const node = document.createElementNS(space, name);
  for (const [key, value] of Object.entries(attributes || {})) if (value != null) node.setAttribute(key, value);
  for (const child of children.flat(2)) if (child) node.append(typeof child === "string" ? plain(child) : child);
  return node;
};
const make = maker("http://www.w3.org/1999/xhtml"), svg = maker("http://www.w3.org/2000/svg");

const SHAPES = {
  allow: "M0-6a6 6 0 1 0 .01 0z",
  hold: "M0-7L7 0L0 7L-7 0z",
  deny: "M-6-6h12v12h-12zM-3.6-2.2L-1.4 0L-3.6 2.2L-2.2 3.6L0 1.4L2.2 3.6L3.6 2.2L1.4 0L3.6-2.2L2.2-3.6L0-1.4L-2.2-3.6z",
  note: "M0-4a4 4 0 1 0 .01 0zM0-2a2 2 0 1 1-.01 0z",
  alarm: "M-1.5-6h3v8h-3zM-1.5 3.5h3v3h-3z",
};
const ALARMS = ["refused", "enforcement lost"];
const kindOf = (it) => it.verdict || (ALARMS.includes(it.kind) ? "alarm" : "note");
const NAMES = { allow: "allowed", hold: "held", deny: "denied", note: "note", alarm: "refused" };
const shape = (kind) => svg("path", { d: SHAPES[kind], "fill-rule": "evenodd", class: kind });
const mark = (kind) => svg("svg", { class: "mark", viewBox: "-8 -8 16 16", role: "img", "aria-label": NAMES[kind] }, shape(kind));

const two = (number) => String(number).padStart(2, "0");
function clock(t, fine = true) {
  const d = new Date(t);
  const seconds = `${two(d.getUTCHours())}:${two(d.getUTCMinutes())}:${two(d.getUTCSeconds())}`;
  return fine ? `${seconds}.${String(d.getUTCMilliseconds()).padStart(3, "0")}` : seconds;
}
const day = (t) => new Date(t).toISOString().slice(0, 10);
function span(ms) {
  if (ms < 1) return "<1 ms";
  if (ms < 1000) return `${Math.round(ms)} ms`;
  if (ms < 60000) return `${(ms / 1000).toFixed(1)} s`;
  if (ms < 3600000) return `${Math.floor(ms / 60000)} min ${Math.round(ms % 60000 / 1000)} s`;
  return `${Math.floor(ms / 3600000)} h ${Math.round(ms % 3600000 / 60000)} min`;
}
function size(bytes) {
  if (bytes < 1000) return `${bytes} B`;
  return bytes < 1e6 ? `${(bytes / 1000).toFixed(1)} kB` : `${(bytes / 1e6).toFixed(1)} MB`;
}
/// Text with what stands for masked values marked.
function masked(text) {
  const parts = String(text).split(/(\[masked(?::[\w.:-]{1,64})?\])/);
  return parts.map((part, at) => at % 2 ? make("mark", { title: "masked by Holdpoint" }, part) : part);
}
const people = (it) => (it.hold ? it.hold.answers : []);
const last = (it) => Math.max(it.t, it.end || 0, it.hold && it.hold.over ? it.hold.over.at : 0);

// The head.
{
  const sessions = new Map(all.filter((it) => it.session).map((it) => [it.session, it]));
  const first = all.find((it) => it.command) || all.find((it) => it.principal);
  $("title").textContent = sessions.size === 1 ? `Session ${[...sessions.keys()][0]}` : `${sessions.size} sessions`;
  document.title = `${$("title").textContent} · Holdpoint`;
  if (sessions.size === 1 && first) {
    $("who").append(plain(`${first.principal} · ${first.user} · `), make("code", {}, first.command || ""));
  }
  const of = (kind) => operations.filter((it) => it.verdict === kind).length;
  const answers = new Set(operations.flatMap((it) => people(it).map((who) => who.by)));
  const from = Math.min(...all.map((it) => it.t)), to = Math.max(...all.map(last));
  const tiles = [[operations.length, "operations"], [of("allow"), "allowed", "allow"], [of("hold"), "held", "hold"],
    [of("deny"), "denied", "deny"], [answers.size, answers.size === 1 ? "person answered" : "people answered"],
    [all.length ? span(to - from) : "–", all.length ? `from ${day(from)} ${clock(from, false)} UTC` : "nothing happened"]];
  for (const [number, name, kind] of tiles) {
    $("tiles").append(make("li", {}, make("b", {}, String(number)), make("span", {}, kind && mark(kind), name)));
  }
  for (const kind of ["allow", "hold", "deny", "note"]) $(`pick-${kind}`).after(mark(kind));
}

// What is shown.
function shown() {
  const words = $("filter").value.toLowerCase().split(/\s+/).filter(Boolean);
  return all.filter((it) => $(`pick-${it.verdict || "note"}`).checked && words.every((word) => it.words.includes(word)));
}

// The time axis.
let zoom = 1;
function steps(from, to, width) {
  const wanted = (to - from) / Math.max(1, width / 130);
  const nice = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1e3, 2e3, 5e3, 1e4, 15e3, 3e4, 6e4, 12e4, 3e5, 6e5, 9e5, 18e5, 36e5, 72e5, 216e5, 864e5];
  return nice.find((it) => it >= wanted) || Math.ceil(wanted / 864e5) * 864e5;
}
function chart(items) {
  const holder = $("chart");
  holder.replaceChildren();
  const drawn = items.slice(0, MARKS);
  if (!drawn.length) { holder.append(make("p", { class: "gone" }, "Nothing to show.")); return; }
  const width = Math.max(320, holder.clientWidth - 2) * zoom, left = 24, right = 190, row = 26, top = 30;
  const from = Math.min(...drawn.map((it) => it.t)), to = Math.max(...drawn.map(last), from + 1);
  const x = (t) => left + (t - from) / (to - from) * (width - left - right);
  const free = [];
  const marks = drawn.map((it) => {
    const label = it.verdict ? it.action : it.kind;
    const end = Math.max(x(last(it)), x(it.t)) + 14 + label.length * 6.6 + (people(it).length ? 90 : 0);
    let lane = free.findIndex((until) => until < x(it.t) - 12);
    if (lane < 0) lane = free.length;
    free[lane] = end;
    return [it, lane, label];
  });
  const height = top + free.length * row + 12;
  const picture = svg("svg", { width, height, viewBox: `0 0 ${width} ${height}`, role: "group", "aria-label": "Operations on a time axis" });
  const step = steps(from, to, width);
  for (let t = Math.ceil(from / step) * step; t <= to; t += step) {
    picture.append(svg("line", { class: "grid", x1: x(t), x2: x(t), y1: top - 6, y2: height }));
    picture.append(svg("text", { class: "tick", x: x(t), y: 16, "text-anchor": "middle" }, clock(t, step < 1000)));
  }
  for (const [it, lane, label] of marks) picture.append(drawing(it, x, top + lane * row + row / 2, label));
  holder.append(picture);
  if (items.length > MARKS) holder.append(make("p", { class: "gone" }, `The first ${MARKS} of ${items.length} are drawn: filter for others.`));
}
function drawing(it, x, y, label) {
  const kind = kindOf(it);
  const link = svg("a", { href: `#e${it.seq}` });
  link.append(svg("title", {}, `${clock(it.t)} ${NAMES[kind]}: ${label} ${it.resource || it.text || ""}`));
  let at = x(it.t);
  const held = it.hold, over = held && (held.over ? held.over.at : it.end);
  if (held && over) {
    const width = Math.max(3, x(over) - x(held.at));
    link.append(svg("rect", { class: "wait", x: x(held.at), y: y - 7, width, height: 14, rx: 4 }));
    at = Math.max(at, x(held.at) + width);
  }
  if (it.end && it.result !== "refused") {
    const start = held && over ? over : it.t;
    const width = Math.max(2, x(it.end) - x(start));
    link.append(svg("rect", { class: "run", x: x(start), y: y - 4, width, height: 8, rx: 3 }));
    at = Math.max(at, x(start) + width);
  }
  const spot = svg("g", { transform: `translate(${x(it.t)} ${y})` }, shape(kind));
  const name = svg("text", { x: Math.max(at + 8, x(it.t) + 11), y: y + 4 }, label);
  const who = people(it).map((one) => `${one.verdict === "approve" ? "✓" : "✗"} ${one.by}`).join(", ");
  if (who) name.append(svg("tspan", { class: "person" }, `  ${who}`));
  else if (held && held.over && held.over.how !== "used") name.append(svg("tspan", { class: "person" }, `  ${held.over.how}`));
  link.append(spot, name);
  link.addEventListener("click", (event) => { event.preventDefault(); open(it); });
  return link;
}

// The list.
let room = PAGE;
function list(items) {
  $("list").replaceChildren(...items.slice(0, room).map((it) => it.verdict ? operation(it) : note(it)));
  $("more").hidden = items.length <= room;
  $("count").textContent = `${items.length} of ${all.length}`;
}
function note(it) {
  return make("li", { id: `e${it.seq}` }, make("div", { class: "said" },
    make("span", { class: "time" }, clock(it.t)), mark(kindOf(it)), make("span", { class: "what" }, it.text)));
}
function operation(it) {
  const status = it.status || { refused: "–", not_sent: "not sent", unknown: "?", completed: it.sql && "done" }[it.result] || "…";
  const summary = make("summary", {}, make("span", { class: "time" }, clock(it.t)), mark(it.verdict),
    make("span", { class: "action" }, it.action), make("span", { class: "resource", title: it.resource }, make("bdi", { dir: "ltr" }, it.resource)),
    make("span", { class: it.result === "unknown" ? "num alarm" : "num" }, String(status)), make("span", { class: "num" }, it.end ? span(it.end - it.t) : ""));
  const details = make("details", {}, summary);
  // Made when it is looked at: there may be very many.
  details.addEventListener("toggle", () => { if (details.open) fill(details, it); });
  return make("li", { id: `e${it.seq}` }, details);
}
function fill(details, it) {
  if (details.childElementCount === 1) details.append(inside(it));
}
function inside(it) {
  const facts = [it.sql ? ["database", make("code", {}, it.url)] : ["request", make("code", {}, `${it.method || ""} ${it.url}`)],
    it.statement && ["statement", make("pre", {}, masked(it.statement))], ["operation", `${it.id}, connection ${it.connection}`],
    ["session", `${it.session} · ${it.principal}`],
    ["decision", `${NAMES[it.verdict]}${it.policies.length ? ` by ${it.policies.join(", ")}` : ""}${it.reason ? `: ${it.reason}` : ""}`],
    it.observed && ["observed", make("span", { class: "alarm" }, "policy was only observed: it passed all the same")],
    it.grant && ["grant", it.grant], ["result", result(it)], ["digest", make("code", {}, it.digest)]];
  const list = make("dl", {}, facts.filter(Boolean).map(([name, value]) => [make("dt", {}, name), make("dd", {}, value)]));
  return make("div", { class: "inside" }, list, it.hold && hold(it), make("div", { class: "bodies" },
    side("Request", it.request, it.sql ? (it.fields || []).filter(([name]) => name !== "statement") : it.fields),
    side(it.sql ? "Result" : "Response", it.response, it.headers)));
}
function result(it) {
  if (it.result === "unknown") return make("span", { class: "alarm" }, "OUTCOME UNKNOWN: it may have happened, the answer was lost");
  const words = { completed: "completed", refused: "not run", not_sent: "not sent: the upstream could not be reached" }[it.result] || "no outcome on record yet";
  if (it.answer) return `${words}: ${it.answer}`;
  return it.status ? `${words}, status ${it.status}` : words;
}
function hold(it) {
  const { approval, groups, answers, over, at, joined } = it.hold;
  const said = answers.map((one) => make("p", {}, make("b", {}, `${one.verdict === "approve" ? "Approved" : "Denied"} by ${one.by}`),
    ` at ${clock(one.at)}`, one.glass ? make("span", { class: "alarm" }, " BREAK GLASS") : "", one.comment ? `: ${one.comment}` : ""));
  const end = over && make("p", {}, `Approval ${over.how} at ${clock(over.at)}, after ${span(over.at - at)}${over.reason ? `: ${over.reason}` : ""}`);
  return make("div", { class: "steps" }, make("p", {}, `${joined ? "Joined" : "Asked"} ${approval} of ${groups.join(", ")} at ${clock(at)}`), said, end);
}
function side(name, body, pairs) {
  const parts = [make("h3", {}, name)];
  if (pairs && pairs.length) parts.push(make("pre", {}, pairs.map(([key, value]) => [`${key}: `, ...masked(value), "\n"]).flat()));
  if (!body) parts.push(make("p", { class: "gone" }, "No body on record."));
  else {
    parts.push(make("p", { class: "about" }, [body.kind, size(body.size), body.cut && "only its beginning was kept", !body.complete && "broke off", body.more && "shown in part"].filter(Boolean).join(" · ")));
    if (body.gone) parts.push(make("p", { class: "gone" }, body.gone));
    else if (body.text != null) parts.push(body.kind === ROWS ? rows(body.text) : make("pre", {}, masked(pretty(body))));
  }
  return make("section", { "aria-label": name }, parts);
}
/// Rows of a database: an array a line, the first one of the columns' names. What is no array is told in a row of its own.
const ROWS = "application/x-ndjson; header=present";
function rows(text) {
  const lines = text.split("\n").filter(Boolean).map((line) => { try { return JSON.parse(line); } catch { return line; } });
  const [names, ...values] = lines;
  const wide = Array.isArray(names) ? names.length : 1;
  const cell = (value) => make("td", value === null ? { class: "gone" } : {}, value === null ? "NULL" : masked(value));
  const line = (row) => make("tr", {}, Array.isArray(row) ? row.map(cell) : make("td", { colspan: wide, class: "gone" }, String(row)));
  const head = Array.isArray(names) && make("thead", {}, make("tr", {}, names.map((name) => make("th", { scope: "col" }, String(name)))));
  return make("div", { class: "rows" }, make("table", {}, head, make("tbody", {}, values.map(line))));
}
function pretty(body) {
  if (!/json/.test(body.kind || "")) return body.text;
  try { return JSON.stringify(JSON.parse(body.text), null, 2); } catch { return body.text; }
}
function open(it) {
  let line = $(`e${it.seq}`);
  if (!line) { room = shown().indexOf(it) + 1; draw(false); line = $(`e${it.seq}`); }
  if (!line) return;
  const details = line.querySelector("details");
  if (details) { details.open = true; fill(details, it); details.querySelector("summary").focus({ preventScroll: true }); }
  line.scrollIntoView({ block: "center" });
  line.classList.remove("lit"); void line.offsetWidth; line.classList.add("lit");
}

function draw(anew = true) {
  if (anew) room = PAGE;
  const items = shown();
  list(items);
  chart(items);
}
$("bar").addEventListener("submit", (event) => event.preventDefault());
$("bar").addEventListener("input", () => draw());
$("more").addEventListener("click", () => { room += PAGE; draw(false); });
$("theme").addEventListener("click", () => {
  const dark = getComputedStyle(document.documentElement).colorScheme.includes("dark")
    && (document.documentElement.dataset.theme === "dark" || matchMedia("(prefers-color-scheme: dark)").matches);
  document.documentElement.dataset.theme = document.documentElement.dataset.theme === "dark" || (!document.documentElement.dataset.theme && dark) ? "light" : "dark";
});
for (const [id, by] of [["in", 2], ["out", 0.5], ["fit", 0]]) {
  $(`zoom-${id}`).addEventListener("click", () => { zoom = by ? Math.min(64, Math.max(1, zoom * by)) : 1; chart(shown()); });
}
addEventListener("resize", () => chart(shown()));
addEventListener("beforeprint", () => {
  for (const it of shown().slice(0, room)) {
    const details = it.verdict && $(`e${it.seq}`) && $(`e${it.seq}`).querySelector("details");
    if (details) { details.open = true; fill(details, it); }
  }
});
draw();

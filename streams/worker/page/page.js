"use strict";
// Shows what /events, /audit.json and /explain tell. Everything that was read goes in as text, never as markup.

const POINTS = 150;
const series = { throughput: [], lag: [], accuracy: [], loss: [] };
let before = null;

const at = (id) => document.getElementById(id);
const say = (id, text) => { const node = at(id); if (node.textContent !== text) node.textContent = text; };
const number = (value) => value === null || value === undefined ? "-" : Number(value).toLocaleString("en");
const short = (value, digits = 3) => value === null || value === undefined ? "-" : Number(value).toPrecision(digits);

function make(tag, text, name) {
  const node = document.createElement(tag);
  if (text !== undefined) node.textContent = text;
  if (name) node.className = name;
  return node;
}

function fill(id, rows, nothing) {
  const body = at(id);
  const wide = body.closest("table").querySelectorAll("th").length;
  body.replaceChildren(...(rows.length ? rows : [[nothing]]).map((cells) => {
    const row = make("tr");
    cells.forEach((cell) => row.append(make("td", cell)));
    if (!rows.length) row.firstChild.colSpan = wide;
    return row;
  }));
}

function draw(id, value, text, unit) {
  const points = series[id];
  if (value !== null && value !== undefined) points.push(value);
  if (points.length > POINTS) points.shift();
  say(`${id}-now`, text);
  const svg = at(id);
  svg.setAttribute("aria-label", `${svg.previousElementSibling.firstChild.textContent.trim()}: ${text}${unit}`);
  if (points.length < 2) return;
  const low = Math.min(...points), high = Math.max(...points), span = high - low || 1;
  const x = (n) => (n / (points.length - 1)) * 300, y = (v) => 76 - ((v - low) / span) * 68;
  const line = points.map((v, n) => `${n ? "L" : "M"}${x(n).toFixed(1)} ${y(v).toFixed(1)}`).join("");
  svg.setAttribute("viewBox", "0 0 300 84");
  svg.setAttribute("preserveAspectRatio", "none");
  const paths = ["area", ""].map((name) => {
    const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
    if (name) path.setAttribute("class", name);
    path.setAttribute("d", name ? `${line}L300 84L0 84Z` : line);
    return path;
  });
  svg.replaceChildren(...paths);
}

const sum = (object) => Object.values(object || {}).reduce((total, one) => total + one, 0);

function received(events) {
  const outcomes = ["arrived", "joined", "early", "superseded", "unusable", "stored"];
  return ["experiences", "feedback", "claude-traces"].reduce((total, topic) =>
    total + outcomes.reduce((part, outcome) => part + ((events[topic] || {})[outcome] || 0), 0), 0);
}

function showTier(tier, counts, unit) {
  if (!counts) return;
  say(`${tier}-have`, number(counts.waiting));
  say(`${tier}-need`, `/ ${number(counts.threshold)} ${unit}`);
  at(`${tier}-bar`).value = Math.min(1, counts.waiting / counts.threshold);
  const missing = Math.max(0, counts.threshold - counts.waiting);
  say(`${tier}-why`, `${number(missing)} more needed, ${number(counts.jobs)} jobs so far`);
}

function showFunnel(funnel) {
  if (!funnel) return;
  at("funnel").replaceChildren(...Object.entries(funnel).flatMap(([kind, counts]) => {
    const parts = [["paired", counts.paired, true],
      ...Object.entries(counts.waiting).map(([side, n]) => [`waiting: ${side}`, n, true]),
      ["waiting for the same query", counts.waiting_for_same_query, true],
      ...Object.entries(counts.dropped).map(([reason, n]) => [`dropped: ${reason}`, n, false])];
    const bars = make("div", undefined, "bars");
    parts.filter(([, n]) => n).forEach(([label, n, kept]) => {
      const bar = make("div", undefined, `bar ${kept ? "kept" : "lost"}`), track = make("i"), share = make("b");
      share.style.width = `${(100 * n / Math.max(1, counts.answers)).toFixed(2)}%`;
      track.append(share);
      bar.append(make("span", label), track, make("span", number(n)));
      bars.append(bar);
    });
    return [make("h3", `${kind}: ${number(counts.answers)} judged answers, ${number(counts.pairs)} pairs`), bars];
  }));
}

function becameOf(metrics) {
  const trained = metrics.trained_on ?? metrics.to_train_on;
  if (trained === undefined || !metrics.dropped) return "";
  const dropped = Object.entries(metrics.dropped).map(([reason, n]) => `${n} ${reason}`).join(", ");
  return ` (${trained} trained on, ${metrics.held_out_of_job} held out${dropped && `, dropped: ${dropped}`})`;
}

function showJobs(jobs) {
  fill("jobs", [...jobs].reverse().slice(0, 20).map((job) => [job.job_id, job.tier, job.state,
    `${Math.round(100 * job.progress)} %`, short(job.metrics.loss), (job.version || job.error || "-") + becameOf(job.metrics)]),
  "No job was started yet.");
}

function showStatus(status) {
  const pill = at("state");
  pill.className = `pill ${status.ready ? "good" : "bad"}`;
  say("state", status.ready ? "ready" : status.reason);
  const scorer = status.scorer;
  if (scorer) {
    say("learned", number(scorer.groups_learned));
    say("scorer", `rank ${scorer.rank} (${number(scorer.parameters)} parameters), step ${number(scorer.step)}, ` +
      `${number(scorer.groups_held_out)} held out, learning rate ${short(scorer.learning_rate, 2)}`);
    draw("accuracy", scorer.held_out_accuracy,
      `${short(scorer.held_out_accuracy)}, on learned ones ${short(scorer.learned_accuracy)}`, "");
    const refused = Object.entries(scorer.version_refused || {}).map(([version, why]) => `${version} is refused: ${why}`);
    say("refused", refused.join(" "));
    draw("loss", scorer.validation_loss, short(scorer.validation_loss), "");
  }
  showTier("dpo", status.dpo, "pairs");
  showTier("sft", status.sft, "eligible traces");
  const now = { at: performance.now(), events: received(status.events) };
  if (before && now.events >= before.events) {
    const rate = (now.events - before.events) / ((now.at - before.at) / 1000);
    draw("throughput", rate, `${rate.toFixed(1)} events/s`, "");
  }
  before = now;
  if (status.observed) {
    const waiting = status.observed.lag.reduce((total, row) => total + row.lag, 0);
    const oldest = Math.max(0, ...status.observed.lag.map((row) => row.lag_seconds));
    draw("lag", waiting, `${number(waiting)} records, ${oldest.toFixed(1)} s`, "");
    say("seen", `${number(received(status.events))} events taken in`);
    showRoles(status.roles, status.observed);
    showJobs(status.observed.jobs);
  }
  showFunnel(status.pair_funnel);
}

function showRoles(here, observed) {
  fill("roles", Object.entries(observed.members).map(([group, consumers]) => {
    const name = group.split("-").pop(), role = here[name];
    const rows = observed.lag.filter((row) => row.group === group);
    const state = !role ? "-" : !role.ready ? role.reason : role.active === false ? "standing by" : "ready";
    return [name, state, number(consumers), number(sum(rows.map((row) => row.lag))),
      `${Math.max(0, ...rows.map((row) => row.lag_seconds)).toFixed(1)} s`];
  }), "None.");
}

function showAudit(report) {
  const order = report.findings.map((finding) => {
    const row = make("div", undefined, `finding ${finding.severity}`), said = make("div");
    said.append(make("p", finding.text), make("p", finding.remedy, "remedy"));
    row.append(make("span", finding.severity, "severity"), said);
    return row;
  });
  at("findings").replaceChildren(...(order.length ? order : [make("p", "Nothing was found.", "good")]));
  fill("versions", Object.values(report.versions).flatMap((of) => of.versions.map((one) =>
    [one.tier, one.version, one.status, of.in_use && of.in_use.version === one.version ? "yes" : "no", one.reason || "-"])),
  "No version was trained yet.");
  fill("letters", Object.entries(report.dead_letters).map(([reason, n]) => [reason, number(n)]), "None.");
}

async function ask(path) {
  const answer = await fetch(path, { headers: { Accept: "application/json" } });
  const content = await answer.json();
  if (content.error) throw new Error(content.error);
  return content;
}

async function audit(event) {
  try {
    showAudit(await ask(event ? "/audit.json?fresh" : "/audit.json"));
  } catch (error) {
    say("findings", error.message);
  }
}

async function explain(event) {
  event.preventDefault();
  say("story", "reading the topics");
  try {
    const told = await ask(`/explain?experience_id=${encodeURIComponent(at("experience").value.trim())}`);
    at("story").replaceChildren(...told.chapters.flatMap((chapter) =>
      [make("h3", chapter.title), ...chapter.lines.map((line) => make("p", line))]));
  } catch (error) {
    say("story", error.message);
  }
}

at("search").addEventListener("submit", explain);
at("audit").addEventListener("click", audit);
const stream = new EventSource("/events");
stream.addEventListener("status", (event) => showStatus(JSON.parse(event.data)));
stream.addEventListener("error", () => { at("state").className = "pill bad"; say("state", "the worker does not answer"); });
audit();

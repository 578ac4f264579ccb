// Shows what /events and /audit.json tell of the whole deployment. Everything that was read goes in as text, never as markup.
import { age, at, fill, link, make, number, say, short, sum } from "./dom.js";

const CHART_SECONDS = 20;
const SILENT_SECONDS = 30;

function received(events) {
  const outcomes = ["arrived", "joined", "early", "superseded", "unusable", "stored"];
  return ["experiences", "feedback", "claude-traces"].reduce((total, topic) =>
    total + outcomes.reduce((part, outcome) => part + ((events[topic] || {})[outcome] || 0), 0), 0);
}

/** Says how old a part is where its worker cannot be asked. */
function told(status, part) {
  const old = status.at - (status.told_at[part] ?? status.at);
  return old > 1 ? ` (told ${age(old)} ago)` : "";
}

function showScorer(status) {
  const scorer = status.scorer;
  if (!scorer) return;
  say("learned", number(scorer.groups_learned));
  say("scorer", `right on ${short(scorer.held_out_accuracy)} of held-out queries, ${short(scorer.learned_accuracy)} of learned, ` +
    `${short(scorer.progressive_accuracy)} before learning; validation loss ${short(scorer.validation_loss)}; ` +
    `rank ${scorer.rank}, step ${number(scorer.step)}, ${number(scorer.groups_held_out)} held out` + told(status, "scorer"));
  say("refused", Object.entries(scorer.version_refused || {}).map(([version, why]) => `${version} is refused: ${why}`).join(" "));
}

function showTier(status, tier, unit) {
  const counts = status[tier];
  if (!counts) return;
  say(`${tier}-have`, number(counts.waiting));
  say(`${tier}-need`, `/ ${number(counts.threshold)} ${unit}`);
  at(`${tier}-bar`).value = Math.min(1, counts.waiting / counts.threshold);
  const missing = Math.max(0, counts.threshold - counts.waiting);
  say(`${tier}-why`, `${number(missing)} more needed, ${number(counts.jobs)} ${counts.jobs === 1 ? "job" : "jobs"} so far` + told(status, tier));
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
      const bar = make("div", undefined, `bar ${kept ? "kept" : "lost"}`), share = make("progress");
      share.value = n / Math.max(1, counts.answers);
      share.ariaLabel = label;
      bar.append(make("span", label), share, make("span", number(n)));
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
  fill("jobs", [...jobs].reverse().slice(0, 20).map((job) => [link(job.job_id, `/jobs/${job.job_id}`), job.tier, job.state,
    `${Math.round(100 * job.progress)} %`, short(job.metrics.loss), (job.version || job.error || "-") + becameOf(job.metrics)]),
  "No job was started yet.");
}

const roleOf = (group) => group.split("-").pop();
const seconds = (rows) => age(Math.max(0, ...rows.map((row) => row.lag_seconds)));

function stateOf(process, now) {
  if (process.silent && now - process.at > SILENT_SECONDS) return `silent: ${process.silent}`;
  return !process.ready ? process.reason || "not ready" : process.active === false ? "standing by" : "ready";
}

function showRoles(status) {
  // Before the broker was looked at, processes are known by what they say.
  const observed = status.observed, lag = observed ? observed.lag : [];
  const groups = observed ? observed.members : Object.fromEntries(status.processes.map((process) => [process.role, 0]));
  say("observed", observed ? `lag as of ${age(status.at - observed.at)} ago` : "nobody has measured the lag yet");
  fill("roles", Object.entries(groups).flatMap(([group, consumers]) => {
    const role = roleOf(group), rows = lag.filter((row) => row.group === group);
    const waits = rows.length ? [number(sum(rows.map((row) => row.lag))), seconds(rows)] : ["-", "-"];
    const here = status.processes.filter((process) => process.role === role);
    if (!here.length) return [[role, "-", consumers ? `${consumers} running` : "runs nowhere", "-", ...waits]];
    return here.map((process) => [role, `${process.host}, process ${process.pid}`, stateOf(process, status.at),
      `${age(status.at - process.at)} ago`, ...waits]);
  }), "None.");
  fill("partitions", lag.map((row) => [roleOf(row.group), `${row.topic}[${row.partition}]`, number(row.committed),
    number(row.end), number(row.lag), age(row.lag_seconds)]), "None.");
}

function showNotServed(refusals) {
  say("not-served", Object.entries(refusals || {}).map(([line, of]) =>
    `${line}: ${of.version} ${of.in_use ? "is in use and not served" : "is not put into use"}: ${of.reason}.`).join(" "));
}

function showStatus(status) {
  at("state").className = `pill ${status.ready ? "good" : "bad"}`;
  say("state", status.ready ? "ready" : status.reason);
  const workers = new Set(status.workers.map((worker) => worker.url)).size;
  say("seen", `${number(workers)} ${workers === 1 ? "worker" : "workers"}, ` +
    `${number(received(status.events))} events taken in since they started`);
  showScorer(status);
  showTier(status, "dpo", "pairs");
  showTier(status, "sft", "eligible traces");
  showRoles(status);
  if (status.observed) {
    showJobs(status.observed.jobs);
    showNotServed(status.observed.not_served);
  }
  showFunnel(status.pair_funnel);
}

function showAudit(report) {
  const order = report.findings.map((finding) => {
    const row = make("div", undefined, `finding ${finding.severity}`), said = make("div");
    const named = finding.remedy.match(/--explain (\S+?)`/);
    const remedy = make("p", finding.remedy, "remedy");
    if (named) remedy.append(" ", link("its story", `/explain?experience_id=${encodeURIComponent(named[1])}`));
    said.append(make("p", finding.text), remedy);
    row.append(make("span", finding.severity, "severity"), said);
    return row;
  });
  say("audited", `as of ${report.generated_at}`);
  at("findings").replaceChildren(...(order.length ? order : [make("p", "Nothing was found.", "good")]));
  for (const [tier, forecast] of Object.entries(report.forecasts)) {
    say(`${tier}-due`, forecast.due ? `at this rate the next job is due ${forecast.due.slice(0, 16).replace("T", " at ")} UTC` : "");
  }
  fill("versions", Object.values(report.versions).flatMap((of) => of.versions.map((one) =>
    [one.tier, link(one.version, `/versions/${one.version}`), one.status,
      inUse(of, one.version), one.reason || "-"])),
  "No version was trained yet.");
  fill("letters", Object.entries(report.dead_letters).map(([reason, n]) =>
    [link(reason, `/dead-letters?reason=${encodeURIComponent(reason)}`), number(n)]), "None.");
}

function inUse(of, version) {
  if (!of.in_use || of.in_use.version !== version) return "no";
  const cell = make("span", "yes, ");
  cell.append(link("roll back", `/versions/${version}/rollback`));
  return cell;
}

async function audit(event) {
  try {
    const answer = await fetch(event ? "/audit.json?fresh" : "/audit.json");
    const report = await answer.json();
    if (report.error) throw new Error(report.error);
    showAudit(report);
  } catch (error) {
    say("findings", error.message);
  }
}

function charts() {
  document.querySelectorAll("img[data-chart]").forEach((image) => {
    image.src = `/chart/${image.dataset.chart}.svg?hours=${at("hours").value}&at=${Date.now()}`;
  });
}

at("audit").addEventListener("click", audit);
at("hours").addEventListener("change", charts);
const stream = new EventSource("/events");
stream.addEventListener("status", (event) => showStatus(JSON.parse(event.data)));
stream.addEventListener("error", () => { at("state").className = "pill bad"; say("state", "the worker does not answer"); });
setInterval(charts, 1000 * CHART_SECONDS);
charts();
audit();

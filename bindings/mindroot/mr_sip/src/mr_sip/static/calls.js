// The page of calls. What callers call themselves, and everything else that comes from outside, is set as text only.

const LIST_MS = 2000;
const LIVE_MS = 1000;

const at = (id) => document.getElementById(id);
const audio = at("audio");
let chosen = null; // the record that is shown
let drawn = ""; // what the rows show, so that they are made anew only when something has changed

// -- words --------------------------------------------------------------------------------------------------------------

function duration(ms) {
  const seconds = Math.max(0, Math.round(ms / 1000));
  const two = (number) => String(number).padStart(2, "0");
  const hours = Math.floor(seconds / 3600);
  const rest = `${hours ? two(Math.floor(seconds / 60) % 60) : Math.floor(seconds / 60)}:${two(seconds % 60)}`;
  return hours ? `${hours}:${rest}` : rest;
}

// In the zone of whoever looks: the browser knows it.
function when(ms) {
  return new Date(ms).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" });
}

function party(call) {
  const number = call.party || (call.direction === "in" ? call.from : call.to) || "unknown";
  return call.display_name ? `${call.display_name} (${number})` : number;
}

function quality(call) {
  const mos = call.stats && call.stats.mos;
  if (!mos) return "";
  const word = mos >= 4 ? "good" : mos >= 3.6 ? "fair" : mos >= 3.1 ? "poor" : "bad";
  return `${word} (${mos.toFixed(1)})`;
}

const CAUSES = {
  hangup: "", remote_hangup: "", transferred: "transferred", busy: "busy", no_answer: "no answer", declined: "declined",
  rejected: "refused", not_found: "no such number", cancelled: "given up", auth: "not allowed by the provider",
  media: "no audio", network: "not reached", timeout: "timed out", client_gone: "connection lost", time_limit: "time limit",
};

function outcome(call) {
  if (call.state !== "ended") return call.state === "answered" ? "live" : call.state;
  return CAUSES[call.cause] ?? call.cause ?? "";
}

function element(name, text, style) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  if (style) made.className = style;
  return made;
}

// -- the list -----------------------------------------------------------------------------------------------------------

function row(call) {
  const made = element("tr");
  made.dataset.id = call.id;
  made.tabIndex = 0;
  made.setAttribute("aria-selected", String(chosen !== null && chosen.id === call.id));
  const arrow = element("td", call.direction === "in" ? "←" : "→");
  arrow.title = call.direction === "in" ? "came in" : "went out";
  made.append(arrow, element("td", party(call), "party"), element("td", call.agent, "seldom"));
  made.append(element("td", when(call.started_unix_ms), "number"));
  const length = element("td", undefined, "number");
  const what = outcome(call);
  if (what === "live") {
    length.append(element("span", duration(Date.now() - (call.answered_unix_ms ?? call.started_unix_ms)), "live"));
  } else if (call.duration_ms) {
    length.append(duration(call.duration_ms), what ? ` ${what}` : "");
  } else {
    length.append(element("span", what, "failed"));
  }
  made.append(length, element("td", quality(call), "number seldom"));
  return made;
}

async function refreshList() {
  if (document.hidden) return;
  let calls;
  try {
    const answer = await fetch("/calls/list");
    if (!answer.ok) throw new Error(`the server answered ${answer.status}`);
    calls = (await answer.json()).calls;
  } catch (error) {
    at("status").textContent = `Not up to date: ${error.message}`;
    return;
  }
  const live = calls.filter((call) => call.state !== "ended").length;
  at("status").textContent = calls.length === 0 ? "No calls yet." : `${live} live, ${calls.length - live} over`;
  const now = JSON.stringify(calls) + (live ? Date.now() : "") + (chosen && chosen.id);
  if (now !== drawn) {
    drawn = now;
    at("rows").replaceChildren(...calls.map(row));
  }
  const other = chosen && calls.find((call) => call.id === chosen.id);
  if (other && (other.state !== chosen.state || other.has_audio !== chosen.has_audio)) await show(chosen.id);
}

// -- one call -----------------------------------------------------------------------------------------------------------

// Where in the recording, in seconds, a moment of the call is: it may have begun later, and left something out.
function inRecording(ms) {
  const recordings = chosen.recordings ?? [];
  const recording = recordings[recordings.length - 1] ?? { start_ms: 0 };
  let left = ms - recording.start_ms;
  for (const pause of recording.pauses ?? []) {
    if (ms > pause.at_ms) left -= Math.min(pause.for_ms ?? Infinity, ms - pause.at_ms);
  }
  return Math.max(0, left) / 1000;
}

function line(entry) {
  const made = element("li", undefined, entry.who === "agent" ? "agent" : "caller");
  const jump = element("button", duration(entry.start_ms));
  jump.type = "button";
  made.dataset.start = entry.start_ms;
  made.dataset.end = entry.end_ms;
  made.append(jump, element("b", entry.who), element("span", entry.text ?? "(no words)", entry.text ? "" : "failed"));
  made.addEventListener("click", () => jumpTo(inRecording(entry.start_ms), true));
  return made;
}

function jumpTo(seconds, play) {
  if (at("player").hidden) return;
  audio.currentTime = seconds;
  if (play) audio.play().catch(() => {});
  follow();
}

function follow() {
  const now = audio.currentTime;
  for (const entry of at("transcript").children) {
    const within = inRecording(+entry.dataset.start) <= now + 0.05 && now < inRecording(+entry.dataset.end);
    entry.classList.toggle("now", within && !at("player").hidden);
  }
  draw();
}

function draw() {
  const canvas = at("picture");
  const picture = chosen && chosen.picture;
  if (!picture || !picture.length_ms) return;
  const [width, height] = [canvas.clientWidth * devicePixelRatio, canvas.clientHeight * devicePixelRatio];
  if (canvas.width !== width || canvas.height !== height) [canvas.width, canvas.height] = [width, height];
  const pen = canvas.getContext("2d");
  const colours = getComputedStyle(document.documentElement);
  pen.clearRect(0, 0, width, height);
  [picture.caller, picture.agent].forEach((heights, lane) => {
    const middle = height * (lane ? 0.75 : 0.25);
    const probe = element("span", undefined, "");
    probe.style.color = `var(--${lane ? "agent" : "caller"})`;
    document.body.append(probe);
    pen.fillStyle = getComputedStyle(probe).color;
    probe.remove();
    const step = width / heights.length;
    heights.forEach((value, index) => {
      const half = Math.max(devicePixelRatio / 2, value * height * 0.24);
      pen.fillRect(index * step, middle - half, Math.max(1, step), 2 * half);
    });
  });
  pen.fillStyle = colours.getPropertyValue("color") || "#888";
  pen.fillRect((audio.currentTime * 1000 / picture.length_ms) * width, 0, 2 * devicePixelRatio, height);
}

async function show(id) {
  const answer = await fetch(`/calls/transcript/${encodeURIComponent(id)}`);
  if (!answer.ok) {
    at("status").textContent = answer.status === 404 ? "That call is not there." : `The server answered ${answer.status}.`;
    return;
  }
  const record = await answer.json();
  const same = chosen !== null && chosen.id === record.id && chosen.has_audio === record.has_audio;
  chosen = record;
  at("detail").hidden = false;
  at("title").textContent = `${record.direction === "in" ? "From" : "To"} ${party(record)}`;
  const stats = record.stats ?? {};
  const facts = [
    record.agent, when(record.started_unix_ms), outcome(record), record.duration_ms ? duration(record.duration_ms) : "",
    quality(record), record.codec, stats.lost === undefined ? "" : `${stats.lost} of ${(stats.received ?? 0) + stats.lost} packets lost`,
  ];
  at("facts").textContent = facts.filter(Boolean).join(" · ");
  at("transcript").replaceChildren(...(record.transcript ?? []).map(line));
  if (!same) {
    at("player").hidden = !record.has_audio;
    if (record.has_audio) audio.src = `/calls/audio/${encodeURIComponent(id)}`;
    else audio.removeAttribute("src");
    for (const one of at("rows").children) one.setAttribute("aria-selected", String(one.dataset.id === id));
  }
  follow();
}

function choose(id) {
  if (decodeURIComponent(location.hash.slice(1)) === id) show(id);
  else location.hash = encodeURIComponent(id);
}

at("rows").addEventListener("click", (event) => {
  const one = event.target.closest("tr");
  if (one) choose(one.dataset.id);
});
at("rows").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && event.target.dataset.id) choose(event.target.dataset.id);
});
at("picture").addEventListener("click", (event) => {
  if (chosen && chosen.picture) jumpTo((event.offsetX / event.target.clientWidth) * chosen.picture.length_ms / 1000, false);
});
for (const name of ["timeupdate", "seeked", "loadedmetadata"]) audio.addEventListener(name, follow);
addEventListener("resize", draw);
addEventListener("hashchange", () => location.hash.length > 1 && show(decodeURIComponent(location.hash.slice(1))));

setInterval(refreshList, LIST_MS);
setInterval(() => chosen && chosen.state !== "ended" && !document.hidden && show(chosen.id), LIVE_MS);
await refreshList();
if (location.hash.length > 1) await show(decodeURIComponent(location.hash.slice(1)));

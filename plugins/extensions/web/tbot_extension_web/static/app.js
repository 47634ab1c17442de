// The equity curve, drawn again when its part has changed; and the way to the login when the session has ended.
"use strict";
(() => {
  let chart = null;
  let drawn = "";

  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const place = (id) => document.getElementById(id);

  const clock = new Intl.DateTimeFormat("en-GB", { timeZone: "America/New_York", hour: "2-digit", minute: "2-digit" });

  // The curve fills the picture; the loss limit is in it once the equity comes near.
  function range(curve) {
    const least = Math.min(...curve.equity);
    const most = Math.max(...curve.equity);
    const span = Math.max(most - least, most * 0.0005);
    const limit = curve.limit.length ? curve.limit[0] : least;
    return [limit > least - 3 * span ? limit - 0.2 * span : least - 0.4 * span, most + 0.4 * span];
  }

  function draw() {
    const source = place("equity-data");
    const holder = place("equity-chart");
    if (holder && !source) holder.hidden = true; // a run that is being prepared has no figures of one before
    if (!source || !holder || typeof uPlot === "undefined") return;
    holder.hidden = false;
    if (source.textContent === drawn) return;
    drawn = source.textContent;
    const curve = JSON.parse(drawn);
    const data = [curve.times, curve.equity, curve.limit];
    if (chart) {
      chart.setData(data);
      return;
    }
    chart = new uPlot({
      width: holder.clientWidth,
      height: 220,
      tzDate: (seconds) => uPlot.tzDate(new Date(seconds * 1000), "America/New_York"),
      cursor: { y: false },
      scales: { y: { range: () => range(JSON.parse(drawn)) } },
      legend: { show: false },
      axes: [
        {
          stroke: colour("--soft"), grid: { stroke: colour("--line") },
          values: (plot, moments) => moments.map((moment) => clock.format(new Date(moment * 1000))),
        },
        { stroke: colour("--soft"), grid: { stroke: colour("--line") }, size: 78 },
      ],
      series: [
        { label: "Time" },
        { label: "Equity", stroke: colour("--gain"), width: 2, paths: uPlot.paths.stepped({ align: 1 }) },
        { label: "Loss limit", stroke: colour("--loss"), width: 1, dash: [6, 4] },
      ],
    }, data, holder);
  }

  // A phone shows a part of the navigation: the one with the present page.
  function showPlace() {
    const present = document.querySelector("header nav [aria-current]");
    if (present) present.parentElement.scrollLeft = present.offsetLeft - present.parentElement.clientWidth / 3;
  }

  document.addEventListener("DOMContentLoaded", showPlace);
  document.addEventListener("DOMContentLoaded", draw);
  // Title, icon and colours name the mode: a page of another mode is opened again.
  let leaving = false;
  function checkMode() {
    const state = document.querySelector("main [data-mode]");
    if (leaving || !state || document.body.classList.contains(`mode-${state.dataset.mode}`)) return;
    leaving = true;
    window.location.reload();
  }

  // The stream says something each 15 seconds. What is shown is old beyond 20 s, and a band says so: the time stands
  // there from the last part that came. After 45 s the page is opened again, if it answers.
  const silence = 20000;
  const reopen = 45000;
  let heard = Date.now();
  const silent = () => place("lost") !== null && Date.now() - heard >= silence;

  function hear() {
    heard = Date.now();
    showSilence();
  }

  function showSilence() {
    const lost = place("lost");
    if (!lost) return;
    const seconds = Math.floor((Date.now() - heard) / 1000);
    const time = place("as-of");
    place("silent-for").textContent = seconds < 120 ? `${seconds} s` : `${Math.floor(seconds / 60)} min`;
    if (time) place("shown-of").textContent = time.textContent;
    for (const part of [lost, place("unheard")]) if (part && part.hidden === silent()) part.hidden = !silent();
  }

  function watchStream() {
    if (!place("lost")) return;
    showSilence();
    if (document.hidden || leaving || Date.now() - heard < reopen) return;
    fetch("/healthz", { cache: "no-store" }).then(() => { leaving = true; window.location.reload(); }, () => {});
  }

  // A request that would not arrive is not sent: the browser would put its own page in the place of this one.
  document.addEventListener("submit", (event) => {
    if (!silent()) return;
    event.preventDefault();
    const form = event.target;
    fetch("/healthz", { cache: "no-store" }).then(() => form.submit(), () => {
      const said = place("unheard");
      if (said) said.textContent = said.textContent.replace(/^(Not sent. )?/, "Not sent. ");
    });
  });

  // In its last minutes a band counts the login down, for what was typed into a form, and for who watches. Another page of
  // the same login may have been clicked: the server is asked, which counts as no click. The button's request does.
  const shortly = 300;
  const asks = 20000;
  let ends = null;
  let askedAt = Date.now();

  // A short limit is warned of in its second half.
  function setEnds(of) {
    const now = Date.now();
    ends = { idle: now + of.idleLeft * 1000, whole: now + of.loginLeft * 1000 };
    ends.idleFrom = Math.min(shortly, of.idleLimit / 2);
    ends.wholeFrom = Math.min(shortly, of.loginLimit / 2);
  }

  async function askEnds(headers) {
    askedAt = Date.now();
    const answer = await fetch("/account/session", { cache: "no-store", headers }).catch(() => null);
    if (answer && answer.redirected) window.location.assign("/login?ended=yes");
    if (!answer || !answer.ok || answer.redirected) return;
    const left = await answer.json();
    if (left.idle_s !== undefined) { ends.idle = Date.now() + left.idle_s * 1000; ends.whole = Date.now() + left.whole_s * 1000; }
    warnOfEnd();
  }

  function warnOfEnd() {
    const band = place("session-ends");
    if (!band) return;
    if (!ends) setEnds(document.body.dataset);
    const seconds = (end) => Math.max(0, Math.round((end - Date.now()) / 1000));
    const inAnyCase = seconds(ends.whole) <= ends.wholeFrom;
    const idle = seconds(ends.idle) <= ends.idleFrom && !(inAnyCase && ends.whole <= ends.idle);
    const left = seconds(idle ? ends.idle : ends.whole);
    const soon = idle || inAnyCase;
    if (soon && Date.now() - askedAt >= asks) askEnds({ "HX-Request": "true" });
    band.hidden = !soon;
    if (!soon) return;
    band.querySelector(".countdown").textContent = `${Math.floor(left / 60)}:${String(left % 60).padStart(2, "0")}`;
    band.querySelector(".if-idle").hidden = !idle;
    band.querySelector(".in-any-case").hidden = idle;
  }

  document.addEventListener("click", (event) => { if (event.target.id === "stay") askEnds({}); });

  // While entries wait, title and icon say so, also of a page in the background; with a sound where the person wants one.
  const wantsSound = "tbot-sound";
  let waited = null;
  let audio = null;

  const soundIsOn = () => { try { return localStorage.getItem(wantsSound) === "on"; } catch { return false; } };

  function showSound() {
    const button = place("sound");
    if (!button) return;
    const on = soundIsOn();
    const mute = on && (!audio || audio.state !== "running");
    button.setAttribute("aria-pressed", String(on));
    button.querySelector("span").textContent = mute ? "on, once this page is clicked" : on ? "on" : "off";
  }

  function wakeSound() {
    if (!soundIsOn()) return;
    audio = audio || new AudioContext();
    audio.resume().then(showSound, () => {});
  }

  function beep() {
    if (!soundIsOn() || !audio || audio.state !== "running") return;
    for (const [after, pitch] of [[0, 660], [0.25, 880]]) {
      const tone = audio.createOscillator(), volume = audio.createGain();
      tone.frequency.value = pitch;
      volume.gain.value = 0.2;
      tone.connect(volume).connect(audio.destination);
      tone.start(audio.currentTime + after);
      tone.stop(audio.currentTime + after + 0.2);
    }
  }

  document.addEventListener("click", (event) => {
    const button = event.target.closest("#sound");
    if (button) {
      try { localStorage.setItem(wantsSound, soundIsOn() ? "off" : "on"); } catch { /* it stays off */ }
    }
    if (audio || soundIsOn()) wakeSound();
    if (button && soundIsOn()) setTimeout(beep, 100);
    showSound();
  });

  function callFor() {
    const state = document.querySelector("main [data-waiting]");
    if (!state) return;
    const waiting = Number(state.dataset.waiting);
    const icon = document.querySelector("link[rel=icon]");
    if (waiting === waited) return;
    document.title = (waiting ? `(${waiting}) ` : "") + document.title.replace(/^\(\d+\) /, "");
    icon.dataset.plain = icon.dataset.plain || icon.getAttribute("href");
    icon.setAttribute("href", waiting ? "/static/favicon-waiting.svg" : icon.dataset.plain);
    if (waited !== null && waiting > waited) beep();
    if (waited !== null) document.body.dispatchEvent(new Event("waiting"));
    waited = waiting;
  }

  for (const name of ["DOMContentLoaded", "htmx:after:swap", "htmx:sse:after:message"]) document.addEventListener(name, callFor);
  document.addEventListener("DOMContentLoaded", () => { wakeSound(); showSound(); });
  setInterval(warnOfEnd, 1000);
  setInterval(watchStream, 1000);
  document.addEventListener("visibilitychange", showSilence);
  document.addEventListener("heard", hear);
  document.addEventListener("htmx:sse:after:message", hear);
  document.addEventListener("htmx:sse:after:message", checkMode);
  document.addEventListener("htmx:after:swap", checkMode);
  document.addEventListener("htmx:after:swap", draw);
  document.addEventListener("htmx:sse:after:message", draw);
  document.addEventListener("ended", () => window.location.assign("/login?ended=yes"));
  window.addEventListener("resize", () => {
    const holder = place("equity-chart");
    if (chart && holder) chart.setSize({ width: holder.clientWidth, height: 220 });
  });
})();

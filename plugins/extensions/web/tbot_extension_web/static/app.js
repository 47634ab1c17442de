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
    if (!source || !holder || typeof uPlot === "undefined" || source.textContent === drawn) return;
    drawn = source.textContent;
    const curve = JSON.parse(drawn);
    holder.hidden = false;
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

  // Before the session ends a band says so, for what was typed into a form, and for who watches.
  const opened = Date.now();
  function warnOfEnd() {
    const band = place("session-ends");
    if (!band) return;
    const left = Number(document.body.dataset.sessionLeft) - (Date.now() - opened) / 1000;
    if (left > 120) return;
    band.querySelector("span").textContent = left > 60 ? "2 min" : left > 0 ? "1 min" : "a moment";
    band.hidden = false;
  }

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

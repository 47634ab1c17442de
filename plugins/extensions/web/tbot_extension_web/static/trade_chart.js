// The chart of a trade: bars, the strategy's lines, the stop with its moves, the target, entry and exit. The list below it
// has their names and prices: a name beside the axis would lie on the bars, a price on the prices of the axis.
"use strict";
(() => {
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const MINUTE_S = 60, AHEAD = 5;
  const LABEL_PX = 24; // half of a time at the edge of the chart, which would be cut there
  let chart = null, times = new Set();

  function lineOf(points, options) {
    for (const one of points) times.add(one.time);
    const series = chart.addSeries(LightweightCharts.LineSeries, {
      lastValueVisible: false, priceLineVisible: false, crosshairMarkerVisible: false, ...options,
    });
    series.setData(points);
  }

  // The last of the values at one time, up to the last bar: a line has one value for each time.
  function stepped(points, end) {
    const byTime = new Map(points.map((one) => [one.time, one.value]));
    const found = [...byTime].map(([time, value]) => ({ time, value })).filter((one) => one.time <= end);
    if (found.length && found[found.length - 1].time < end) found.push({ time: end, value: found[found.length - 1].value });
    return found;
  }

  function draw(holder, data) {
    if (chart) chart.remove();
    holder.replaceChildren(); // the picture of a page without scripts
    times = new Set(data.bars.map((one) => one.time));
    const { LineStyle, LineType } = LightweightCharts;
    chart = LightweightCharts.createChart(holder, {
      autoSize: true,
      layout: { background: { color: colour("--card") }, textColor: colour("--soft"), attributionLogo: true },
      grid: { vertLines: { color: colour("--line") }, horzLines: { color: colour("--line") } },
      timeScale: { timeVisible: true, secondsVisible: false, borderColor: colour("--line") },
      rightPriceScale: { borderColor: colour("--line"), entireTextOnly: true },
      localization: { locale: "en-US" },
    });
    const step = 10 ** -data.digits;
    const priceFormat = { type: "price", precision: data.digits, minMove: step };
    const bars = chart.addSeries(LightweightCharts.CandlestickSeries, {
      upColor: colour("--card"), borderUpColor: colour("--gain"), wickUpColor: colour("--gain"),
      downColor: colour("--loss"), borderDownColor: colour("--loss"), wickDownColor: colour("--loss"),
      lastValueVisible: false, priceLineVisible: false, priceFormat,
    });
    bars.setData(data.bars);
    if (data.exit) { // a point at its price: also in a minute whose bar never closed, as when the bot ended with it
      lineOf([data.exit], { color: colour("--ink"), lineVisible: false, pointMarkersVisible: true, pointMarkersRadius: 5, priceFormat });
    }
    for (const line of data.lines) {
      const dotted = line.kind === "trigger";
      lineOf(line.points, { color: colour(dotted ? "--warn" : "--soft"), lineWidth: 1, lineStyle: dotted ? LineStyle.Dotted : LineStyle.Solid, priceFormat });
    }
    // The stop of an open trade goes on, so that it is seen in the first minute, whose bar has not come yet.
    const latest = Math.max(...[...data.bars, data.entry, ...data.stops].map((one) => one.time));
    const least = data.stops.length ? data.stops[0].time + MINUTE_S : 0; // a line of one point is not seen
    const stop = stepped(data.stops, data.exit ? Math.max(data.exit.time, least) : latest);
    if (stop.length && !data.exit) {
      const { value } = stop[stop.length - 1];
      for (let minute = 1; minute <= AHEAD; minute += 1) stop.push({ time: latest + minute * MINUTE_S, value });
    }
    lineOf(stop, { color: colour("--danger"), lineWidth: 2, lineStyle: LineStyle.Dashed, lineType: LineType.WithSteps, priceFormat });
    if (data.target !== null) bars.createPriceLine({ price: data.target, color: colour("--gain"), lineStyle: LineStyle.Dashed, axisLabelVisible: false });
    bars.createPriceLine({ price: data.entry.value, color: colour("--edge"), lineStyle: LineStyle.SparseDotted, axisLabelVisible: false });
    const long = data.side > 0;
    LightweightCharts.createSeriesMarkers(bars, [
      { time: data.entry.time, position: long ? "belowBar" : "aboveBar", shape: long ? "arrowUp" : "arrowDown", color: colour("--gain") },
    ]);
    const time = chart.timeScale(), count = times.size || 1;
    const fit = () => {
      const room = (count * LABEL_PX) / Math.max(time.width(), 1);
      time.setVisibleLogicalRange({ from: -0.5 - room, to: count - 0.5 + room });
    };
    fit();
    time.subscribeSizeChange(fit); // also when a phone is turned
    const logo = holder.querySelector("#tv-attr-logo");
    if (logo) { // the link names the library's maker, and says nothing of this page
      logo.href = "https://www.tradingview.com/";
      logo.rel = "noopener noreferrer";
    }
  }

  let shown = null;

  function show() {
    const holder = document.getElementById("trade-chart");
    const source = document.getElementById("trade-data");
    if (!holder || !source || typeof LightweightCharts === "undefined") return;
    if (shown && shown.holder !== holder) chart = null; // the page of an open trade was read again
    shown = { holder, data: JSON.parse(source.textContent) };
    draw(holder, shown.data);
  }

  document.addEventListener("DOMContentLoaded", show);
  document.addEventListener("htmx:after:swap", show);
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { if (shown) draw(shown.holder, shown.data); });
})();

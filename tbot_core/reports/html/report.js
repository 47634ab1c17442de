"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const MINUS = "\u2212", THIN = 3.2, STEPS = [1, 2, 3, 5, 10, 15, 30];
  const built = new Map();
  const rebuilders = [];

  // Colours come from the style sheet, so that charts and text agree in both themes.
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue("--" + name).trim();
  const font = (px) => px + "px system-ui, 'Segoe UI', Roboto, Arial, sans-serif";
  const pad = (number) => String(number).padStart(2, "0");
  const clock = (minutes) => pad(Math.floor(minutes / 60) % 24) + ":" + pad(minutes % 60);
  const number = (value, digits) =>
    (value < 0 ? MINUS : "") + Math.abs(value).toLocaleString("en-US", { minimumFractionDigits: digits, maximumFractionDigits: digits });
  const percent = (value, digits) => number(value * 100, digits) + "\u00a0%";

  const element = (tag, name, parent) => {
    const made = document.createElement(tag);
    if (name) made.className = name;
    if (parent) parent.append(made);
    return made;
  };

  const axis = (more) => ({
    stroke: colour("soft"), font: font(11), labelFont: font(11),
    grid: { stroke: colour("line"), width: 1 }, ticks: { show: false }, ...more,
  });

  // The charts of the whole run: they replace the static drawings, and share one cursor.
  const sync = uPlot.sync("run");
  const { days, places, gaps, end } = data;
  const dayAt = new Map(places.map((place, day) => [place, days[day]]));
  // The day of a place, or the gap that it lies in.
  const words = (x) => dayAt.get(Math.min(end - 1, Math.floor(x))) ?? "not traded: " + gaps.find((gap) => x < gap[1])[2];

  const dayTicks = (u) => {
    const room = Math.max(1, Math.floor(u.bbox.width / devicePixelRatio / 84));
    const shown = places.filter((place) => place + 0.5 >= u.scales.x.min && place + 0.5 <= u.scales.x.max), found = [];
    const each = Math.max(1, Math.ceil((shown[shown.length - 1] - shown[0] + 1) / room));
    // The first day and those after a gap come first: the days between them have what is left.
    const after = shown.filter((place) => place === shown[0] || gaps.some((gap) => gap[1] === place));
    for (const place of [...after, ...shown]) {
      if (found.every((other) => Math.abs(other - place) >= each)) found.push(place);
    }
    return found.sort((one, other) => one - other).map((place) => place + 0.5);
  };

  const shade = (u) => {
    u.ctx.save();
    u.ctx.fillStyle = colour("line");
    for (const [from, to] of gaps) {
      const [left, right] = [from, to].map((x) => Math.min(Math.max(u.valToPos(x, "x", true), u.bbox.left), u.bbox.left + u.bbox.width));
      u.ctx.fillRect(left, u.bbox.top, right - left, u.bbox.height);
    }
    u.ctx.restore();
  };

  const runChart = (name, height, xs, values, options) => {
    const figure = document.getElementById(name);
    if (!figure || xs.length === 0) return;
    const still = figure.querySelector("svg");
    const readout = element("p", "readout");
    const place = element("div", "canvas");
    let plot;
    const build = () => {
      plot?.destroy();
      const wide = place.clientWidth, small = wide < 520;
      const show = (u) => {
        const at = u.cursor.idx;
        readout.textContent = at == null ? "" : words(xs[at]) + (values[at] == null ? "" : "  " + options.format(values[at]));
      };
      plot = new uPlot({
        width: wide, height: small ? Math.round(height * 0.85) : height, legend: { show: false }, padding: [6, small ? 30 : 12, 0, 0],
        cursor: { sync: { key: sync.key }, y: false, points: { show: false }, drag: { x: true, y: false } },
        scales: { x: { time: false, range: () => [0, end] }, y: { range: options.range } },
        axes: [
          axis({ splits: dayTicks, values: (_, all) => all.map(words), grid: { show: false }, size: 26, gap: 6 }),
          axis({ size: small ? 58 : 76, values: (_, all, axis, space, step) => all.map((y) => (y == null ? "" : options.label(y, step))) }),
        ],
        series: [{}, options.series()],
        hooks: { drawClear: [shade], setCursor: [show] },
      }, [xs, values], place);
    };
    place.setAttribute("role", "img");
    place.setAttribute("aria-label", still.getAttribute("aria-label"));
    figure.append(readout, place);
    still.remove();
    build();
    rebuilders.push(build);
    new ResizeObserver(() => { if (plot && place.clientWidth !== plot.width) build(); }).observe(place);
  };

  const money = (value) => number(value, 2);
  const short = (value) => number(value, Number.isInteger(value) ? 0 : 2);
  const padded = (u, low, high) => {
    const room = (high - low || Math.abs(high) * 0.01 || 1) * 0.08;
    return [low - room, high + room];
  };

  runChart("equity", 260, data.x, data.equity, {
    format: money, label: short, range: padded,
    series: () => ({ stroke: colour("gain"), width: 2, fill: colour("gain-wash"), paths: uPlot.paths.stepped({ align: 1 }), points: { show: false } }),
  });
  runChart("drawdown", 170, data.x, data.drawdown, {
    format: (value) => percent(value, 2), label: (value, step) => percent(value, Math.max(2, Math.ceil(-Math.log10(step * 100) - 1e-9))),
    range: (u, low) => [Math.min(low, -0.0001) * 1.08, 0],
    series: () => ({ stroke: colour("loss"), width: 1.5, fill: colour("loss-wash"), fillTo: 0, paths: uPlot.paths.stepped({ align: 1 }), points: { show: false } }),
  });
  runChart("sessions", 170, places.map((place) => place + 0.5), data.pnl, {
    format: (value) => (value > 0 ? "+" : "") + money(value), label: short,
    range: (u, low, high) => padded(u, Math.min(low, 0), Math.max(high, 0)),
    series: () => ({
      paths: uPlot.paths.bars({
        size: [0.6, 44], radius: 0.06,
        disp: {
          fill: { unit: 3, values: (u, s) => u.data[s].map((value) => colour(value < 0 ? "loss" : "gain")) },
          stroke: { unit: 3, values: (u, s) => u.data[s].map(() => "transparent") },
        },
      }),
      fill: colour("gain"), width: 0, points: { show: false },
    }),
  });

  // A trade's chart. Bars are packed as differences, see docs/reference/report.md.
  const unpack = (packed) => {
    const scale = 10 ** packed.d, bars = [];
    let close = 0, minute = packed.m;
    for (let at = 0; at < packed.b.length; minute++) {
      if (packed.b[at] === null) { at++; continue; }
      const [open, up, down, move] = packed.b.slice(at, at + 4), start = close + open, end = start + move;
      bars.push([minute, start / scale, (Math.max(start, end) + up) / scale, (Math.min(start, end) - down) / scale, end / scale, 1]);
      close = end;
      at += 4;
    }
    const lines = packed.l.map(([kind, name, start, stop, steps]) => {
      let value = 0;
      const values = steps.map((step) => (value += step) / scale);
      return { kind, name, start, stop, values };
    });
    return { bars, lines };
  };

  const merged = (bars, each) => {
    if (each === 1) return bars;
    const found = [];
    for (const [minute, open, high, low, close] of bars) {
      const start = Math.floor(minute / each) * each, last = found[found.length - 1];
      if (last && last[0] === start) {
        last[2] = Math.max(last[2], high);
        last[3] = Math.min(last[3], low);
        last[4] = close;
      } else found.push([start, open, high, low, close, each]);
    }
    return found;
  };

  const tradeChart = (place) => {
    const packed = data.trades[Number(place.dataset.trade)];
    const { bars, lines } = unpack(packed);
    if (bars.length === 0) return null;
    const readout = element("p", "readout", place), canvas = element("div", "canvas", place);
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", "Price chart of " + place.closest("details").querySelector(".what").textContent);
    const first = bars[0][0], last = bars[bars.length - 1][0] + 1;
    const [entered, paid] = packed.e, [left, got] = packed.x, long = packed.w > 0;
    const won = long ? got > paid : got < paid;
    const stops = packed.s.map(([minute, level]) => [Math.max(minute, first), level]);
    const bell = packed.t + packed.z;
    const there = (minute) => clock((((bell + minute) % 1440) + 1440) % 1440);
    const utc = (minute) => clock((packed.t + minute) % 1440);
    let plot;

    const build = () => {
      plot?.destroy();
      const wide = canvas.clientWidth, small = wide < 560;
      const each = STEPS.find((step) => (wide - 70) / ((last - first) / step) >= THIN) ?? 30;
      const shown = merged(bars, each);
      const prices = [...shown.map((bar) => bar[2]), ...shown.map((bar) => bar[3]), paid, got, ...stops.map((one) => one[1])];
      if (packed.g !== undefined) prices.push(packed.g);
      const [low, high] = [Math.min(...prices), Math.max(...prices)], room = (high - low || 0.01) * 0.06;
      const xs = shown.map((bar) => bar[0] + bar[5] / 2);

      const draw = (u) => {
        const ctx = u.ctx, dpr = devicePixelRatio;
        const x = (value) => u.valToPos(value, "x", true), y = (value) => u.valToPos(value, "y", true);
        const { left: boxLeft, top, width, height } = u.bbox;
        ctx.save();
        ctx.beginPath();
        ctx.rect(boxLeft, top, width, height);
        ctx.clip();
        const stroke = (name, width, dash) => {
          ctx.strokeStyle = colour(name);
          ctx.lineWidth = width * dpr;
          ctx.setLineDash((dash ?? []).map((part) => part * dpr));
        };
        const path = (points) => {
          ctx.beginPath();
          points.forEach(([px, py], at) => (at ? ctx.lineTo(px, py) : ctx.moveTo(px, py)));
          ctx.stroke();
        };

        // The time in which the position was held.
        const from = x(Math.min(entered, left) + 0.5), to = x(Math.max(left, entered) + 0.5);
        ctx.fillStyle = colour(won ? "gain-wash" : "loss-wash");
        ctx.fillRect(from, top, Math.max(to - from, dpr), height);

        // Bars: hollow when the price rose, filled when it fell.
        const body = Math.max(1, Math.min(9, ((width / dpr) / ((u.scales.x.max - u.scales.x.min) / each)) * 0.62)) * dpr;
        for (const [minute, open, top_, bottom, close, length] of shown) {
          const middle = Math.round(x(minute + length / 2)) + 0.5 * (dpr === 1 ? 1 : 0);
          stroke("bar", 1);
          path([[middle, y(top_)], [middle, y(bottom)]]);
          const upper = y(Math.max(open, close)), tall = Math.max(y(Math.min(open, close)) - upper, dpr);
          ctx.fillStyle = close >= open ? colour("card") : colour("bar");
          ctx.fillRect(middle - body / 2, upper, body, tall);
          ctx.strokeRect(middle - body / 2, upper, body, tall);
        }

        // The strategy's levels.
        for (const { kind, start, stop, values } of lines) {
          if (!values.length) continue;
          stroke(kind === "base" ? "base" : "trigger", 1.25, kind === "base" ? [] : [2, 3]);
          path(values.length === 1
            ? [[x(Math.max(start, first)), y(values[0])], [x(Math.min(stop, last)), y(values[0])]]
            : values.map((value, at) => [x(start + at + 0.5), y(value)]));
        }

        // Target, and the stop with its moves.
        const until = left + 0.5;
        if (packed.g !== undefined) {
          stroke("gain", 1.5, [6, 3]);
          path([[x(entered), y(packed.g)], [x(until), y(packed.g)]]);
        }
        if (stops.length) {
          stroke("loss", 1.5, [6, 3]);
          const points = [];
          stops.forEach(([minute, level], at) => {
            const end = at + 1 < stops.length ? stops[at + 1][0] : until;
            points.push([x(minute), y(level)], [x(Math.max(end, minute)), y(level)]);
          });
          path(points);
        }

        // Entry, exit, and the way between.
        stroke(won ? "gain" : "loss", 1.5);
        path([[x(entered + 0.5), y(paid)], [x(left + 0.5), y(got)]]);
        const size = 6 * dpr, [ex, ey] = [x(entered + 0.5), y(paid)], sign = long ? 1 : -1;
        ctx.fillStyle = colour("ink");
        ctx.strokeStyle = colour("card");
        ctx.lineWidth = 1.5 * dpr;
        ctx.beginPath();
        ctx.moveTo(ex, ey);
        ctx.lineTo(ex - size, ey + sign * size * 1.7);
        ctx.lineTo(ex + size, ey + sign * size * 1.7);
        ctx.closePath();
        ctx.stroke();
        ctx.fill();
        ctx.fillStyle = colour(won ? "gain" : "loss");
        ctx.beginPath();
        ctx.arc(x(left + 0.5), y(got), 5 * dpr, 0, 2 * Math.PI);
        ctx.stroke();
        ctx.fill();
        ctx.restore();

        if (!small) labels(u, dpr);
      };

      // Names of the levels in the margin, which is as wide as the longest, moved apart where they would touch.
      const levels = lines.filter((line) => line.values.length).map((line) => [line.name, line.values[line.values.length - 1], line.kind]);
      if (packed.g !== undefined) levels.push(["target", packed.g, "gain"]);
      if (stops.length) levels.push(["stop", stops[stops.length - 1][1], "loss"]);
      const texts = levels.map(([name, level, kind]) => ({ text: name + "  " + number(level, 2), level, kind }));
      const ruler = document.createElement("canvas").getContext("2d");
      ruler.font = font(11);
      const margin = Math.ceil(Math.max(0, ...texts.map((one) => ruler.measureText(one.text).width))) + 16;
      const labels = (u, dpr) => {
        const ctx = u.ctx, { left: boxLeft, top, width, height } = u.bbox, gap = 14 * dpr;
        const placed = texts
          .map((one) => ({ ...one, at: u.valToPos(one.level, "y", true) }))
          .filter((one) => one.at >= top - 1 && one.at <= top + height + 1)
          .sort((one, other) => one.at - other.at);
        placed.forEach((one, index) => { if (index) one.at = Math.max(one.at, placed[index - 1].at + gap); });
        const over = placed.length ? placed[placed.length - 1].at - (top + height) : 0;
        if (over > 0) placed.forEach((one) => { one.at -= over; });
        ctx.save();
        ctx.font = font(11 * dpr);
        ctx.textBaseline = "middle";
        ctx.textAlign = "left";
        for (const one of placed) {
          ctx.fillStyle = colour(one.kind);
          ctx.fillText(one.text, boxLeft + width + 8 * dpr, one.at);
        }
        ctx.restore();
      };

      const show = (u) => {
        const bar = u.cursor.idx == null ? null : shown[u.cursor.idx];
        readout.textContent = bar
          ? there(bar[0]) + " (" + utc(bar[0]) + " UTC)   O " + number(bar[1], packed.d) + "  H " + number(bar[2], packed.d) +
            "  L " + number(bar[3], packed.d) + "  C " + number(bar[4], packed.d)
          : (each === 1 ? "1-minute bars" : each + "-minute bars") + ", New York time";
      };

      plot = new uPlot({
        width: wide, height: small ? 260 : 340, legend: { show: false }, padding: [10, small ? 8 : margin, 0, 0],
        cursor: { y: false, points: { show: false }, drag: { x: true, y: false } },
        scales: { x: { time: false, range: (u, from, to) => (from === xs[0] || from == null ? [first, last] : [from, to]) }, y: { range: () => [low - room, high + room] } },
        axes: [
          axis({
            size: 30, grid: { show: false },
            splits: (u) => {
              const step = [5, 10, 15, 30, 60, 120].find((one) => (u.scales.x.max - u.scales.x.min) / one <= (small ? 5 : 10)) ?? 120, found = [];
              for (let at = Math.ceil((bell + u.scales.x.min) / step) * step - bell; at <= u.scales.x.max; at += step) found.push(at);
              return found;
            },
            values: (_, all) => all.map(there),
          }),
          axis({ size: small ? 50 : 58, values: (_, all) => all.map((value) => number(value, 2)) }),
        ],
        series: [{}, { paths: () => null, points: { show: false } }],
        hooks: { draw: [draw], setCursor: [show] },
      }, [xs, shown.map((bar) => bar[4])], canvas);
      show(plot);
    };

    build();
    const observer = new ResizeObserver(() => { if (plot && canvas.clientWidth && canvas.clientWidth !== plot.width) build(); });
    observer.observe(canvas);
    return { build, destroy: () => { observer.disconnect(); plot.destroy(); place.replaceChildren(); } };
  };

  // A chart exists while its line is open and was scrolled into view.
  const near = new IntersectionObserver((found) => {
    for (const { target, isIntersecting } of found) {
      if (!isIntersecting) continue;
      near.unobserve(target);
      if (!built.has(target)) built.set(target, tradeChart(target));
    }
  }, { rootMargin: "300px" });

  const follow = (line) => {
    const place = line.querySelector(".plot");
    if (!place) return;
    if (line.open) near.observe(place);
    else {
      near.unobserve(place);
      built.get(place)?.destroy();
      built.delete(place);
    }
  };

  const lines = [...document.querySelectorAll("details.trade")];
  for (const line of lines) {
    line.addEventListener("toggle", () => follow(line));
    if (line.open) follow(line);
  }

  const button = document.getElementById("open-all");
  if (button) {
    button.parentElement.hidden = false;
    button.addEventListener("click", () => {
      const open = button.textContent === "Open all";
      for (const line of lines) line.open = open;
      button.textContent = open ? "Close all" : "Open all";
    });
  }

  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
    for (const build of rebuilders) build();
    for (const chart of built.values()) chart?.build();
  });
})();

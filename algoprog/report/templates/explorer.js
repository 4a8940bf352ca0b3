"use strict";
// The interactive charts. Laws and gains come fitted from the page's data; nothing is estimated here.
(function () {
  const data = JSON.parse(document.getElementById("explorer-data").textContent);
  const byId = (id) => document.getElementById(id);
  const DARK = "#333333", GRID = "#e4e4e4", STEPS = 60;
  const CONFIG = { responsive: true, displaylogo: false, modeBarButtonsToRemove: ["select2d", "lasso2d", "toImage"] };

  const real = (value) => (value === "inf" ? Infinity : value === "-inf" ? -Infinity : value);
  // Charts read a little markup in their texts; names of a file are shown as they are.
  const escaped = (text) => String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");

  function digits(value, n = 3) {
    value = real(value);
    if (value === null || value === undefined || Number.isNaN(value)) return "–";
    if (!Number.isFinite(value)) return value > 0 ? "∞" : "−∞";
    const size = Math.abs(value);
    const text = value !== 0 && !(size >= 1e-3 && size < 1e5)
      ? value.toExponential(n - 1).replace("e+", "e") : String(Number(value.toPrecision(n)));
    return text.replace(/-/g, "−");
  }

  function withInterval(estimate) {
    const [value, low, high] = estimate.map(real);
    if (low === null || high === null) return digits(value) + " (no interval)";
    const width = high - low, largest = Math.max(Math.abs(value), Math.abs(low), Math.abs(high));
    if (!(Number.isFinite(largest) && width >= 1e-3 && largest < 1e5)) {
      return `${digits(value)} (${digits(low)} to ${digits(high)})`;
    }
    const decimals = Math.min(6, Math.max(0, 1 - Math.floor(Math.log10(width / 2))));
    const shown = [value, low, high].map((x) => x.toFixed(decimals).replace("-", "−"));
    return `${shown[0]} (${shown[1]} to ${shown[2]})`;
  }

  const law = (found, flops) => found.E + found.a * Math.pow(flops / found.C0, -found.alpha[0]);

  function spaced(low, high) {
    const step = Math.log(high / low) / STEPS;
    return Array.from({ length: STEPS + 1 }, (_, i) => low * Math.exp(step * i));
  }

  // What the controls say.
  function chosen() {
    const convention = data.conventions[Number(byId("pick-convention").value)];
    const free = byId("free-e").checked || !convention.held.length;
    const place = Math.min(Number(byId("pick-e").value), convention.held.length - 1);
    return {
      convention,
      setting: free ? convention.free : convention.held[place],
      held: convention.held[place],
      threshold: Number(byId("pick-loss").value),
      shown: data.archs.map((_, i) => byId("arch-" + i).checked),
    };
  }

  function runText(convention, i) {
    const runs = data.runs, lines = [
      `${data.archs[runs.arch[i]].name}, run ${runs.run[i]}`,
      `width ${digits(runs.width[i], 6)}, lr ${digits(runs.lr[i])}, seed ${digits(runs.seed[i], 10)}`,
      `loss ${digits(runs.loss[i], 5)} nats/token`,
      `${digits(convention.flops[i], 4)} FLOPs`,
      runs.state[i] + (convention.chosen.has(i) ? ", on the frontier" : ""),
    ];
    return lines.map(escaped).join("<br>");
  }

  function pointTraces(state, arch, k) {
    const { convention } = state, all = data.runs.arch.map((_, i) => i).filter((i) => data.runs.arch[i] === k);
    return [false, true].map((onFrontier) => {
      const here = all.filter((i) => convention.chosen.has(i) === onFrontier);
      return {
        name: escaped(arch.name) + (onFrontier ? ", frontier" : ", other runs"), type: "scatter", mode: "markers",
        x: here.map((i) => convention.flops[i]), y: here.map((i) => data.runs.loss[i]),
        text: here.map((i) => runText(convention, i)), hoverinfo: "text",
        marker: { symbol: arch.symbol + (onFrontier ? "" : "-open"), color: arch.colour, size: onFrontier ? 9 : 7 },
      };
    });
  }

  function lawTraces(found, arch) {
    const name = escaped(arch.name), ends = [found.grid[0], found.from, found.to, found.grid[found.grid.length - 1]];
    const kept = found.grid.map((_, i) => i).filter((i) => found.low[i] !== null && Number.isFinite(real(found.high[i])));
    const band = {
      name: name + ", band", type: "scatter", mode: "lines", fill: "toself", hoverinfo: "skip",
      fillcolor: arch.colour + "26", line: { color: arch.colour, width: 0.5 },
      x: kept.map((i) => found.grid[i]).concat(kept.slice().reverse().map((i) => found.grid[i])),
      y: kept.map((i) => found.high[i]).concat(kept.slice().reverse().map((i) => found.low[i])),
    };
    const parts = [0, 1, 2].map((part) => {
      const x = spaced(ends[part], ends[part + 1]), inside = part === 1;
      return {
        name: name + (inside ? ", law" : ", law, extrapolated"), type: "scatter", mode: "lines", hoverinfo: "text",
        x, y: x.map((flops) => law(found, flops)),
        text: x.map((flops) => `${name}, ${inside ? "law" : "extrapolated"}<br>loss ${digits(law(found, flops), 4)}` +
          `<br>${digits(flops)} FLOPs`),
        line: { color: arch.colour, width: inside ? 2 : 1.4, dash: inside ? "solid" : "dash" },
      };
    });
    return [band, ...parts];
  }

  const axis = (title, more) => ({
    title: { text: title, standoff: 8 }, gridcolor: GRID, linecolor: DARK, ticks: "outside", automargin: true,
    zeroline: false, ...more,
  });
  const FLOPS_AXIS = { type: "log", exponentformat: "power", dtick: 1 };

  // A narrow chart has no room for a long title in one line.
  const wrapped = (text) => (window.innerWidth < 480 ? text.replace(", ", ",<br>") : text);

  function layout(x, y, more) {
    return {
      xaxis: x, yaxis: y, showlegend: false, hovermode: "closest", dragmode: "pan",
      margin: { l: 56, r: 12, t: 12, b: 48 }, paper_bgcolor: "#fff", plot_bgcolor: "#fff",
      font: { family: "system-ui, Segoe UI, DejaVu Sans, sans-serif", size: 13, color: "#1c1c1c" }, ...more,
    };
  }

  const rule = (axis, at) => ({
    type: "line", [axis + "0"]: at, [axis + "1"]: at, [axis === "x" ? "yref" : "xref"]: "paper",
    [axis === "x" ? "y0" : "x0"]: 0, [axis === "x" ? "y1" : "x1"]: 1, line: { color: DARK, width: 1.2, dash: "dot" },
  });

  function drawLoss(state) {
    const traces = [], laws = [];
    data.archs.forEach((arch, k) => {
      if (!state.shown[k]) return;
      if (state.setting.laws[k]) laws.push(...lawTraces(state.setting.laws[k], arch));
      traces.push(...pointTraces(state, arch, k));
    });
    Plotly.react("chart-loss", laws.concat(traces), layout(
      axis(wrapped("training compute (FLOPs), " + escaped(state.convention.name)), FLOPS_AXIS),
      axis("loss (nats per token)"),
      { shapes: [rule("y", data.losses[state.threshold])], uirevision: state.convention.name },
    ), CONFIG);
  }

  const pairName = ([old, fresh]) => `${data.archs[fresh].name} over ${data.archs[old].name}`;
  const visible = (state) => data.pairs.map((_, i) => i)
    .filter((i) => state.setting.pairs[i] && data.pairs[i].every((k) => state.shown[k]));

  // Lines are told apart by the new architecture, or by the old one where all have the same new one.
  const coloured = new Set(data.pairs.map((pair) => pair[1])).size > 1 ? 1 : 0;
  const dashed = [...new Set(data.pairs.map((pair) => pair[1 - coloured]))];

  function ratioTicks(low, high) {
    let found = [];
    for (const steps of [[1], [1, 3], [1, 2, 5], [1, 1.5, 2, 3, 5, 7], [1, 1.2, 1.4, 1.6, 1.8, 2, 2.5, 3, 4, 5, 6, 8]]) {
      found = [];
      for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power += 1) {
        found.push(...steps.map((step) => Number((step * 10 ** power).toPrecision(6))));
      }
      found = found.filter((tick) => tick >= low && tick <= high);
      if (found.length >= 4) return found;
    }
    return found;
  }

  function gainTraces(state, i) {
    const arch = data.archs[data.pairs[i][coloured]];
    const dash = ["solid", "dash", "dot", "dashdot"][dashed.indexOf(data.pairs[i][1 - coloured]) % 4];
    const gains = state.setting.pairs[i].gains, name = escaped(pairName(data.pairs[i]));
    const finite = (j, part) => gains[j] && gains[j][part] !== null && Number.isFinite(real(gains[j][part])) &&
      gains[j][part] > 0;
    const all = gains.map((_, j) => j), lines = all.filter((j) => finite(j, 0));
    const banded = lines.filter((j) => finite(j, 1) && finite(j, 2)), back = banded.slice().reverse();
    return [{
      name: name + ", band", type: "scatter", mode: "lines", fill: "toself", hoverinfo: "skip",
      fillcolor: arch.colour + "1f", line: { color: arch.colour, width: 0.4 },
      x: banded.concat(back).map((j) => data.losses[j]),
      y: banded.map((j) => gains[j][2]).concat(back.map((j) => gains[j][1])),
    }, {
      name, type: "scatter", mode: "lines+markers", hoverinfo: "text", line: { color: arch.colour, width: 2, dash },
      marker: {
        symbol: lines.map((j) => (gains[j][3] ? "circle" : "circle-open")), color: arch.colour,
        size: lines.map((j) => (gains[j][3] ? 7 : 5)),
      },
      x: lines.map((j) => data.losses[j]), y: lines.map((j) => gains[j][0]),
      text: lines.map((j) => `${name}<br>${withInterval(gains[j].slice(0, 3))}<br>at a loss of ` +
        `${digits(data.losses[j], 4)}, ${gains[j][3] ? "in range" : "extrapolated"}`),
    }];
  }

  function drawGain(state) {
    const traces = visible(state).flatMap((i) => gainTraces(state, i));
    const heights = [1, ...traces.flatMap((trace) => trace.y)], low = Math.min(...heights), high = Math.max(...heights);
    const room = Math.max((high / low) ** 0.06, 1.02), ticks = ratioTicks(low / room, high * room);
    Plotly.react("chart-gain", traces, layout(
      axis(wrapped("loss (nats per token), lower to the right"), { autorange: "reversed" }),
      axis("gain: compute of old / of new", {
        type: "log", tickvals: ticks, ticktext: ticks.map((tick) => digits(tick, 4) + "×"),
        range: [Math.log10(low / room), Math.log10(high * room)],
      }),
      { shapes: [rule("x", data.losses[state.threshold]), { ...rule("y", 1), line: { color: DARK, width: 1 } }],
        uirevision: "gain" },
    ), CONFIG);
  }

  function fill(table, rows) {
    const body = byId(table).tBodies[0];
    body.replaceChildren(...rows.map((cells) => {
      const row = document.createElement("tr");
      cells.forEach((text, place) => {
        const cell = document.createElement(place ? "td" : "th");
        if (!place) cell.scope = "row";
        cell.textContent = text;
        row.append(cell);
      });
      return row;
    }));
  }

  function tell(state) {
    const { setting, threshold } = state;
    fill("explore-laws", data.archs.map((arch, k) => [arch, k]).filter(([, k]) => state.shown[k]).map(([arch, k]) => {
      const found = setting.laws[k];
      return [arch.name, found ? withInterval(found.alpha) : "no law"];
    }));
    fill("explore-gains", visible(state).map((i) => {
      const pair = setting.pairs[i], gain = pair.gains[threshold];
      return [
        pairName(data.pairs[i]),
        gain ? withInterval(gain.slice(0, 3)) : "never reached",
        gain ? (gain[3] ? "yes" : "no") : "–",
        withInterval(pair.gap),
        withInterval(pair.per_decade),
      ];
    }));
    byId("told-e").textContent = setting.fixed ? `held at ${digits(setting.E)} nats`
      : "estimated: " + (setting.E_interval ? withInterval([setting.E, ...setting.E_interval]) : digits(setting.E)) + " nats";
    byId("told-loss").textContent = digits(data.losses[threshold], 4) + " nats per token";
    byId("told-draws").textContent = setting.unstable ? "More than 5 % of the draws did not converge: unstable." : "";
  }

  // The steps of the chain at the threshold; null where the law never gets there.
  const stepsAt = (state) => (state.setting.chain.length ? state.setting.chain[state.threshold] : null);
  const finite = (value) => value !== null && Number.isFinite(real(value)) && value > 0;

  // One row per step, then the total: where its bar starts and ends, and the ends of its interval, in log10 of the gain.
  function steps(found) {
    let at = 0;
    const rows = found.factors.map((estimate, i) => {
      const start = at;
      at += Math.log10(estimate[0]);
      return { name: data.steps[i], estimate, start, share: found.shares ? found.shares[i] : null };
    });
    rows.push({ name: "total", estimate: found.total, start: 0, share: null });
    return rows.filter((row) => finite(row.estimate[0]));
  }

  const percent = (share) => share.map((part) => (typeof part === "number" ? 100 * part : part));

  function drawChain(state) {
    const found = stepsAt(state), rows = found ? steps(found) : [], log = (row, part) => row.start + Math.log10(row.estimate[part]);
    const bounds = rows.map((row) => (finite(row.estimate[1]) && finite(row.estimate[2]) ? [log(row, 1), log(row, 2)] : null));
    const places = [0, ...rows.map((row) => log(row, 0)), ...bounds.flatMap((ends) => ends || [])];
    const low = Math.min(...places), high = Math.max(...places, low + 0.05), room = 0.06 * (high - low);
    const ticks = ratioTicks(10 ** (low - room), 10 ** (high + room)), colours = data.chain.slice(1).map((k) => data.archs[k].colour);
    Plotly.react("chart-chain", [{
      type: "bar", orientation: "h", name: "factor", y: rows.map((row) => escaped(row.name)), base: rows.map((row) => row.start),
      x: rows.map((row) => log(row, 0) - row.start), hoverinfo: "text", width: 0.6, textposition: "none",
      text: rows.map((row) => `${escaped(row.name)}<br>${withInterval(row.estimate)}`),
      marker: { color: rows.map((row) => (row.name === "total" ? "#767676" : colours[data.steps.indexOf(row.name)])) },
      error_x: {
        type: "data", symmetric: false, color: DARK, thickness: 1.6, width: 4,
        array: rows.map((row, i) => (bounds[i] ? bounds[i][1] - log(row, 0) : 0)),
        arrayminus: rows.map((row, i) => (bounds[i] ? log(row, 0) - bounds[i][0] : 0)),
      },
    }], layout(
      axis(`gain in compute of ${escaped(data.archs[data.chain[0]].name)}`, {
        tickvals: ticks.map((tick) => Math.log10(tick)), ticktext: ticks.map((tick) => digits(tick, 4) + "×"),
        range: [low - room, high + room],
      }),
      axis("", { autorange: "reversed", ticks: "" }),
      { shapes: [{ ...rule("x", 0), line: { color: DARK, width: 1 } }] },
    ), CONFIG);
  }

  function tellChain(state) {
    const found = stepsAt(state), last = data.archs[data.chain[data.chain.length - 1]].name;
    fill("explore-chain-steps", found ? steps(found).map((row) => [
      row.name, withInterval(row.estimate), row.share ? withInterval(percent(row.share)) : "–",
    ]) : []);
    const where = found ? `${last} spends ${digits(found.flops)} FLOPs, ${found.in_range ? "in range" : "extrapolated"}.` : "";
    const shares = !state.setting.chain.length ? "Not every architecture of the chain has a law at these settings."
      : !found ? "The threshold is never reached." : found.shares ? ""
      : " No shares: the interval of the total includes 1, so there is no gain to share.";
    byId("told-chain").textContent = where + shares;
  }

  function remember() {
    const state = ["pick-convention", "pick-e", "pick-loss"].map((id) => byId(id).value);
    const ticks = ["free-e", ...data.archs.map((_, i) => "arch-" + i)].map((id) => byId(id).checked);
    try { sessionStorage.setItem("explorer", JSON.stringify([state, ticks])); } catch (_) { /* not allowed here */ }
  }

  function recall() {
    try {
      const [state, ticks] = JSON.parse(sessionStorage.getItem("explorer"));
      if (ticks.length !== data.archs.length + 1 || Number(state[0]) >= data.conventions.length) return;
      ["pick-convention", "pick-e", "pick-loss"].forEach((id, i) => { byId(id).value = state[i]; });
      ["free-e", ...data.archs.map((_, i) => "arch-" + i)].forEach((id, i) => { byId(id).checked = ticks[i]; });
    } catch (_) { /* nothing remembered */ }
  }

  function update() {
    const state = chosen();
    byId("pick-e").max = Math.max(0, state.convention.held.length - 1);
    byId("pick-e").setAttribute("aria-valuetext", state.held ? digits(state.held.E) + " nats per token" : "none");
    byId("pick-loss").setAttribute("aria-valuetext", digits(data.losses[state.threshold], 4) + " nats per token");
    drawLoss(state);
    drawGain(state);
    tell(state);
    if (data.chain.length) {
      drawChain(state);
      tellChain(state);
    }
    remember();
  }

  function buildControls() {
    data.conventions.forEach((convention, i) => {
      convention.chosen = new Set(convention.frontier);
      byId("pick-convention").append(new Option(convention.name, i));
    });
    data.archs.forEach((arch, i) => {
      const label = document.createElement("label"), box = document.createElement("input");
      const mark = document.createElement("span");
      Object.assign(box, { type: "checkbox", id: "arch-" + i, checked: true });
      Object.assign(mark, { textContent: arch.glyph });
      mark.style.color = arch.colour;
      mark.setAttribute("aria-hidden", "true");
      label.append(box, " ", mark, " " + arch.name);
      byId("pick-arch").append(label);
    });
    byId("pick-e").max = Math.max(0, data.conventions[0].held.length - 1);
    const held = data.conventions[0].held.map((one) => Math.abs(one.E - data.conventions[0].free.E));
    byId("pick-e").value = Math.max(0, held.indexOf(Math.min(...held)));
    byId("pick-loss").max = data.losses.length - 1;
    byId("pick-loss").value = Math.floor(data.losses.length * 0.6);
    byId("explore-gain").hidden = !data.pairs.length;
    recall();
  }

  function save(name, url) {
    const link = Object.assign(document.createElement("a"), { download: name, href: url });
    link.click();
  }

  function csv(chart) {
    const cell = (text) => `"${String(text).replace(/"/g, '""')}"`;
    const plain = (text) => text.replace(/&lt;/g, "<").replace(/&gt;/g, ">").replace(/&amp;/g, "&");
    if (chart === "chart-chain") return chainCsv(cell);
    const rows = byId(chart).data.flatMap((trace) => trace.x.map((x, i) => [cell(plain(trace.name)), x, trace.y[i]].join(",")));
    const [x, y] = chart === "chart-loss" ? ["flops", "loss"] : ["loss", "gain"];
    return URL.createObjectURL(new Blob([`series,${x},${y}\n${rows.join("\n")}\n`], { type: "text/csv" }));
  }

  function chainCsv(cell) {
    const found = stepsAt(chosen()), parts = (list) => (list || ["", "", ""]).map((part) => (part === null ? "" : part));
    const rows = (found ? steps(found) : []).map((row) => [cell(row.name), ...parts(row.estimate), ...parts(row.share)].join(","));
    const head = "step,factor,factor_low,factor_high,share,share_low,share_high";
    return URL.createObjectURL(new Blob([`${head}\n${rows.join("\n")}\n`], { type: "text/csv" }));
  }

  async function download(chart, kind) {
    const node = byId(chart), size = { width: node.clientWidth, height: node.clientHeight };
    save(`${chart}.${kind}`, kind === "csv" ? csv(chart)
      : await Plotly.toImage(node, { format: kind, scale: kind === "png" ? 2 : 1, ...size }));
  }

  async function start() {
    const library = document.createElement("script");
    library.textContent = new TextDecoder().decode(await algoprog.unpack(byId("plotly-packed").textContent));
    document.head.append(library);
    document.documentElement.classList.add("interactive");
    buildControls();
    byId("pick-e").addEventListener("input", () => { byId("free-e").checked = false; });
    byId("controls").addEventListener("input", update);
    document.querySelectorAll("button[data-chart]").forEach((button) => {
      button.addEventListener("click", () => download(button.dataset.chart, button.dataset.kind));
    });
    update();
  }

  start();
})();

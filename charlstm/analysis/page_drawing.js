// What page.html draws from the choices that page.js holds; page.py puts both there, this one first.
"use strict";
// ---- drawing ---------------------------------------------------------------------------------------------------
const pending = new Set();
const timings = {};               // ms of the last drawing of each part, to read in the console
function draw(...parts) {
  if (!pending.size) requestAnimationFrame(() => {
    const now = [...pending];
    pending.clear();
    for (const part of now) {
      const start = performance.now();
      drawings[part]();
      timings[part] = performance.now() - start;
    }
  });
  parts.forEach(part => pending.add(part));
}
const everything = ["legend", "text", "underlines", "cursor", "detail", "map", "correlated", "scatters"];

function drawText() {
  const row = layerArrays[pick.show].subarray(pick.unit * T, (pick.unit + 1) * T), colours = paletteOf(pick.show).css;
  for (let t = 0; t < T; t++) spans[t].style.backgroundColor = colours[row[t]];
}
function drawUnderlines() {
  const colour = css("--underline").trim(), number = facts.features.indexOf(pick.underline);
  for (let t = 0; t < T; t++) {
    const fraction = pick.underline === "surprisal" ? Math.min(data.surprisal[t] / 8, 1) : number < 0 ? 0 : data.features[number * T + t] / 255;
    spans[t].style.boxShadow = fraction > 0.02 ? `inset 0 -3px color-mix(in srgb, ${colour} ${Math.round(fraction * 100)}%, transparent)` : "";
  }
}
let outlined = null;
function drawCursor() {
  outlined?.classList.remove("at");
  outlined = spans[shown()];
  outlined.classList.add("at");
}
const shown = () => hovered ?? pick.at;

function drawLegend() {
  const { label, sigmoid } = valueOf[pick.show], scale = scaleOf(pick.show, pick.unit), canvas = $("legend");
  const context = canvas.getContext("2d"), image = context.createImageData(256, 1);
  new Uint32Array(image.data.buffer).set(paletteOf(pick.show).pixels);
  context.putImageData(image, 0, 0);
  $("legend-name").textContent = sigmoid ? `${label}: shut to open` : `${label} of unit ${pick.unit}`;
  $("low").textContent = sigmoid ? "0" : (-scale).toFixed(2);
  $("middle").textContent = sigmoid ? "0.5" : "0";
  $("high").textContent = sigmoid ? "1" : "+" + scale.toFixed(2);
}

function bar(track, value, sigmoid, scale) {
  const fill = track.firstElementChild, fraction = value / scale;
  fill.style.left = sigmoid ? "0" : `${fraction < 0 ? 50 + fraction * 50 : 50}%`;
  fill.style.width = `${sigmoid ? fraction * 100 : Math.abs(fraction) * 50}%`;
  fill.style.background = fraction < 0 ? "var(--minus)" : "var(--plus)";
}
function drawDetail() {
  const t = shown(), surprisal = data.surprisal[t];
  $("glyph").textContent = symbol(t) === " " ? "␣" : symbol(t);
  $("place").textContent = `${facts.unit} ${(t + 1).toLocaleString("en")}, at ${lineOf[t] + 1}:${t - lineStart[t] + 1}`;
  $("place").title = "line and column";
  $("surprisal").textContent = `surprisal ${surprisal.toFixed(2)} bits (probability ${percent(2 ** -surprisal)})`;
  $("unit-title").textContent = `Layer ${pick.layer}, unit ${pick.unit}, after reading it`;
  for (const { name, sigmoid } of facts.values) {
    const value = valueAt(name, pick.unit, t);
    $("value-" + name).textContent = value.toFixed(3);
    $("name-" + name).classList.toggle("chosen", name === pick.show);
    bar($("track-" + name), value, sigmoid, scaleOf(name, pick.unit));
  }
  for (let k = 0; k < facts.guesses; k++) {
    const id = data.guessIds[t * facts.guesses + k], probability = data.guessProbs[t * facts.guesses + k];
    const name = $("guess-" + k), came = t + 1 < T && id === data.ids[t + 1];
    name.textContent = facts.symbols[id] === " " ? "␣" : facts.symbols[id];
    name.classList.toggle("came", came);
    name.title = came ? "the actual next one" : "";
    $("guess-prob-" + k).textContent = percent(probability);
    bar($("guess-track-" + k), probability, true, 1);
  }
  drawAround(t);
  drawCross(t);
}
const percent = fraction => fraction < 0.001 ? "<0.1\u00a0%" : `${(fraction * 100).toFixed(fraction < 0.1 ? 1 : 0)}\u00a0%`;

function fit(canvas, width, height) {
  const ratio = devicePixelRatio || 1;
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(height * ratio);
  canvas.style.height = height + "px";
  const context = canvas.getContext("2d");
  context.scale(ratio, ratio);
  return context;
}
function drawAround(t) {
  const canvas = $("around"), width = canvas.parentElement.clientWidth - 36, columns = 27, left = 20;
  const cell = (width - left) / columns, high = 15, head = 20;
  const context = fit(canvas, width, head + facts.values.length * high);
  const from = Math.max(0, Math.min(t - (columns >> 1), T - columns));
  context.font = '12px ui-monospace, "DejaVu Sans Mono", monospace';
  context.textAlign = "center";
  for (let k = 0; k < columns && from + k < T; k++) {
    context.fillStyle = css(from + k === t ? "--ink" : "--soft");
    context.fillText([...symbol(from + k)].slice(-2).join(""), left + (k + .5) * cell, 13);
    facts.values.forEach(({ name }, row) => {
      context.fillStyle = paletteOf(name).css[layerArrays[name][pick.unit * T + from + k]];
      context.fillRect(left + k * cell, head + row * high, cell + .5, high - 2);
    });
  }
  context.fillStyle = css("--soft");
  facts.values.forEach(({ name }, row) => context.fillText(name, 8, head + row * high + 10));
  context.strokeStyle = css("--cursor");
  context.strokeRect(left + (t - from) * cell, head - 1, cell, facts.values.length * high);
}

// ---- the map ---------------------------------------------------------------------------------------------------
let rows = [];                    // the unit on each row of the map
function orderRows() {
  rows = Array.from({ length: H }, (_, unit) => unit);
  if (pick.order !== "mean") return;
  const all = layerArrays[pick.show], means = new Float64Array(H);
  for (let unit = 0; unit < H; unit++) {
    let sum = 0;
    for (let t = 0; t < T; t++) sum += all[unit * T + t];
    means[unit] = sum;
  }
  rows.sort((a, b) => means[b] - means[a]);
}
function drawMap() {
  orderRows();
  const canvas = $("map"), box = $("map-box"), all = layerArrays[pick.show], pixels = paletteOf(pick.show).pixels;
  const width = Math.max(1, Math.min(T, Math.round(box.clientWidth * (devicePixelRatio || 1))));
  const height = Math.max(160, Math.min(420, H * 2));
  canvas.width = width;
  canvas.height = H;
  canvas.style.height = height + "px";
  canvas.style.imageRendering = H > height ? "auto" : "pixelated";
  const context = canvas.getContext("2d"), image = context.createImageData(width, H), out = new Uint32Array(image.data.buffer);
  const starts = Uint32Array.from({ length: width + 1 }, (_, x) => Math.floor(x * T / width));
  for (let row = 0; row < H; row++) {
    const offset = rows[row] * T;
    for (let x = 0; x < width; x++) {
      let sum = 0;
      for (let t = starts[x]; t < starts[x + 1]; t++) sum += all[offset + t];
      out[row * width + x] = pixels[Math.round(sum / (starts[x + 1] - starts[x]))];
    }
  }
  context.putImageData(image, 0, 0);
  $("map-note").textContent = `${valueOf[pick.show].label} of ${H.toLocaleString("en")} units (rows) at ${T.toLocaleString("en")} ${facts.unit}s (columns); click one to look at it.`;
  drawCross(shown());
}
function drawCross(t) {
  $("map-t").style.left = `${(t + .5) / T * 100}%`;
  $("map-u").style.top = `${(rows.indexOf(pick.unit) + .5) / H * 100}%`;
}
function mapPlace(event) {
  const box = $("map").getBoundingClientRect(), clamp = (x, most) => Math.max(0, Math.min(most, Math.floor(x)));
  return [rows[clamp((event.clientY - box.top) / box.height * H, H - 1)], clamp((event.clientX - box.left) / box.width * T, T - 1)];
}

// ---- open and shut ---------------------------------------------------------------------------------------------
const scatterEdge = 26;
let scatterSize = 190;            // as wide as its column, up to 260
const scatterPoint = (name, unit) => {
  const inner = scatterSize - scatterEdge - 8;
  return [scatterEdge + facts.shut[name][pick.layer][unit] * inner, 8 + (1 - facts.open[name][pick.layer][unit]) * inner];
};
function drawScatters() {
  for (const name of Object.keys(facts.open)) {
    const canvas = $("scatter-" + name);
    scatterSize = Math.max(120, Math.min(260, canvas.parentElement.clientWidth));
    canvas.style.width = scatterSize + "px";
    const context = fit(canvas, scatterSize, scatterSize), right = scatterSize - 8, bottom = scatterSize - scatterEdge;
    context.strokeStyle = css("--line");
    context.beginPath();
    context.moveTo(scatterEdge, 8);
    context.lineTo(scatterEdge, bottom);
    context.lineTo(right, bottom);
    context.moveTo(scatterEdge, 8);
    context.lineTo(right, bottom);
    context.stroke();
    context.fillStyle = css("--soft");
    context.font = "11px system-ui, sans-serif";
    context.fillText("0", scatterEdge - 4, bottom + 14);
    context.textAlign = "center";
    context.fillText("shut", (scatterEdge + right) / 2, bottom + 14);
    context.fillText("1", right - 3, bottom + 14);
    context.save();
    context.translate(scatterEdge - 10, (8 + bottom) / 2);
    context.rotate(-Math.PI / 2);
    context.fillText("open", 0, 0);
    context.restore();
    context.fillText("1", scatterEdge - 9, 14);
    context.fillStyle = css("--accent");
    context.globalAlpha = H > 300 ? .35 : .55;
    for (let unit = 0; unit < H; unit++) {
      const [x, y] = scatterPoint(name, unit);
      context.beginPath();
      context.arc(x, y, 2.6, 0, 7);
      context.fill();
    }
    context.globalAlpha = 1;
    const [x, y] = scatterPoint(name, pick.unit), fraction = side => percent(facts[side][name][pick.layer][pick.unit]);
    context.beginPath();
    context.arc(x, y, 5.5, 0, 7);
    context.fillStyle = css("--plus");
    context.strokeStyle = css("--ink");
    context.lineWidth = 1.5;
    context.fill();
    context.stroke();
    $("fraction-" + name).textContent = `open ${fraction("open")}, shut ${fraction("shut")}`;
  }
}
function nearestUnit(name, event) {
  const box = $("scatter-" + name).getBoundingClientRect();
  let best = 0, least = Infinity;
  for (let unit = 0; unit < H; unit++) {
    const [x, y] = scatterPoint(name, unit), distance = Math.hypot(x - event.clientX + box.left, y - event.clientY + box.top);
    if (distance < least) [best, least] = [unit, distance];
  }
  return best;
}

// ---- correlated units ------------------------------------------------------------------------------------------
function drawCorrelated() {
  document.querySelectorAll("#correlated tbody tr").forEach((tr, k) => {
    const { layer, unit, feature } = facts.correlated_units[k];
    tr.classList.toggle("picked", layer === pick.layer && unit === pick.unit && feature === pick.underline);
  });
  $("more").hidden = $("correlated").scrollWidth <= $("correlated").clientWidth;
}
function buildCorrelated() {
  $("memory").textContent = valueOf[facts.memory].label;
  $("studied").textContent = `${facts.studied.toLocaleString("en")} ${facts.unit}s`;
  if (!facts.correlated_units.length) {
    $("correlated").textContent = "The text is too short, or no feature varies in both halves.";
    return;
  }
  const table = document.createElement("table");
  table.innerHTML = `<thead><tr><th scope="col">feature</th><th scope="col">layer, unit</th><th scope="col">r on held-out text</th><th scope="col">r where found</th></tr></thead><tbody></tbody>`;
  for (const { feature, layer, unit, r_found, r_held_out, r_chance, agreement, beyond_chance } of facts.correlated_units) {
    const tr = table.tBodies[0].insertRow(), signed = r => (r < 0 ? "−" : "+") + Math.abs(r).toFixed(2);
    tr.innerHTML = `<td><button type="button"></button></td><td class="unit">${layer}, ${unit}</td>
      <td class="r${beyond_chance ? "" : " weak"}"><span class="track" title="chance reaches ${r_chance.toFixed(2)}"><i style="width:${Math.max(agreement, 0) * 100}%"></i><b style="left:${r_chance * 100}%"></b></span>${signed(r_held_out)}${beyond_chance ? "" : '<span class="hidden"> no better than chance</span>'}</td>
      <td>${signed(r_found)}</td>`;
    const button = tr.querySelector("button");
    button.textContent = feature;
    button.addEventListener("click", () => choose({ layer, unit, show: facts.memory, underline: feature }));
  }
  $("correlated").append(table);
}

const drawings = { legend: drawLegend, text: drawText, underlines: drawUnderlines, cursor: drawCursor, detail: drawDetail, map: drawMap, correlated: drawCorrelated, scatters: drawScatters };

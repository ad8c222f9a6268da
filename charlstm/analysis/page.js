// The data, choices and controls of page.html.
"use strict";
const $ = id => document.getElementById(id);
const facts = JSON.parse($("facts").textContent);
const T = facts.length, H = facts.hidden;
const valueOf = Object.fromEntries(facts.values.map(value => [value.name, value]));
const pick = { layer: 0, unit: 0, show: facts.memory, underline: "none", order: "number", at: 0 };
let hovered = null;               // a character under the pointer; shown instead of pick.at
const unpacked = new Map();       // element's name → bytes
const data = {};                  // ids, surprisal, guesses, features
let layerArrays = {};             // value's name → Uint8Array (H·T), units first
let spans = [];
let lineOf, lineStart;            // of each character: its line, and where that begins

// ---- unpacking -------------------------------------------------------------------------------------------------
function unpack(name) {
  if (!unpacked.has(name)) {
    const text = atob($("data-" + name).textContent), bytes = new Uint8Array(text.length);
    for (let k = 0; k < text.length; k++) bytes[k] = text.charCodeAt(k);
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
    unpacked.set(name, new Response(stream).arrayBuffer());
  }
  return unpacked.get(name);
}
async function loadLayer() {
  const layer = pick.layer, names = facts.values.map(value => value.name);
  const buffers = await Promise.all(names.map(name => unpack(`${name}-${layer}`)));
  if (layer === pick.layer) layerArrays = Object.fromEntries(names.map((name, k) => [name, new Uint8Array(buffers[k])]));
}
const scaleOf = (name, unit) => valueOf[name].sigmoid ? 1 : facts.scales[name][pick.layer][unit];
function valueAt(name, unit, t) {
  const byte = layerArrays[name][unit * T + t];
  return valueOf[name].sigmoid ? byte / 255 : (byte - 128) / 127 * scaleOf(name, unit);
}
const symbol = t => facts.symbols[data.ids[t]];

// ---- colours ---------------------------------------------------------------------------------------------------
let palettes;
function readPalettes() {
  const style = getComputedStyle(document.documentElement);
  const rgb = name => style.getPropertyValue(name).trim().match(/\w\w/g).map(part => parseInt(part, 16));
  const zero = rgb("--zero"), plus = rgb("--plus"), minus = rgb("--minus");
  const make = fraction => {
    const css = new Array(256), pixels = new Uint32Array(256);
    for (let byte = 0; byte < 256; byte++) {
      const t = fraction(byte), end = t < 0 ? minus : plus, s = Math.min(Math.abs(t), 1);
      const [r, g, b] = zero.map((from, k) => Math.round(from + (end[k] - from) * s));
      css[byte] = `rgb(${r} ${g} ${b})`;
      pixels[byte] = (255 << 24 | b << 16 | g << 8 | r) >>> 0;
    }
    return { css, pixels };
  };
  palettes = { sigmoid: make(byte => byte / 255), signed: make(byte => (byte - 128) / 127) };
}
const paletteOf = name => palettes[valueOf[name].sigmoid ? "sigmoid" : "signed"];
const css = name => getComputedStyle(document.documentElement).getPropertyValue(name);

// ---- choosing --------------------------------------------------------------------------------------------------
async function choose(changes) {
  const before = { ...pick };
  Object.assign(pick, changes);
  pick.unit = Math.max(0, Math.min(H - 1, pick.unit));
  pick.at = Math.max(0, Math.min(T - 1, pick.at));
  if ("at" in changes) hovered = null;
  const changed = Object.keys(pick).filter(key => pick[key] !== before[key]);
  if (changed.includes("layer")) await loadLayer();
  for (const id of ["layer", "unit", "show", "underline", "order"]) $(id).value = pick[id];
  $("slide").value = pick.unit;
  const parts = new Set(["cursor", "detail"]);
  const needs = { layer: everything, unit: ["legend", "text", "correlated", "scatters"], show: ["legend", "text", "map"], underline: ["underlines", "correlated"], order: ["map"], at: [] };
  changed.forEach(key => needs[key].forEach(part => parts.add(part)));
  draw(...parts);
  clearTimeout(choose.timer);
  choose.timer = setTimeout(remember, 300);
}
function remember() {
  try { history.replaceState(null, "", "#" + new URLSearchParams(pick)); } catch { /* a viewer that allows none */ }
}
function recall() {
  const given = new URLSearchParams(location.hash.slice(1)), changes = {};
  for (const key of ["layer", "unit", "at"]) if (/^\d+$/.test(given.get(key) ?? "")) changes[key] = Number(given.get(key));
  if (changes.layer >= facts.layers) delete changes.layer;
  if (Object.hasOwn(valueOf, given.get("show"))) changes.show = given.get("show");
  if ([...$("underline").options].some(option => option.value === given.get("underline"))) changes.underline = given.get("underline");
  if ([...$("order").options].some(option => option.value === given.get("order"))) changes.order = given.get("order");
  return changes;
}
function announce() {
  const t = pick.at, value = valueAt(pick.show, pick.unit, t).toFixed(2), bits = data.surprisal[t];
  const name = { " ": "space", "↵": "line end", "⇥": "tab" }[symbol(t)] ?? symbol(t);
  $("live").textContent = `${name}, ${valueOf[pick.show].label} ${value}, surprisal ${bits.toFixed(1)} bits, unit ${pick.unit}`;
}
function moveTo(t) {
  choose({ at: t }).then(announce);
  const span = spans[pick.at], box = $("text");
  if (span.offsetTop < box.scrollTop + 20) box.scrollTop = span.offsetTop - 60;
  else if (span.offsetTop > box.scrollTop + box.clientHeight - 50) box.scrollTop = span.offsetTop - box.clientHeight + 80;
}
function tellingPlace() {          // the largest change of the unit's memory in the stretch where it changes most
  const memory = layerArrays[facts.memory].subarray(pick.unit * T, (pick.unit + 1) * T), long = Math.min(80, T);
  const change = t => t ? Math.abs(memory[t] - memory[t - 1]) : 0;
  let sum = 0, most = -1, end = 0;
  for (let t = 0; t < T; t++) {
    sum += change(t) - (t >= long ? change(t - long) : 0);
    if (t >= long - 1 && sum > most) [most, end] = [sum, t];
  }
  let best = end;
  for (let t = end - long + 1; t <= end; t++) if (change(t) > change(best)) best = t;
  return best;
}
function lineAway(t, step) {       // the character above or below, as the text is laid out
  const top = span => span.offsetTop, left = spans[t].offsetLeft;
  let k = t;
  while (k + step >= 0 && k + step < T && top(spans[k]) === top(spans[t])) k += step;
  if (top(spans[k]) === top(spans[t])) return k;
  const line = top(spans[k]);
  let best = k;
  for (; k >= 0 && k < T && top(spans[k]) === line; k += step)
    if (Math.abs(spans[k].offsetLeft - left) < Math.abs(spans[best].offsetLeft - left)) best = k;
  return best;
}
function lineEnd(t, step) {
  let k = t;
  while (k + step >= 0 && k + step < T && spans[k + step].offsetTop === spans[t].offsetTop) k += step;
  return k;
}

// ---- wiring ----------------------------------------------------------------------------------------------------
function onKeys(element, keys) {
  element.addEventListener("keydown", event => {
    if (event.ctrlKey || event.metaKey || event.altKey || !(event.key in keys)) return;
    event.preventDefault();
    keys[event.key](event);
  });
}
function wire() {
  const number = (id, key) => $(id).addEventListener("input", () => $(id).value !== "" && choose({ [key]: Number($(id).value) }));
  number("layer", "layer"); number("unit", "unit"); number("slide", "unit");
  for (const id of ["show", "underline", "order"]) $(id).addEventListener("input", () => choose({ [id]: $(id).value }));

  const text = $("text"), under = event => event.target.t;
  text.addEventListener("mousemove", event => { if (under(event) !== undefined && under(event) !== shown()) { hovered = under(event); draw("cursor", "detail"); } });
  text.addEventListener("mouseleave", () => { hovered = null; draw("cursor", "detail"); });
  text.addEventListener("click", event => under(event) !== undefined && choose({ at: under(event) }));
  const units = { n: () => choose({ unit: pick.unit + 1 }).then(announce), p: () => choose({ unit: pick.unit - 1 }).then(announce) };
  onKeys(text, {
    ArrowLeft: () => moveTo(pick.at - 1), ArrowRight: () => moveTo(pick.at + 1),
    ArrowUp: () => moveTo(lineAway(pick.at, -1)), ArrowDown: () => moveTo(lineAway(pick.at, 1)),
    Home: () => moveTo(lineEnd(pick.at, -1)), End: () => moveTo(lineEnd(pick.at, 1)), ...units,
  });

  const map = $("map"), rowBy = step => choose({ unit: rows[Math.max(0, Math.min(H - 1, rows.indexOf(pick.unit) + step))] }).then(announce);
  map.addEventListener("mousemove", event => {
    const [unit, t] = mapPlace(event);
    $("map-read").textContent = `unit ${unit}, ${facts.unit} ${t + 1} ${symbol(t)}: ${valueAt(pick.show, unit, t).toFixed(3)}`;
  });
  map.addEventListener("mouseleave", () => $("map-read").textContent = "");
  map.addEventListener("click", event => { const [unit, t] = mapPlace(event); choose({ unit, at: t }); moveTo(t); });
  onKeys(map, {
    ArrowLeft: () => moveTo(pick.at - 1), ArrowRight: () => moveTo(pick.at + 1), ArrowUp: () => rowBy(-1), ArrowDown: () => rowBy(1),
  });
  for (const name of Object.keys(facts.open)) {
    const canvas = $("scatter-" + name);
    canvas.addEventListener("click", event => choose({ unit: nearestUnit(name, event) }));
    onKeys(canvas, { ArrowLeft: units.p, ArrowRight: units.n, ...units });
  }
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { readPalettes(); draw(...everything); });
  addEventListener("resize", () => draw("map", "detail", "scatters", "correlated"));
  addEventListener("hashchange", () => choose(recall()));
}

function option(select, value, label) {
  select.append(new Option(label, value));
}
function build() {
  document.title = `${facts.title} – what the gates did`;
  $("title").textContent = facts.title;
  const bits = ` · ${facts.bits_per_char.toFixed(3)} bits per ${facts.unit}`;
  $("subtitle").textContent = `${facts.model} · ${T.toLocaleString("en")} ${facts.unit}s${bits}`;
  document.querySelectorAll(".what").forEach(element => element.textContent = facts.unit);
  for (let layer = 0; layer < facts.layers; layer++) option($("layer"), layer, `${layer}${layer === 0 ? " (first)" : layer === facts.layers - 1 ? " (last)" : ""}`);
  $("unit").max = $("slide").max = H - 1;
  for (const { name, label } of facts.values) option($("show"), name, `${label} (${name})`);
  option($("underline"), "none", "nothing");
  option($("underline"), "surprisal", "surprisal");
  for (const name of facts.features) option($("underline"), name, name);

  for (const { name, label, sigmoid } of facts.values)
    $("values").insertAdjacentHTML("beforeend", `<span id="name-${name}">${label} (${name})</span><span class="track ${sigmoid ? "" : "signed"}" id="track-${name}"><i></i></span><output id="value-${name}"></output>`);
  for (let k = 0; k < facts.guesses; k++)
    $("guesses").insertAdjacentHTML("beforeend", `<span class="name" id="guess-${k}"></span><span class="track" id="guess-track-${k}"><i></i></span><output id="guess-prob-${k}"></output>`);
  for (const name of Object.keys(facts.open))
    $("scatters").insertAdjacentHTML("beforeend", `<div><h3>${valueOf[name].label}</h3><canvas id="scatter-${name}" tabindex="0" role="application" aria-roledescription="scatter plot" aria-label="${valueOf[name].label}: fraction of the time shut against fraction of the time open, a dot a unit. Left and right choose a unit." aria-describedby="fraction-${name}"></canvas><div class="soft" id="fraction-${name}"></div></div>`);
  for (const { label, name, meaning } of facts.values)
    $("meanings").insertAdjacentHTML("beforeend", `<div><dt>${label} (${name})</dt><dd>${meaning}</dd></div>`);
  $("gates-do").textContent = Object.keys(facts.open).length
    ? "Its gates, numbers from 0 (shut) to 1 (open), decide at every character what becomes of its state:"
    : "At every character it takes a new state:";
  if (!Object.keys(facts.open).length) $("scatters").textContent = "A simple recurrent cell has no gates.";

  const newlines = new Set(facts.newlines), text = $("text"), escaped = { "&": "&amp;", "<": "&lt;", ">": "&gt;" };
  const pieces = new Array(T);
  lineOf = new Uint32Array(T);
  lineStart = new Uint32Array(T);
  for (let t = 0; t < T; t++) {
    if (t) [lineOf[t], lineStart[t]] = newlines.has(t - 1) ? [lineOf[t - 1] + 1, t] : [lineOf[t - 1], lineStart[t - 1]];
    const glyph = symbol(t).replace(/[&<>]/g, character => escaped[character]);
    pieces[t] = newlines.has(t) ? `<span class="end">${glyph}</span>\n` : `<span>${glyph}</span>`;
  }
  text.innerHTML = pieces.join("");
  spans = [...text.children];
  spans.forEach((span, t) => span.t = t);
  buildCorrelated();
}

async function start() {
  const [ids, surprisal, guessIds, guessProbs, features] = await Promise.all(["ids", "surprisal", "guess-ids", "guess-probs", "features"].map(unpack));
  Object.assign(data, { ids: new Uint32Array(ids), surprisal: new Float32Array(surprisal), guessIds: new Uint32Array(guessIds),
    guessProbs: new Float32Array(guessProbs), features: new Uint8Array(features) });
  build();
  readPalettes();
  wire();
  const best = facts.correlated_units.find(found => found.beyond_chance);
  Object.assign(pick, best && { layer: best.layer, unit: best.unit, underline: best.feature }, recall());
  await loadLayer();
  if (!("at" in recall())) pick.at = tellingPlace();
  await choose({});
  draw(...everything);
  $("text").scrollTop = spans[pick.at].offsetTop - $("text").clientHeight * .3;
  $("text").focus({ preventScroll: true });
  requestAnimationFrame(() => document.documentElement.dataset.ready = "yes");
}
start();

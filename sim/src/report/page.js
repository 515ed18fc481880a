'use strict';
(() => {
const D = JSON.parse(document.getElementById('data').textContent);
const $ = id => document.getElementById(id);
const root = document.documentElement;
const N = D.nodes.length, END = Math.max(D.end, 1000);
// More arrows than this in one picture are a smear: then every n-th is drawn.
const ARROWS_MAX = 5000, ROW = 20;
const KNOWN = { push: '#1e88e5', step: '#00897b', 'step-end': '#26a69a', 'step-done': '#80cbc4', pull: '#8e24aa', durable: '#7cb342',
  table: '#b0a08a', ping: '#9aa5b1', pong: '#b9c2cb', refuse: '#e53935', sync: '#5e35b1' };
const QUIET = ['ping', 'pong', 'table', 'ping-req', 'ack', 'gossip', 'unknown'];
const FAULTS = ['crash', 'start', 'pause', 'resume', 'left', 'disk', 'clock', 'links', 'broken', 'agree', 'phase'];
const view = { from: 0, to: END, key: -1, text: '', off: new Set(), nodesOff: new Set(), pick: null, hover: null, nth: -1 };
const escape = text => String(text).replace(/[&<>"]/g, c => ({ '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' }[c]));
// Values of a kilobyte say nothing after their first few letters.
const short = text => text.replace(/(\S{28})\S{12,}/g, '$1…');
const name = key => D.keys[key].length > 44 ? D.keys[key].slice(0, 40) + '…' : D.keys[key];
const seconds = t => (t / 1e6).toFixed(3) + 's';
const css = name => getComputedStyle(root).getPropertyValue(name).trim();
const below = (list, t, at = x => x[0]) => { let a = 0, b = list.length; while (a < b) { const m = (a + b) >> 1; if (at(list[m]) < t) a = m + 1; else b = m; } return a; };
const hue = h => `hsl(${(h * 137.508) % 360} ${52 + h % 3 * 12}% ${root.dataset.theme === 'dark' ? 46 + h % 4 * 5 : 52 + h % 4 * 5}%)`;
const kindColour = kind => { const name = D.kinds[kind]; if (KNOWN[name]) return KNOWN[name]; let h = 7; for (const c of name) h = (h * 31 + c.charCodeAt(0)) & 0xffff; return `hsl(${h % 360} 55% 50%)`; };
const millis = ms => (ms < 0 ? '−' : '+') + (Math.abs(ms) >= 1000 ? +(Math.abs(ms) / 1000).toFixed(2) + 's' : Math.abs(ms) + 'ms');

// What there is to know about each node, as lists of [from, to, what].
const lives = D.nodes.map(() => []), roots = D.nodes.map(() => []), offsets = D.nodes.map(() => []);
{
  const open = D.nodes.map(() => null);
  const close = (n, t) => { if (open[n]) { lives[n].push([open[n][0], t, open[n][1]]); open[n] = null; } };
  for (const [t, n, what] of D.events) {
    if (n < 0) continue;
    const next = { start: 'up', resume: 'up', pause: 'paused', crash: '', left: '' }[what];
    if (next === undefined) continue;
    close(n, t);
    if (next) open[n] = [t, next];
  }
  D.nodes.forEach((_, n) => close(n, END));
  for (const [t, n, r] of D.roots) roots[n].push([t, r]);
  for (const [t, n, ms] of D.offsets) offsets[n].push([t, ms]);
}
const powerAt = (n, t) => { for (const [a, b, what] of lives[n]) if (a <= t && t < b) return what; return ''; };
// Which nodes reach each other, from when to when.
const bands = [];
D.cuts.forEach(([t, cut], i) => {
  if (!cut.length) return;
  const to = i + 1 < D.cuts.length ? D.cuts[i + 1][0] : END, set = new Set(cut), group = D.nodes.map((_, n) => n);
  const find = n => group[n] === n ? n : find(group[n]);
  for (let a = 0; a < N; a++) for (let b = a + 1; b < N; b++) if (!set.has(a * N + b) && !set.has(b * N + a)) group[find(b)] = find(a);
  const order = []; const side = D.nodes.map((_, n) => { const g = find(n); if (!order.includes(g)) order.push(g); return order.indexOf(g); });
  bands.push([t, to, order.length > 1 ? side : null, cut]);
});
const version = v => { const [stamp, dot, value, dead] = D.versions[v]; return (dead ? 'deleted' : value) + `  @${stamp}  ${dot}`; };
const brief = vs => !vs.length ? 'nothing' : vs.map(v => D.versions[v][3] ? '✝ deleted' : short(D.versions[v][2])).join(' ‖ ');
const longest = D.messages.reduce((most, m) => Math.max(most, m[5] - m[0], m[6] - m[0]), 0);
const flights = D.messages.filter(m => m[5] >= 0).map(m => m[5] - m[0]).sort((a, b) => a - b);
const usual = flights.length ? flights[flights.length >> 1] : 10000;

// Everything that can stand in the list, in order of time.
const items = [];
D.events.forEach((e, i) => items.push({ t: e[0], n: e[1], type: 'event', i }));
D.asks.forEach((a, i) => items.push({ t: a[0], n: a[1], type: 'ask', i }));
D.messages.forEach((m, i) => items.push({ t: m[0], n: m[1], type: 'message', i }));
D.holds.forEach((h, i) => items.push({ t: h[0], n: h[1], type: 'hold', i }));
const RANK = { event: 0, ask: 1, hold: 2, message: 3 };
items.sort((a, b) => a.t - b.t || RANK[a.type] - RANK[b.type] || a.i - b.i);
const answer = a => a[5] < 0 ? 'nobody answered' : `${a[6]} after ${((a[5] - a[0]) / 1000).toFixed(1)} ms${a[7] && !/^status \d+$/.test(a[7]) ? ': ' + a[7].replace(/^status \d+: /, '') : ''}`;
const fate = m => D.fates[m[7]];
function words(item) {
  switch (item.type) {
    case 'event': { const e = D.events[item.i]; return (e[2] === 'broken' ? 'BROKEN ' : '') + short(e[3]); }
    case 'ask': { const a = D.asks[item.i]; return `client ${a[2]}${a[3] >= 0 ? ' ' + name(a[3]) : ''}${a[4] ? ' = ' + short(a[4]) : ''} → ${short(answer(a))}`; }
    case 'hold': { const h = D.holds[item.i]; return `holds ${name(h[2])}: ${brief(h[3])}`; }
    default: { const m = D.messages[item.i]; const keys = m[8].map(name);
      return `${D.kinds[m[3]]} → ${D.nodes[m[2]]}${keys.length ? ' ' + keys.slice(0, 4).join(' ') + (keys.length > 4 ? ` +${keys.length - 4}` : '') : ''}${m[7] ? '  × ' + fate(m) : ''}`; }
  }
}
function whole(item) {
  const lines = [`${seconds(item.t)}   ${item.n >= 0 ? D.nodes[item.n] : 'everywhere'}`, words(item)];
  if (item.type === 'message') {
    const m = D.messages[item.i];
    lines.push('', `from   ${D.nodes[m[1]]} to ${D.nodes[m[2]]}`, `size   ${m[4]} bytes`);
    if (m[5] >= 0) lines.push(`there  ${seconds(m[5])}, ${((m[5] - m[0]) / 1000).toFixed(2)} ms later: ${fate(m)}`); else lines.push(`fate   ${fate(m)}`);
    if (m[6] >= 0) lines.push(`again  ${seconds(m[6])}: the network brought it twice`);
    if (m[8].length) lines.push('', 'keys   ' + m[8].map(k => D.keys[k]).join(' '));
  } else if (item.type === 'ask') {
    const a = D.asks[item.i];
    lines.push('', `asked  ${D.nodes[a[1]]}: ${a[2]}${a[3] >= 0 ? ' ' + D.keys[a[3]] : ''}`); if (a[4]) lines.push(`value  ${a[4]}`); lines.push(`answer ${answer(a)}`);
  } else if (item.type === 'event') {
    lines.splice(1, 1, '', D.events[item.i][3]);
  } else if (item.type === 'hold') {
    lines.push('', ...D.holds[item.i][3].map(version));
  }
  return lines.join('\n');
}
const keyOf = item => item.type === 'ask' ? D.asks[item.i][3] : item.type === 'hold' ? D.holds[item.i][2] : item.type === 'event' ? D.events[item.i][4] : -1;
function passes(item) {
  if (item.type === 'message') {
    const m = D.messages[item.i];
    if (view.off.has(m[3]) || view.nodesOff.has(m[1]) || view.nodesOff.has(m[2])) return false;
    if (view.key >= 0 && !m[8].includes(view.key)) return false;
  } else {
    if (item.n >= 0 && view.nodesOff.has(item.n)) return false;
    const key = keyOf(item);
    if (view.key >= 0 ? key >= 0 && key !== view.key : item.type === 'hold') return false;
    if (view.key >= 0 && key < 0 && (item.type === 'ask' || D.events[item.i][2] === 'log')) return false;
  }
  return !view.text || words(item).toLowerCase().includes(view.text);
}
let shown = [];
function refilter() { shown = items.filter(passes); $('spacer').style.height = shown.length * ROW + 'px'; redraw(); }

// Layout, in CSS pixels.
const AXIS = 42, APART = 62, CAP = 18;
let wide = 0, lanes = [], laneHigh = 80, bottom = 0, keyTop = 0, high = 0, drawn = [];
function layout() {
  lanes = D.nodes.map((_, n) => n).filter(n => !view.nodesOff.has(n));
  laneHigh = lanes.length <= 3 ? 96 : lanes.length <= 5 ? 72 : lanes.length <= 10 ? 48 : 30;
  bottom = AXIS + lanes.length * laneHigh;
  keyTop = bottom + APART;
  high = keyTop + (view.key >= 0 ? CAP + lanes.length * 24 + 8 : 0);
}
const laneY = n => AXIS + (lanes.indexOf(n) + .5) * laneHigh;
const X = t => (t - view.from) / (view.to - view.from) * wide;
const T = x => view.from + x / wide * (view.to - view.from);

function canvas(element, height) {
  const ratio = window.devicePixelRatio || 1, width = element.clientWidth;
  if (element.width !== Math.round(width * ratio) || element.height !== Math.round(height * ratio)) {
    element.width = Math.round(width * ratio); element.height = Math.round(height * ratio); element.style.height = height + 'px';
  }
  const pen = element.getContext('2d'); pen.setTransform(ratio, 0, 0, ratio, 0, 0); pen.clearRect(0, 0, width, height);
  pen.font = '11px system-ui, sans-serif'; pen.textBaseline = 'middle';
  return [pen, width];
}
let waiting = false;
function redraw() { if (!waiting) { waiting = true; requestAnimationFrame(() => { waiting = false; paint(); }); } }

function paint() {
  const began = performance.now(); layout(); labels();
  const [pen, width] = canvas($('chart'), high); wide = width; drawn = [];
  const ink = { text: css('--ink'), dim: css('--dim'), line: css('--line'), bad: css('--bad'), good: css('--good'), panel: css('--panel'), stop: css('--stop'), cuts: [0, 1, 2, 3].map(i => css('--cut' + i)) };
  paintBands(pen, ink); paintAxis(pen, ink);
  const note = paintMessages(pen, ink);
  for (const n of lanes) paintLane(pen, ink, n);
  paintMarks(pen, ink); paintApart(pen, ink);
  if (view.key >= 0) paintKey(pen, ink);
  paintBroken(pen, ink); paintPick(pen, ink); paintMap(ink); list();
  $('note').textContent = note; root.dataset.paint = (performance.now() - began).toFixed(1); root.dataset.arrows = drawn.filter(d => d.item.type === 'message').length;
  try { history.replaceState(null, '', `#from=${(view.from / 1e6).toFixed(3)}&to=${(view.to / 1e6).toFixed(3)}${view.key >= 0 ? '&key=' + encodeURIComponent(D.keys[view.key]) : ''}`); } catch (_) { /* a page that was embedded */ }
}
function paintBands(pen, ink) {
  for (const [a, b, side] of bands) {
    if (b < view.from || a > view.to) continue;
    const x = Math.max(0, X(a)), w = Math.min(wide, X(b)) - x;
    for (const n of lanes) {
      pen.fillStyle = side ? ink.cuts[side[n] % 4] : ink.cuts[1];
      pen.fillRect(x, laneY(n) - laneHigh / 2, w, laneHigh);
    }
    pen.strokeStyle = ink.line; pen.strokeRect(x, AXIS, w, lanes.length * laneHigh);
  }
}
function paintAxis(pen, ink) {
  const span = view.to - view.from, rough = span / Math.max(2, wide / 110), power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map(x => x * power).find(x => x >= rough);
  pen.textAlign = 'center';
  for (let t = Math.ceil(view.from / step) * step; t <= view.to; t += step) {
    pen.strokeStyle = ink.line; pen.globalAlpha = .6; pen.beginPath(); pen.moveTo(X(t), 20); pen.lineTo(X(t), high); pen.stroke(); pen.globalAlpha = 1;
    pen.fillStyle = ink.dim; pen.fillText(step < 1e3 ? t + 'µs' : step < 1e6 ? +(t / 1e3).toFixed(1) + 'ms' : t / 1e6 + 's', Math.min(wide - 16, Math.max(14, X(t))), 10);
  }
  pen.textAlign = 'left';
  const deeds = D.events.filter(e => e[2] === 'links' || e[2] === 'phase'); let free = -1e9, freePhase = -1e9;
  for (const e of deeds) {
    const x = X(e[0]); if (x < -400 || x > wide) continue;
    const phase = e[2] === 'phase', y = phase ? 24 : 35;
    pen.strokeStyle = phase ? ink.dim : ink.stop; pen.setLineDash([2, 3]); pen.beginPath(); pen.moveTo(x, y); pen.lineTo(x, bottom); pen.stroke(); pen.setLineDash([]);
    if (x < (phase ? freePhase : free)) continue;
    pen.fillStyle = phase ? ink.dim : ink.stop; pen.fillText(e[3], x + 3, y);
    const end = x + pen.measureText(e[3]).width + 8; if (phase) freePhase = end; else free = end;
  }
}
function paintMessages(pen, ink) {
  const first = below(D.messages, view.from - longest), end = below(D.messages, view.to), seen = [];
  for (let i = first; i < end; i++) {
    const m = D.messages[i];
    if (Math.max(m[5], m[6], m[0] + usual) < view.from || view.off.has(m[3]) || view.nodesOff.has(m[1]) || view.nodesOff.has(m[2])) continue;
    seen.push(i);
  }
  const about = view.key >= 0 ? seen.filter(i => D.messages[i][8].includes(view.key)) : [], rest = view.key >= 0 ? seen.filter(i => !D.messages[i][8].includes(view.key)) : seen;
  const stride = Math.max(1, Math.ceil(rest.length / (view.key >= 0 ? ARROWS_MAX / 5 : ARROWS_MAX)));
  const crowd = rest.length / stride, dim = view.key >= 0 ? .10 : crowd > 1500 ? .28 : crowd > 400 ? .5 : .85;
  for (let j = 0; j < rest.length; j += stride) arrow(pen, ink, rest[j], dim, 1, crowd < 900);
  about.slice(0, ARROWS_MAX).forEach(i => arrow(pen, ink, i, 1, 1.8, true));
  pen.globalAlpha = 1;
  const hidden = [...view.off].map(k => D.kinds[k]);
  return [stride > 1 ? `${rest.length} messages in view, one in ${stride} drawn: zoom in for the others` : `${seen.length} messages in view`,
    hidden.length ? `not drawn: ${hidden.join(', ')}` : '', D.left_out ? `the run had ${D.left_out} more events than a page can hold; trace.jsonl has them all` : ''].filter(Boolean).join(' · ');
}
function arrow(pen, ink, i, alpha, thick, heads) {
  const m = D.messages[i], y1 = laneY(m[1]), y2 = laneY(m[2]), x1 = X(m[0]);
  pen.strokeStyle = pen.fillStyle = kindColour(m[3]); pen.lineWidth = thick; pen.globalAlpha = alpha;
  const lost = m[7] !== 0, copies = [m[5], m[6]].filter(t => t >= 0);
  if (!copies.length) copies.push(-1);
  copies.forEach((there, copy) => {
    let x2 = X(there >= 0 ? there : m[0] + usual), yEnd = y2;
    if (there < 0) { x2 = x1 + (x2 - x1) * .6; yEnd = y1 + (y2 - y1) * .6; } else yEnd = y2 + (y2 > y1 ? -7 : 7);
    const yStart = y1 + (y2 > y1 ? 7 : -7);
    pen.setLineDash(lost || copy ? [4, 3] : []); pen.beginPath(); pen.moveTo(x1, yStart); pen.lineTo(x2, yEnd); pen.stroke(); pen.setLineDash([]);
    if (lost && !copy) {
      pen.globalAlpha = Math.min(1, alpha * 1.5); pen.strokeStyle = ink.bad; pen.lineWidth = heads ? 1.6 : 1; const s = heads ? 3.5 : 2.5;
      pen.beginPath(); pen.moveTo(x2 - s, yEnd - s); pen.lineTo(x2 + s, yEnd + s); pen.moveTo(x2 + s, yEnd - s); pen.lineTo(x2 - s, yEnd + s); pen.stroke();
      pen.strokeStyle = kindColour(m[3]); pen.lineWidth = thick; pen.globalAlpha = alpha;
    } else if (heads) {
      const angle = Math.atan2(yEnd - yStart, x2 - x1), s = 4.5 + thick;
      pen.beginPath(); pen.moveTo(x2, yEnd); pen.lineTo(x2 - s * Math.cos(angle - .35), yEnd - s * Math.sin(angle - .35)); pen.lineTo(x2 - s * Math.cos(angle + .35), yEnd - s * Math.sin(angle + .35)); pen.fill();
    }
    drawn.push({ item: { type: 'message', i, t: m[0], n: m[1] }, line: [x1, yStart, x2, yEnd], weak: alpha < .2 });
  });
}
function segments(list, from, to) {
  const out = []; let i = Math.max(0, below(list, from) - 1);
  for (; i < list.length && list[i][0] <= to; i++) out.push([list[i][0], i + 1 < list.length ? list[i + 1][0] : END, list[i][1]]);
  return out;
}
function paintLane(pen, ink, n) {
  const y = laneY(n), h = 11;
  pen.strokeStyle = ink.line; pen.setLineDash([1, 4]); pen.beginPath(); pen.moveTo(0, y); pen.lineTo(wide, y); pen.stroke(); pen.setLineDash([]);
  for (const [a, b, what] of lives[n]) {
    if (b < view.from || a > view.to) continue;
    for (const [ra, rb, colour] of segments(roots[n].length ? [[0, 0], ...roots[n]] : [[0, 0]], Math.max(a, view.from), Math.min(b, view.to))) {
      const x = Math.max(-2, X(Math.max(a, ra))), w = Math.min(wide + 2, X(Math.min(b, rb))) - x;
      if (w <= 0) continue;
      pen.fillStyle = colour ? hue(colour) : ink.panel; pen.fillRect(x, y - h / 2, Math.max(w, .6), h);
    }
    const x = Math.max(-2, X(a)), w = Math.min(wide + 2, X(b)) - x;
    pen.strokeStyle = ink.dim; pen.globalAlpha = .7; pen.strokeRect(x, y - h / 2, w, h); pen.globalAlpha = 1;
    if (what === 'paused') {
      pen.save(); pen.beginPath(); pen.rect(x, y - h / 2, w, h); pen.clip(); pen.strokeStyle = ink.text; pen.globalAlpha = .55; pen.beginPath();
      for (let s = x - h; s < x + w; s += 6) { pen.moveTo(s, y + h / 2); pen.lineTo(s + h, y - h / 2); } pen.stroke(); pen.restore();
    }
  }
  pen.font = '10px system-ui, sans-serif'; let free = -1e9, said = null;
  for (const [a, b, ms] of segments(offsets[n], view.from, view.to)) {
    if (Math.abs(ms) >= 500) { pen.strokeStyle = ink.stop; pen.lineWidth = 2; pen.beginPath(); pen.moveTo(Math.max(0, X(a)), y - h / 2 - 3); pen.lineTo(Math.min(wide, X(b)), y - h / 2 - 3); pen.stroke(); pen.lineWidth = 1; }
    const x = Math.max(2, X(a) + 2);
    if (x > free && (said === null ? Math.abs(ms) >= 20 : Math.abs(ms - said) >= Math.max(100, Math.abs(said) * .2))) { pen.fillStyle = ink.stop; const text = 'clock ' + millis(ms); pen.fillText(text, x, y - h / 2 - 10); free = x + pen.measureText(text).width + 24; said = ms; }
  }
  pen.font = '11px system-ui, sans-serif';
}
const GLYPH = { crash: '×', start: '▸', left: '◂', pause: '‖', resume: '▸', disk: 'D', clock: 'C' };
function paintMarks(pen, ink) {
  pen.textAlign = 'center';
  for (const item of shown.slice(below(shown, view.from - 5e6, x => x.t), below(shown, view.to, x => x.t))) {
    if (item.n < 0 || item.type === 'message' || item.type === 'hold') continue;
    const x = X(item.t), y = laneY(item.n);
    if (x < -5) continue;
    if (item.type === 'ask') {
      const a = D.asks[item.i], open = a[5] < 0 || a[6] >= 400 && a[6] !== 404, my = y + 13;
      pen.strokeStyle = pen.fillStyle = a[2] === 'delete' ? ink.bad : a[2] === 'get' ? ink.dim : ink.text; pen.beginPath();
      if (a[2] === 'get') pen.arc(x, my, 2.6, 0, 7); else if (a[2] === 'delete') { pen.moveTo(x - 4, my - 3); pen.lineTo(x + 4, my - 3); pen.lineTo(x, my + 4); pen.closePath(); } else { pen.moveTo(x - 4, my + 3); pen.lineTo(x + 4, my + 3); pen.lineTo(x, my - 4); pen.closePath(); }
      if (open) pen.stroke(); else pen.fill();
      drawn.push({ item, spot: [x, my] });
    } else if (GLYPH[D.events[item.i][2]]) {
      const what = D.events[item.i][2]; pen.fillStyle = what === 'crash' ? ink.bad : ink.text; pen.font = (what === 'crash' ? 'bold 17px' : 'bold 10px') + ' system-ui, sans-serif';
      if (what === 'disk' || what === 'clock') { pen.fillStyle = ink.panel; pen.strokeStyle = ink.text; pen.beginPath(); pen.arc(x, y, 6.5, 0, 7); pen.fill(); pen.stroke(); pen.fillStyle = ink.text; }
      pen.fillText(GLYPH[what], x, y + .5); pen.font = '11px system-ui, sans-serif';
      drawn.push({ item, spot: [x, y] });
    }
  }
  pen.textAlign = 'left';
}
function paintApart(pen, ink) {
  const top = bottom + 16, base = bottom + APART - 8, most = Math.max(1, ...D.apart.map(a => a[1]));
  pen.strokeStyle = ink.line; pen.beginPath(); pen.moveTo(0, bottom + .5); pen.lineTo(wide, bottom + .5); pen.moveTo(0, keyTop + .5); pen.lineTo(wide, keyTop + .5); pen.stroke();
  const Y = c => base - c / most * (base - top);
  for (const [a, b, count] of segments(D.apart, view.from, view.to)) {
    const x = Math.max(0, X(a)), w = Math.max(.7, Math.min(wide, X(b)) - x);
    pen.fillStyle = count ? ink.bad : ink.good; pen.globalAlpha = count ? .75 : .8;
    pen.fillRect(x, count ? Y(count) : base - 2, w, count ? base - Y(count) : 2);
  }
  pen.globalAlpha = 1;
}
function holdings(key, n) {
  const list = [];
  for (const h of D.holds) if (h[1] === n && h[2] === key) list.push([h[0], h[3]]);
  return list;
}
function paintKey(pen, ink) {
  lanes.forEach((n, row) => {
    const y = keyTop + CAP + row * 24, list = holdings(view.key, n);
    pen.strokeStyle = ink.line; pen.strokeRect(-1, y + 1, wide + 2, 20);
    for (const [a, b, vs] of segments(list, view.from, view.to)) {
      if (!vs.length) continue;
      const x = Math.max(-2, X(a)), w = Math.min(wide + 2, X(b)) - x, dead = vs.every(v => D.versions[v][3]);
      pen.fillStyle = hue(vs.reduce((sum, v) => sum + v + 1, 0)); pen.globalAlpha = dead ? .22 : .55; pen.fillRect(x, y + 2, Math.max(w, 1.5), 18); pen.globalAlpha = 1;
      pen.strokeStyle = ink.dim; pen.strokeRect(x, y + 2, Math.max(w, 1.5), 18);
      if (w > 14) { pen.save(); pen.beginPath(); pen.rect(x, y, w, 22); pen.clip(); pen.fillStyle = ink.text; pen.fillText(brief(vs), Math.max(x, 0) + 4, y + 11); pen.restore(); }
      const at = below(D.holds, a); for (let i = at; i < D.holds.length && D.holds[i][0] === a; i++) if (D.holds[i][1] === n && D.holds[i][2] === view.key) { drawn.push({ item: { type: 'hold', i, t: a, n }, box: [x, y, w, 22] }); break; }
    }
    for (const [a, b, what] of [...gaps(n)]) { if (b < view.from || a > view.to) continue; const x = Math.max(0, X(a)), w = Math.min(wide, X(b)) - x; pen.fillStyle = ink.panel; pen.globalAlpha = .72; pen.fillRect(x, y + 2, w, 18); pen.globalAlpha = 1; pen.strokeStyle = ink.bad; pen.setLineDash([3, 3]); pen.beginPath(); pen.moveTo(x, y + 11); pen.lineTo(x + w, y + 11); pen.stroke(); pen.setLineDash([]); }
  });
}
function* gaps(n) { for (let i = 0; i + 1 < lives[n].length; i++) if (lives[n][i + 1][0] > lives[n][i][1]) yield [lives[n][i][1], lives[n][i + 1][0]]; const last = lives[n][lives[n].length - 1]; if (last && last[1] < END) yield [last[1], END]; }
function paintBroken(pen, ink) {
  D.violations.forEach((v, i) => {
    const x = X(v.at); if (x < -20 || x > wide + 20) return;
    pen.strokeStyle = pen.fillStyle = ink.bad; pen.lineWidth = i === view.nth ? 2.5 : 1; pen.globalAlpha = i === view.nth ? 1 : .45; pen.beginPath(); pen.moveTo(x, 16); pen.lineTo(x, high); pen.stroke(); pen.globalAlpha = 1; pen.lineWidth = 1;
    if (v.node >= 0 && lanes.includes(v.node)) { pen.beginPath(); pen.arc(x, laneY(v.node), 9, 0, 7); pen.lineWidth = 2.5; pen.stroke(); pen.lineWidth = 1; }
    if (i === view.nth || view.nth < 0 && i === 0) { pen.font = 'bold 12px system-ui, sans-serif'; const text = '✗ ' + v.code, room = pen.measureText(text).width; pen.fillText(text, Math.min(wide - room - 2, x + 4), bottom + 8); pen.font = '11px system-ui, sans-serif'; }
  });
}
function paintPick(pen, ink) {
  for (const item of [view.hover, view.pick]) {
    if (!item) continue;
    const found = drawn.find(d => d.item.type === item.type && d.item.i === item.i); pen.strokeStyle = css('--mark'); pen.lineWidth = 2.5;
    if (!found) { pen.globalAlpha = .6; pen.lineWidth = 1; pen.beginPath(); pen.moveTo(X(item.t), AXIS); pen.lineTo(X(item.t), high); pen.stroke(); pen.globalAlpha = 1; continue; }
    pen.beginPath();
    if (found.line) { pen.moveTo(found.line[0], found.line[1]); pen.lineTo(found.line[2], found.line[3]); } else if (found.spot) pen.arc(...found.spot, 8, 0, 7); else pen.rect(...found.box);
    pen.stroke(); pen.lineWidth = 1;
  }
  if (view.drag && view.drag.zoom) { pen.fillStyle = css('--mark'); pen.globalAlpha = .18; pen.fillRect(Math.min(view.drag.x, view.drag.now), AXIS, Math.abs(view.drag.now - view.drag.x), high - AXIS); pen.globalAlpha = 1; }
}
let mapPicture = null;
function paintMap(ink) {
  const [pen, width] = canvas($('map'), 34), x = t => t / END * width;
  const bins = Math.max(1, Math.floor(width / 2));
  if (!mapPicture || mapPicture.bins !== bins) {
    const count = new Float64Array(bins); D.messages.forEach(m => { if (m[8].length || !QUIET.includes(D.kinds[m[3]])) count[Math.min(bins - 1, Math.floor(m[0] / END * bins))]++; });
    mapPicture = { bins, count, most: Math.max(1, ...count) };
  }
  for (const [a, b] of bands) { pen.fillStyle = ink.cuts[1]; pen.fillRect(x(a), 0, Math.max(1, x(b) - x(a)), 34); }
  pen.fillStyle = ink.dim; mapPicture.count.forEach((c, i) => { if (c) { const h = Math.max(1.5, Math.sqrt(c / mapPicture.most) * 20); pen.fillRect(i * width / bins, 26 - h, Math.max(1, width / bins - .5), h); } });
  for (const [a, b, count] of segments(D.apart, 0, END)) { pen.fillStyle = count ? ink.bad : ink.good; pen.fillRect(x(a), 28, Math.max(.6, x(b) - x(a)), 4); }
  for (const e of D.events) if (e[2] === 'crash') { pen.fillStyle = ink.bad; pen.fillRect(x(e[0]) - .5, 0, 1.5, 6); }
  D.violations.forEach(v => { pen.fillStyle = ink.bad; pen.fillRect(x(v.at) - 1, 0, 2.5, 34); });
  pen.strokeStyle = css('--mark'); pen.lineWidth = 2; pen.strokeRect(Math.max(1, x(view.from)), 1, Math.max(3, Math.min(width - 1, x(view.to)) - Math.max(1, x(view.from))), 32); pen.lineWidth = 1;
}
function labels() {
  const box = $('lanes'); box.style.height = high + 'px';
  const parts = [], at = (top, name, html, more = '') => parts.push(`<div class="${name}" style="top:${top}px" ${more}>${html}</div>`);
  at(4, 'cap', 'time'); at(27, 'cap', 'links, phases');
  D.nodes.forEach((name, n) => { if (!view.nodesOff.has(n)) at(laneY(n) - 15, 'lane', `${escape(name)}<small>${laneHigh < 40 ? '' : escape(D.states[n] || '')}</small>`, `data-node="${n}" title="Hide ${escape(name)}"`); });
  at(bottom + 8, 'cap', `keys that<br>differ (≤ ${Math.max(0, ...D.apart.map(a => a[1]))})`);
  if (view.key >= 0) { at(keyTop + 1, 'cap', `<b title="${escape(D.keys[view.key])}">${escape(name(view.key))}</b>`); lanes.forEach((n, row) => at(keyTop + CAP + row * 24 + 3, 'cap', `on ${escape(D.nodes[n])}`)); }
  if (view.nodesOff.size) at(AXIS - 6, 'cap', '<button id="nodes-on">all nodes</button>');
  box.innerHTML = parts.join('');
}

// The list: only the rows in sight exist.
function list() {
  const rows = $('rows'), scroll = rows.scrollTop, first = Math.max(0, Math.floor(scroll / ROW) - 4), end = Math.min(shown.length, first + Math.ceil(rows.clientHeight / ROW) + 8);
  rows.querySelector('table').style.top = first * ROW + 'px';
  $('list').innerHTML = shown.slice(first, end).map((item, i) => {
    const what = item.type === 'event' ? D.events[item.i][2] : item.type, same = view.pick && view.pick.type === item.type && view.pick.i === item.i;
    const tone = what === 'broken' ? 'bad' : FAULTS.includes(what) ? 'fault' : item.type === 'message' ? 'dim' : '';
    return `<tr data-i="${first + i}" class="${same ? 'on' : ''}"><td class="t">${seconds(item.t)}</td><td><b>${item.n >= 0 ? escape(D.nodes[item.n]) : ''}</b></td><td class="${tone}">${escape(words(item))}</td></tr>`;
  }).join('');
  $('count').textContent = `${shown.length} of ${items.length}${view.key >= 0 ? ', about ' + name(view.key) : ''}`;
}
function scrollTo(item) { const i = shown.findIndex(s => s.type === item.type && s.i === item.i); if (i >= 0) $('rows').scrollTop = Math.max(0, i * ROW - $('rows').clientHeight / 2); }
function pick(item, center) {
  view.pick = item; $('detail').textContent = item ? whole(item) : '';
  if (item && center && (item.t < view.from || item.t > view.to)) { const half = (view.to - view.from) / 2; show(item.t - half, item.t + half); }
  if (item) scrollTo(item);
  redraw();
}
function show(from, to) {
  let span = Math.max(200, Math.min(END * 1.02, to - from)); from = Math.max(-END * .01, Math.min(END * 1.01 - span, from));
  view.from = from; view.to = from + span; redraw();
}
function zoom(factor, at = (view.from + view.to) / 2) { show(at - (at - view.from) * factor, at + (view.to - at) * factor); }
function setKey(key) { view.key = key; $('key').value = key >= 0 ? D.keys[key] : ''; refilter(); }
function violation(nth) {
  if (!D.violations.length) return;
  view.nth = nth % D.violations.length; const v = D.violations[view.nth];
  document.querySelectorAll('#verdict tr').forEach((tr, i) => tr.classList.toggle('on', i === view.nth));
  setKey(v.key); let from = v.at - 4e6;
  if (v.key >= 0) { const touches = [...D.asks.filter(a => a[3] === v.key && a[0] <= v.at).map(a => a[0]), ...D.holds.filter(h => h[2] === v.key && h[0] <= v.at).map(h => h[0])]; if (touches.length) from = Math.min(...touches); }
  const pad = Math.max(3e5, (v.at - from) * .06); show(from - pad, v.at + pad);
  const i = D.events.findIndex(e => e[2] === 'broken' && e[0] === v.at && e[3].includes(v.text)); if (i >= 0) pick({ type: 'event', i, t: v.at, n: v.node }, false);
}

// The frame around it.
document.title = `${D.verdict} ${D.scenario} seed ${D.seed}`;
$('badge').textContent = D.verdict.toUpperCase(); $('badge').className = D.verdict;
$('title').textContent = `${D.scenario} · seed ${D.seed} · ${D.world} world`;
$('facts').innerHTML = `${D.about ? `<p class="about">${escape(D.about)}</p>` : ''}${N} nodes · ${(D.end / 1e6).toFixed(1)} s lived · ${D.agreed >= 0 ? `agreed ${(D.agreed / 1000).toFixed(0)} ms after the faults` : 'never agreed'} · ${D.count} events · trace ${D.hash}`;
$('again').textContent = D.again;
$('verdict').innerHTML = D.violations.length ? `<table>${D.violations.slice(0, 12).map((v, i) => `<tr data-i="${i}"><td><b>${escape(v.code)}</b></td><td class="t">${seconds(v.at)}</td><td>${v.node >= 0 ? escape(D.nodes[v.node]) : ''}</td><td class="mono">${v.key >= 0 ? escape(name(v.key)) : ''}</td><td>${escape(short(v.text))}</td></tr>`).join('')}</table>${D.violations.length > 12 ? `<div class="more">and ${D.violations.length - 12} more in summary.json</div>` : ''}` : `<span class="ok">✓ ${D.verdict === 'stopped' ? 'Stopped before its end: no promise was broken so far.' : 'Every promise was kept.'}</span>`;
$('keys').innerHTML = D.keys.slice(0, 2000).map(k => `<option value="${escape(k)}">`).join('');
D.kinds.forEach((kind, k) => { if (QUIET.includes(kind)) view.off.add(k); });
function kinds() {
  const count = D.kinds.map(() => 0); D.messages.forEach(m => count[m[3]]++);
  $('kinds').innerHTML = D.kinds.map((kind, k) => `<span class="kind ${view.off.has(k) ? 'off' : ''}" data-k="${k}" role="button" tabindex="0" title="${count[k]} messages"><i style="background:${kindColour(k)}"></i>${escape(kind)}</span>`).join('');
}
kinds();

// Hands.
const chart = $('chart'), spot = event => { const box = chart.getBoundingClientRect(); return [event.clientX - box.left, event.clientY - box.top]; };
function near(x, y) {
  let best = null, least = 7;
  for (const d of drawn) {
    let far = 99;
    if (d.spot) far = Math.hypot(d.spot[0] - x, d.spot[1] - y) - 3;
    else if (d.box) far = x >= d.box[0] && x <= d.box[0] + d.box[2] && y >= d.box[1] && y <= d.box[1] + d.box[3] ? 3 : 99;
    else { const [a, b, c, e] = d.line, dx = c - a, dy = e - b, s = Math.max(0, Math.min(1, ((x - a) * dx + (y - b) * dy) / (dx * dx + dy * dy || 1))); far = Math.hypot(a + s * dx - x, b + s * dy - y) + (d.weak ? 4 : 0); }
    if (far < least) { least = far; best = d.item; }
  }
  return best;
}
chart.addEventListener('pointerdown', e => { const [x] = spot(e); view.drag = { x, now: x, from: view.from, to: view.to, zoom: e.shiftKey, moved: false }; chart.setPointerCapture(e.pointerId); });
chart.addEventListener('pointermove', e => {
  const [x, y] = spot(e);
  if (view.drag) {
    view.drag.now = x; view.drag.moved = view.drag.moved || Math.abs(x - view.drag.x) > 3;
    if (!view.drag.zoom && view.drag.moved) { const by = (view.drag.x - x) / wide * (view.drag.to - view.drag.from); show(view.drag.from + by, view.drag.to + by); } else redraw();
    return;
  }
  const item = near(x, y), was = view.hover;
  if (item !== was && (!item || !was || item.i !== was.i || item.type !== was.type)) { view.hover = item; if (item || !view.pick) $('detail').textContent = item ? whole(item) : view.pick ? whole(view.pick) : ''; else $('detail').textContent = whole(view.pick); redraw(); }
});
chart.addEventListener('pointerup', e => {
  const drag = view.drag; view.drag = null; if (!drag) return;
  const [x, y] = spot(e);
  if (drag.zoom && drag.moved) { const a = T(Math.min(drag.x, x)), b = T(Math.max(drag.x, x)); show(a, b); } else if (!drag.moved) { const item = near(x, y); if (item) pick(item, false); else pick(null); }
});
chart.addEventListener('dblclick', e => { const item = near(...spot(e)); if (!item) return; const key = item.type === 'message' ? (D.messages[item.i][8][0] ?? -1) : keyOf(item); if (key >= 0) setKey(key); });
chart.addEventListener('wheel', e => { e.preventDefault(); const [x] = spot(e); if (Math.abs(e.deltaX) > Math.abs(e.deltaY)) { const by = e.deltaX / wide * (view.to - view.from); show(view.from + by, view.to + by); } else zoom(Math.exp(Math.max(-120, Math.min(120, e.deltaY)) * .003), T(x)); }, { passive: false });
const map = $('map'); let mapping = false;
const toMap = e => { const box = map.getBoundingClientRect(), t = (e.clientX - box.left) / box.width * END, half = (view.to - view.from) / 2; show(t - half, t + half); };
map.addEventListener('pointerdown', e => { mapping = true; map.setPointerCapture(e.pointerId); toMap(e); }); map.addEventListener('pointermove', e => { if (mapping) toMap(e); }); map.addEventListener('pointerup', () => { mapping = false; });
$('rows').addEventListener('scroll', list);
$('rows').addEventListener('click', e => { const row = e.target.closest('tr'); if (row) pick(shown[+row.dataset.i], true); });
$('verdict').addEventListener('click', e => { const row = e.target.closest('tr'); if (row) violation(+row.dataset.i); });
$('kinds').addEventListener('click', e => { const chip = e.target.closest('.kind'); if (!chip) return; const k = +chip.dataset.k; view.off.has(k) ? view.off.delete(k) : view.off.add(k); kinds(); refilter(); });
$('kinds').addEventListener('keydown', e => { if (e.key === 'Enter' || e.key === ' ') { e.preventDefault(); e.target.click(); } });
$('lanes').addEventListener('click', e => { if (e.target.closest('#nodes-on')) { view.nodesOff.clear(); refilter(); return; } const lane = e.target.closest('.lane'); if (lane && lanes.length > 1) { view.nodesOff.add(+lane.dataset.node); refilter(); } });
$('key').addEventListener('input', () => { view.key = D.keys.indexOf($('key').value); refilter(); });
$('find').addEventListener('input', () => { view.text = $('find').value.toLowerCase(); refilter(); });
$('copy').addEventListener('click', async () => { try { await navigator.clipboard.writeText(D.again); } catch (_) { const range = document.createRange(); range.selectNodeContents($('again')); getSelection().removeAllRanges(); getSelection().addRange(range); document.execCommand('copy'); } $('copy').textContent = 'copied'; setTimeout(() => { $('copy').textContent = 'copy'; }, 1200); });
$('in').addEventListener('click', () => zoom(.5)); $('out').addEventListener('click', () => zoom(2)); $('all').addEventListener('click', () => show(0, END));
$('focus').addEventListener('click', () => violation(view.nth + 1)); $('focus').hidden = !D.violations.length;
const theme = name => { root.dataset.theme = name; redraw(); };
$('theme').addEventListener('click', () => theme(root.dataset.theme === 'dark' ? 'light' : 'dark'));
$('help-open').addEventListener('click', () => { $('help').hidden = false; }); $('help').addEventListener('click', () => { $('help').hidden = true; });
function walk(by) {
  const notable = shown.filter(item => view.key >= 0 || item.type === 'event' && FAULTS.includes(D.events[item.i][2])); if (!notable.length) return;
  const here = view.pick ? notable.findIndex(item => item.type === view.pick.type && item.i === view.pick.i) : -1;
  pick(notable[(here + by + notable.length) % notable.length], true);
}
addEventListener('keydown', e => {
  if (e.target.matches('input')) { if (e.key === 'Escape') { e.target.blur(); } else return; }
  if (e.ctrlKey || e.metaKey || e.altKey) return;
  const span = view.to - view.from, keys = {
    ArrowLeft: () => show(view.from - span * .2, view.to - span * .2), ArrowRight: () => show(view.from + span * .2, view.to + span * .2),
    '+': () => zoom(.6), '=': () => zoom(.6), '-': () => zoom(1.67), 0: () => show(0, END), v: () => violation(view.nth + 1), n: () => walk(1), p: () => walk(-1),
    '/': () => $('key').focus(), t: () => $('theme').click(), '?': () => { $('help').hidden = !$('help').hidden; },
    Escape: () => { $('help').hidden = true; view.text = ''; $('find').value = ''; view.nth = -1; view.hover = null; $('detail').textContent = ''; view.pick = null; setKey(-1); },
  };
  if (keys[e.key]) { e.preventDefault(); keys[e.key](); }
});
addEventListener('resize', redraw);
const dark = matchMedia('(prefers-color-scheme: dark)'); root.dataset.theme = dark.matches ? 'dark' : 'light'; dark.addEventListener('change', () => theme(dark.matches ? 'dark' : 'light'));
const asked = new URLSearchParams(location.hash.slice(1)), number = name => parseFloat(asked.get(name));
refilter();
if (!Number.isNaN(number('from')) && !Number.isNaN(number('to'))) { if (asked.get('key')) setKey(D.keys.indexOf(asked.get('key'))); show(number('from') * 1e6, number('to') * 1e6); } else if (D.violations.length) violation(0);
if (asked.get('theme')) theme(asked.get('theme'));
paint(); root.dataset.ready = 'yes';
})();

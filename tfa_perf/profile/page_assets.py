"""Style and script of the flame graph page."""

from __future__ import annotations

NOTE = """Width is main-thread time in the measured steps, sampled; top frames are phases.
Click a frame to zoom, click the bar on top to go back."""
STYLE = """
:root{color-scheme:light dark;--ink:#14181f;--dim:#5b6472;--line:#d9dde3;--paper:#fff}
@media (prefers-color-scheme:dark){
:root{--ink:#e8ebf0;--dim:#a2abb8;--line:#3a414c;--paper:#15181d}}
*{box-sizing:border-box}
body{margin:0 auto;max-width:1500px;padding:16px;background:var(--paper);color:var(--ink);
font:15px/1.45 system-ui,sans-serif}
h1{font-size:20px;margin:0 0 4px}h2{font-size:16px;margin:0 0 2px}p{margin:0 0 8px;
color:var(--dim);font-size:13px;overflow-wrap:anywhere}
.runs{display:flex;flex-wrap:wrap;gap:12px 32px;margin:12px 0}
section{flex:1 1 340px;min-width:0;max-width:640px}
table{border-collapse:collapse;width:100%;font-size:13px;font-variant-numeric:tabular-nums}
th,td{padding:2px 6px;text-align:right;border-bottom:1px solid var(--line);font-weight:400;
white-space:nowrap}
th:first-child{text-align:left;padding-left:0}thead th{color:var(--dim)}
th i{display:inline-block;width:10px;height:10px;border-radius:2px;margin-right:6px}
.bar{position:relative;width:30%}.bar span{position:relative}
.bar b{position:absolute;left:0;top:4px;bottom:4px;border-radius:2px;opacity:.75}
@media (max-width:480px){body{padding:10px}th,td{padding:2px 4px}.bar{width:20%}}
"""

# Fits every label to its box: the whole label, else the function's name, else its beginning. Done
# again for each zoom and width, as a text that fits a narrow box is too short for a wide one.
SCRIPT = """
const plot = document.getElementById('{plot_id}'), data = plot.data[0];
const plain = s => s.replace(/&lt;/g, '<').replace(/&gt;/g, '>').replace(/&quot;/g, '"')
  .replace(/&#x27;/g, "'").replace(/&amp;/g, '&');
const safe = s => s.replace(/&/g, '&amp;').replace(/</g, '&lt;').replace(/>/g, '&gt;');
const labels = data.labels.map(plain);
const fit = level => {
  const total = data.values[level ? data.ids.indexOf(level) : 0];
  Plotly.restyle(plot, {text: [labels.map((label, i) => {
    const room = Math.floor((plot.clientWidth * data.values[i] / total - 6) / 6.9);
    const name = label.split(' (')[0];
    if (label.length <= room || data.values[i] >= total) return safe(label);
    if (name.length <= room) return safe(name);
    return room < 3 ? '' : safe(name.slice(0, room - 1)) + '\\u2026';
  })]});
};
let level = '', timer = 0;
const later = wait => { clearTimeout(timer); timer = setTimeout(() => fit(level), wait); };
plot.on('plotly_icicleclick', event => { level = event.nextLevel || ''; later(900); });
window.addEventListener('resize', () => later(200));
fit('');
"""

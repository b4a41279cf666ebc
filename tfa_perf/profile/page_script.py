"""Script of the flame graph page: choose, zoom, find. `groups` is defined before it."""

from __future__ import annotations

# Labels are fitted to their boxes (the whole label, else the function's name, else its beginning),
# again for each zoom and width, as a text that fits a narrow box is too short for a wide one.
SCRIPT = """
const $ = id => document.getElementById(id), plot = $('flame'), help = $('info').textContent;
const safe = s => s.replace(/&/g, '&amp;').replace(/</g, '&lt;').replace(/>/g, '&gt;');
const LEVEL = 25, LEVELS = 34, FAINT = '#e4e7eb', FOUND = '#f06ad6';
let chart, level = 0, timer = 0;

const total = () => chart.values[level];
const texts = () => chart.names.map((name, i) => {
  const room = Math.floor((plot.clientWidth * chart.values[i] / total() - 6) / 6.9);
  const short = name.split(' (')[0];
  if (name.length <= room || chart.values[i] >= total()) return safe(name);
  const bare = short.replace(/ [\\d.]+ %$/, '');
  for (const label of [short, bare]) if (label.length <= room) return safe(label);
  return room < 3 ? '' : safe(bare.slice(0, room - 1)) + '\\u2026';
});
const matches = () => {
  const words = $('find').value.trim().toLowerCase();
  return words ? chart.names.map((name, i) => i > 0 && name.toLowerCase().includes(words)) : null;
};
const colours = found => found ? chart.colours.map((c, i) => found[i] ? FOUND : FAINT)
  : chart.colours;
const percent = value => (100 * value / chart.values[0]).toFixed(1) + ' %';
const amount = value => chart.unit ? ', ' + (value / 1e6).toFixed(3) + ' ' + chart.unit : '';

const showFound = found => {
  if (!found) { $('found').textContent = ''; return; }
  const inside = [];
  let count = 0, value = 0;
  // A match below a match is part of it: counted as a frame, not as time.
  chart.parents.forEach((parent, i) => {
    const above = parent >= 0 && (inside[parent] || found[parent]);
    inside.push(above);
    if (found[i]) { count += 1; if (!above) value += chart.values[i]; }
  });
  $('found').textContent = count + (count === 1 ? ' frame: ' : ' frames: ') + percent(value)
    + amount(value);
};
const showLevel = () => {
  $('info').textContent = level ? chart.names[level] + ': ' + chart.notes[level] : help;
};
const refresh = () => {
  const found = matches();
  Plotly.restyle(plot, {text: [texts()], 'marker.colors': [colours(found)]});
  showFound(found);
};
const later = wait => { clearTimeout(timer); timer = setTimeout(refresh, wait); };

const draw = () => {
  const ink = {size: 12, color: '#14181f'}, found = matches();
  level = 0;
  return Plotly.react(plot, [{
    type: 'icicle', ids: chart.names.map((_, i) => String(i)), labels: chart.names.map(safe),
    parents: chart.parents.map(p => p < 0 ? '' : String(p)), values: chart.values, level: '',
    text: texts(), textinfo: 'text', hoverinfo: 'text', branchvalues: 'total', sort: false,
    hovertext: chart.names.map((name, i) => '<b>' + safe(name) + '</b><br>' + safe(chart.notes[i])),
    maxdepth: LEVELS, tiling: {orientation: 'v', pad: 0}, textfont: ink, leaf: {opacity: 1},
    marker: {colors: colours(found), line: {width: 1, color: 'rgba(255,255,255,.55)'}},
    textposition: 'middle left', pathbar: {thickness: 22, textfont: ink},
  }], {
    autosize: true, height: Math.min(chart.depth, LEVELS) * LEVEL + 40,
    margin: {l: 0, r: 0, t: 30, b: 4}, paper_bgcolor: 'rgba(0,0,0,0)',
    uniformtext: {minsize: 11, mode: 'hide'}, font: {family: 'system-ui, sans-serif'},
    hoverlabel: {font: {size: 13, color: '#14181f'}, align: 'left'},
  }, {responsive: true, displayModeBar: false}).then(() => { showFound(found); showLevel(); });
};
const options = (select, names) => {
  select.replaceChildren(...names.map((name, i) => new Option(name, i)));
  select.parentElement.hidden = names.length < 2;
};
const chooseRoot = () => { chart = groups[$('run').value].charts[$('root').value]; return draw(); };
const chooseRun = () => {
  const place = Number($('run').value);
  document.querySelectorAll('.chosen > section').forEach((s, i) => { s.hidden = i !== place; });
  options($('root'), groups[place].charts.map(c => c.title));
  return chooseRoot();
};
options($('run'), groups.map(group => group.label));
$('run').onchange = chooseRun;
$('root').onchange = chooseRoot;
$('find').oninput = () => later(150);
window.addEventListener('resize', () => later(200));
chooseRun().then(() => plot.on('plotly_icicleclick', event => {
  level = Number(event.nextLevel || 0);
  showLevel();
  later(900);
}));
"""

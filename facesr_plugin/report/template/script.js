'use strict';
const byId = (id) => document.getElementById(id);
const embedded = (id) => JSON.parse(byId(id).textContent);

// ---- charts, in the colours of the page
const charts = Object.entries(embedded('figures')).filter(([, figure]) => figure);

function theme() {
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const axes = Object.fromEntries(
    ['xaxis', 'yaxis'].flatMap((axis) => [
      [`${axis}.gridcolor`, colour('--line')],
      [`${axis}.zerolinecolor`, colour('--line')],
    ]),
  );
  return {
    ...axes,
    'paper_bgcolor': 'rgba(0, 0, 0, 0)',
    'plot_bgcolor': 'rgba(0, 0, 0, 0)',
    'font.color': colour('--ink'),
    'font.family': 'system-ui, sans-serif',
    'hoverlabel.bgcolor': colour('--panel'),
    'hoverlabel.bordercolor': colour('--line'),
    'modebar.bgcolor': 'rgba(0, 0, 0, 0)',
    'modebar.color': colour('--muted'),
    'modebar.activecolor': colour('--ink'),
  };
}

const applyTheme = () => charts.forEach(([column]) => Plotly.relayout(`chart-${column}`, theme()));

// A mouse zooms in a chart, a finger scrolls the page past it.
const hasMouse = matchMedia('(pointer: fine)').matches;
for (const [column, figure] of charts) {
  Plotly.newPlot(`chart-${column}`, figure.data, { ...figure.layout, dragmode: hasMouse ? 'zoom' : false }, {
    responsive: true,
    displayModeBar: hasMouse ? 'hover' : false,
    displaylogo: false,
    modeBarButtons: [['zoom2d', 'pan2d', 'resetScale2d']],
  });
}
applyTheme();
matchMedia('(prefers-color-scheme: dark)').addEventListener('change', applyTheme);

for (const button of document.querySelectorAll('[data-experiment]')) {
  button.addEventListener('click', () => {
    const shown = button.getAttribute('aria-pressed') !== 'true';
    button.setAttribute('aria-pressed', shown);
    for (const [column, figure] of charts) {
      const traces = [...figure.data.keys()].filter((i) => figure.data[i].legendgroup === button.dataset.experiment);
      if (traces.length) Plotly.restyle(`chart-${column}`, { visible: shown }, traces);
    }
  });
}

// ---- faces: two of the panels, one on either side of a line
const panels = embedded('panels');

function showPair() {
  const face = Number(document.querySelector('[name=face]:checked').value);
  for (const side of ['left', 'right']) {
    const select = byId(side), panel = panels[select.value], picture = byId(`${side}-picture`);
    picture.src = panel.pictures[face];
    picture.alt = select.selectedOptions[0].text;
    picture.classList.toggle('pixelated', panel.pixelated);
    byId(`${side}-caption`).textContent = panel.captions[face];
  }
  for (const cell of document.querySelectorAll('[data-face]')) {
    cell.classList.toggle('current', Number(cell.dataset.face) === face);
  }
}

function moveLine(percent) {
  byId('slider').value = percent;
  byId('stage').style.setProperty('--position', `${byId('slider').value}%`);
}

if (panels.length) {
  const stage = byId('stage'), slider = byId('slider');
  const follow = (event) => {
    const box = stage.getBoundingClientRect();
    moveLine((100 * (event.clientX - box.left)) / box.width);
  };
  stage.addEventListener('pointerdown', (event) => {
    stage.setPointerCapture(event.pointerId);
    event.preventDefault();
    slider.focus({ preventScroll: true });
    follow(event);
  });
  stage.addEventListener('pointermove', (event) => stage.hasPointerCapture(event.pointerId) && follow(event));
  slider.addEventListener('input', () => moveLine(slider.value));
  byId('left').value = 1; // bicubic
  byId('right').value = panels.length > 3 ? 2 : panels.length - 1; // the first experiment, or else HR
  for (const control of document.querySelectorAll('#left, #right, [name=face]')) {
    control.addEventListener('change', showPair);
  }
  showPair();
}

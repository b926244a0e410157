'use strict';
const byId = (id) => document.getElementById(id);
const embedded = (id) => JSON.parse(byId(id).textContent);

// ---- charts: what every line tells at the iteration nearest to the pointer
const figures = embedded('figures'), hiddenLines = new Set();
const nearest = (list, x) => list.reduce((best, value, i) => (Math.abs(value - x) < Math.abs(list[best] - x) ? i : best), 0);

function element(name, text, properties = {}) {
  return Object.assign(document.createElement(name), { textContent: text, ...properties });
}

function readOut(line, iteration) {
  const i = nearest(line.x, iteration), row = element('div', ''), mark = element('span', `${line.glyph} `);
  mark.style.color = line.colour;
  const elsewhere = line.x[i] === iteration ? '' : ` at ${line.x[i].toLocaleString('en')}`;
  row.append(mark, `${line.name}: `, element('b', line.text[i]), elsewhere);
  return row;
}

for (const chart of document.querySelectorAll('.chart')) {
  const { lines, start, step, top, bottom } = figures[chart.id.slice('chart-'.length)];
  const { width, height } = chart.querySelector('svg').viewBox.baseVal;
  const pointer = chart.querySelector('.pointer'), box = chart.querySelector('.read-out');
  const iterations = [...new Set(lines.flatMap((line) => line.x))].sort((a, b) => a - b);
  let at = null;
  const hide = () => {
    pointer.hidden = box.hidden = true;
    at = null;
  };
  const show = (index) => {
    at = Math.min(Math.max(index, 0), iterations.length - 1);
    const iteration = iterations[at], part = (start + step * iteration) / width;
    pointer.style.cssText = `left: ${100 * part}%; top: ${(100 * top) / height}%; height: ${(100 * (bottom - top)) / height}%`;
    box.style.left = part < 0.5 ? `calc(${100 * part}% + 10px)` : 'auto';
    box.style.right = part < 0.5 ? 'auto' : `calc(${100 * (1 - part)}% + 10px)`;
    const rows = lines.filter((line) => !hiddenLines.has(line.index)).map((line) => readOut(line, iteration));
    box.replaceChildren(element('div', `iteration ${iteration.toLocaleString('en')}`), ...rows);
    pointer.hidden = box.hidden = false;
  };
  const follow = (event) => {
    const area = chart.getBoundingClientRect();
    show(nearest(iterations, (((event.clientX - area.left) / area.width) * width - start) / step));
  };
  chart.addEventListener('pointerdown', follow);
  chart.addEventListener('pointermove', follow);
  chart.addEventListener('pointerleave', (event) => event.pointerType === 'mouse' && hide());
  chart.addEventListener('blur', hide);
  chart.addEventListener('keydown', (event) => {
    const last = iterations.length - 1;
    const to = { ArrowRight: (at ?? -1) + 1, ArrowLeft: (at ?? last + 1) - 1, Home: 0, End: last }[event.key];
    if (event.key === 'Escape') hide();
    if (to === undefined) return;
    event.preventDefault();
    show(to);
  });
}

for (const button of document.querySelectorAll('[data-experiment]')) {
  button.addEventListener('click', () => {
    const shown = button.getAttribute('aria-pressed') !== 'true', index = Number(button.dataset.experiment);
    button.setAttribute('aria-pressed', shown);
    hiddenLines[shown ? 'delete' : 'add'](index);
    for (const line of document.querySelectorAll(`[data-line="${index}"]`)) line.style.display = shown ? '' : 'none';
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

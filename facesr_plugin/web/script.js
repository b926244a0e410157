// What Gradio's page lacks: pictures from the clipboard, a word about files that are too large, and the line between
// before and after by keys.
const tooLarge = () => document.querySelector('#limits .wrong');

function take(files) {
  const input = document.querySelector('#files input[type=file]');
  const told = tooLarge(), held = new DataTransfer(), left = [];
  if (!input || !told) return;
  for (const file of files) file.size > told.dataset.bytes ? left.push(file.name) : held.items.add(file);
  told.textContent = left.length ? `${left.join(', ')}: at most ${told.dataset.bytes / 1e6} MB expected` : '';
  if (!held.files.length) return;
  input.files = held.files;
  input.dispatchEvent(new Event('change', { bubbles: true }));
}

function takeInstead(event, files) {
  event.preventDefault();
  event.stopImmediatePropagation();
  take([...files]);
}

const some = (files) => [...(files ?? [])].some((file) => file.size > tooLarge()?.dataset.bytes);
document.addEventListener('paste', (event) => {
  if (event.clipboardData?.files.length) takeInstead(event, event.clipboardData.files);
});
document.addEventListener('drop', (event) => {
  if (event.target.closest?.('#files') && some(event.dataTransfer?.files)) takeInstead(event, event.dataTransfer.files);
}, true);
document.addEventListener('change', (event) => {
  if (!event.target.matches?.('#files input[type=file]')) return;
  if (some(event.target.files)) takeInstead(event, event.target.files);
  else if (event.isTrusted) tooLarge().textContent = '';
}, true);

const STEPS = { ArrowLeft: -0.02, ArrowRight: 0.02, PageDown: -0.2, PageUp: 0.2, Home: -1, End: 1 };

function part(line) {
  const stage = line.parentElement.getBoundingClientRect(), box = line.getBoundingClientRect();
  return (box.left + box.width / 2 - stage.left) / stage.width;
}

function drag(line, to) {
  const stage = line.parentElement.getBoundingClientRect(), box = line.getBoundingClientRect();
  const at = { view: window, bubbles: true, cancelable: true, clientY: box.top + box.height / 2 };
  const send = (kind, where, clientX) => where.dispatchEvent(new MouseEvent(kind, { ...at, clientX }));
  send('mousedown', line, box.left + box.width / 2);
  send('mousemove', window, stage.left + to * stage.width);
  send('mouseup', window, stage.left + to * stage.width);
}

document.addEventListener('keydown', (event) => {
  const line = event.target.closest?.('#slider [data-testid=slider]');
  if (!line || !(event.key in STEPS)) return;
  event.preventDefault();
  drag(line, Math.min(1, Math.max(0, part(line) + STEPS[event.key])));
});

new MutationObserver(() => {
  for (const line of document.querySelectorAll('#slider [data-testid=slider]')) {
    const now = `${Math.round(100 * part(line))}`;
    if (line.getAttribute('aria-valuenow') === now) continue;
    const told = { role: 'slider', tabindex: '0', 'aria-label': 'Line between before and after, %', 'aria-valuenow': now };
    for (const [name, value] of Object.entries(told)) line.setAttribute(name, value);
  }
}).observe(document, { subtree: true, childList: true, attributes: true, attributeFilter: ['style'] });

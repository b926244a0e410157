// What Gradio's page lacks: pictures from the clipboard, and the line between before and after by keys.
document.addEventListener('paste', (event) => {
  const files = event.clipboardData?.files ?? [];
  const input = document.querySelector('#files input[type=file]');
  if (!files.length || !input) return;
  event.preventDefault();
  const held = new DataTransfer();
  for (const file of files) held.items.add(file);
  input.files = held.files;
  input.dispatchEvent(new Event('change', { bubbles: true }));
});

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

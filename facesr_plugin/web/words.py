"""What the page says of a queue, as text and as HTML. No Gradio here."""

from collections.abc import Sequence
from html import escape

from facesr_plugin.web.work import Failed, Result, Step

Done = Sequence[Result | Failed]


def told(step: Step) -> str:
    """Return how far the queue is, in words.

    Example:
        >>> told(Step(2, 3, 'a.png', 0.25))
        '2 of 3: a.png, 25 %'
    """
    return f'{step.number} of {step.count}: {step.name}, {100 * step.part:.0f} %'


def status(line: str = '', done: Done = (), step: Step | None = None, problem: str = '') -> str:
    """Return the HTML of how far things are: a line, a bar while it runs, and a line for each picture."""
    parts = [f'<p role="status">{escape(line)}</p>']
    if step:
        part = (step.number - 1 + step.part) / step.count
        parts.append(f'<progress max="1" value="{part:.4f}" aria-label="All pictures"></progress>')
    if problem:
        parts.append(f'<p role="alert" class="wrong">{escape(problem)}</p>')
    rows = []
    for each in done:
        text = each.why if isinstance(each, Failed) else each.about
        wrong = ' class="wrong"' if isinstance(each, Failed) else ''
        rows.append(f'<li{wrong}><b>{escape(each.name)}</b>: {escape(text)}</li>')
    return ''.join([*parts, f'<ul>{"".join(rows)}</ul>' if rows else ''])


def summary(done: Done, count: int) -> str:
    """Return what came of a queue of `count` pictures that has ended.

    Example:
        >>> summary([Failed('a.png', 'empty')], 3)
        '0 of 3 done, 1 failed, 2 stopped'
    """
    failed = sum(isinstance(each, Failed) for each in done)
    parts = [f'{len(done) - failed} of {count} done']
    parts += [f'{failed} failed'] if failed else []
    parts += [f'{count - len(done)} stopped'] if count > len(done) else []
    return ', '.join(parts)

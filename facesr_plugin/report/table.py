"""The one writer of Markdown tables."""

from collections.abc import Iterable, Sequence


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]], pad: bool = False) -> str:
    r"""Return a Markdown table, without a newline at its end.

    Args:
        header: The columns' titles.
        rows: As many cells each; a `|` in one is escaped.
        pad: Make columns of equal width, to be read as well where the table is not rendered.

    Raises:
        ValueError: A row has another number of cells.

    Example:
        >>> print(markdown_table(['cell', 'dB'], [['concat', '26.1']], pad=True))
        | cell   | dB   |
        |--------|------|
        | concat | 26.1 |
        >>> markdown_table(['cell', 'dB'], [['a|b', '26.1']]).splitlines()
        ['| cell | dB |', '| --- | --- |', '| a\\|b | 26.1 |']
    """
    cells = [[text.replace('|', r'\|') for text in row] for row in (header, *rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    if pad:
        cells = [[text.ljust(width) for text, width in zip(row, widths, strict=True)] for row in cells]
        rule = '|' + '|'.join('-' * (width + 2) for width in widths) + '|'
    else:
        rule = '| ' + ' | '.join(['---'] * len(widths)) + ' |'
    lines = ['| ' + ' | '.join(row) + ' |' for row in cells]
    return '\n'.join([lines[0], rule, *lines[1:]])

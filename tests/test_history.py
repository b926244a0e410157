import re

import pytest

from facesr_plugin.errors import UserError
from facesr_plugin.models.history import COLUMNS, History, read_history, read_rows


def test_rows_are_written_read_and_restored(tmp_path):
    history = History(tmp_path / 'history.csv')
    history.append(epoch=1, iter=10, alpha=None, lr=1e-3, val_psnr=25.5)
    kept = list(history.rows)
    history.append(epoch=2, iter=20, lr=5e-4, val_psnr=26.0)
    columns = read_history(tmp_path / 'history.csv')
    assert tuple(columns) == COLUMNS
    assert columns['iter'] == [10, 20]
    assert columns['alpha'] == [None, None]
    assert columns['val_psnr'] == [25.5, 26.0]
    History(tmp_path / 'history.csv').restore(kept)
    assert read_history(tmp_path / 'history.csv')['iter'] == [10]
    assert [path.name for path in tmp_path.iterdir()] == ['history.csv']


def test_unknown_column(tmp_path):
    with pytest.raises(TypeError, match='no such column: psnr'):
        History(tmp_path / 'history.csv').append(psnr=1.0)


WHOLE = ','.join(['1', '10', *[''] * 11]) + '\n'
HEADER = ','.join(COLUMNS) + '\n'
LEFT_OUT = 'row left out, 13 numbers expected: damaged or cut short'


@pytest.mark.parametrize(
    ('text', 'rows', 'problem'),
    [
        (None, 0, ': no such file; training writes it after its first validation'),
        ('', 0, ': a history.csv written by training expected, it has no column iter'),
        ('epoch,loss\n1,2\n', 0, ': a history.csv written by training expected, it has no column iter'),
        ('\xff\xfe', 0, ': a history.csv written by training expected, it has no column iter'),
        (HEADER + WHOLE.replace(',,,', ',many,,', 1), 0, f':2: {LEFT_OUT}'),
        (HEADER + WHOLE.replace('10', ''), 0, f':2: {LEFT_OUT}'),
        (HEADER + '1\n' + WHOLE, 1, f':2: {LEFT_OUT}'),
        (HEADER + WHOLE + WHOLE[:-1], 1, f':3: {LEFT_OUT}'),  # perhaps within its last number
        (HEADER.replace('residual', 'other') + WHOLE, 1, ': no column residual'),
    ],
)
def test_damaged_files_are_read_as_far_as_they_go_or_refused(tmp_path, text, rows, problem):
    path = tmp_path / 'history.csv'
    if text is not None:
        path.write_text(text, 'latin-1')
    read, problems = read_rows(path)
    assert read == [dict.fromkeys(COLUMNS) | {'epoch': 1, 'iter': 10}] * rows
    assert problems == [f'{path}{problem}']
    with pytest.raises(UserError, match=re.escape(problem)):
        read_history(path)

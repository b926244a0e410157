import pytest
from torch.utils.data import DataLoader, Dataset

from facesr_plugin.errors import UserError, run_command


class Broken(Dataset):
    def __len__(self):
        return 1

    def __getitem__(self, index):
        raise UserError('a.png: cannot be read')


def test_user_error_ends_a_command_with_one_line_and_status_2(capsys):
    def main():
        raise UserError('a.png: cannot be read')

    with pytest.raises(SystemExit) as end:
        run_command(main)
    assert end.value.code == 2
    assert capsys.readouterr().err == 'error: a.png: cannot be read\n'


def test_each_problem_has_its_line(capsys):
    def main():
        raise UserError('a: wrong\nb: wrong')

    with pytest.raises(SystemExit):
        run_command(main)
    assert capsys.readouterr().err == 'error: a: wrong\nerror: b: wrong\n'


def test_ctrl_c_ends_a_command_with_status_130(capsys):
    def main():
        raise KeyboardInterrupt

    with pytest.raises(SystemExit) as end:
        run_command(main)
    assert end.value.code == 130
    assert capsys.readouterr().err == ''


@pytest.mark.parametrize(('status', 'code'), [(None, None), (0, 0), (1, 1)])
def test_status_of_main_is_the_commands(status, code):
    with pytest.raises(SystemExit) as end:
        run_command(lambda: status)
    assert end.value.code == code


def test_other_exceptions_pass():
    def main():
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run_command(main)


def test_worker_traceback_becomes_its_message():
    with pytest.raises(UserError) as error:
        list(DataLoader(Broken(), num_workers=1))
    assert str(error.value) == 'a.png: cannot be read'

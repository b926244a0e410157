"""The floors of the package: an import goes to the same floor or down, never up, and never in a circle.

Imports inside functions count too; `cli.py` has none: it fetches by its name what the chosen command needs.
"""

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import facesr_plugin

PACKAGE = Path(facesr_plugin.__file__).parent
FLOORS = (
    {'version', 'errors', 'files', 'blocks', 'compat', 'command_line'},
    {'pictures'},
    {'faces'},
    {'archs', 'losses', 'degradations', 'data'},
    {'run'},
    {'models'},
    {'options'},
    {'enlarge'},
    {'report', 'web'},
    {'commands'},
    {'', 'registry', 'cli', 'train', 'test', 'spandrel'},
)
NOT_FOR_ENLARGE = ('models', 'options')  # a trained network is used without what trained it


def module(path: Path) -> str:
    """Return a file's name below the package, '' for the package itself."""
    return '.'.join(path.relative_to(PACKAGE).with_suffix('').parts).removesuffix('__init__').rstrip('.')


SOURCES = {module(path): path for path in sorted(PACKAGE.rglob('*.py'))}


def floor(name: str) -> int:
    (found,) = (number for number, parts in enumerate(FLOORS) if name.split('.')[0] in parts)
    return found


def imports(name: str) -> Iterator[tuple[str, int]]:
    """Yield the modules of the package that a file imports, each with its line; in `from X import Y` it may be Y."""
    for node in ast.walk(ast.parse(SOURCES[name].read_text(encoding='utf-8'))):
        if isinstance(node, ast.Import):
            found = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f'{SOURCES[name]}:{node.lineno}: a relative import'
            inside = [f'{node.module}.{alias.name}' for alias in node.names]
            found = [each if each.removeprefix('facesr_plugin.') in SOURCES else node.module for each in inside]
        else:
            continue
        for each in found:
            if each.split('.')[0] == 'facesr_plugin':
                yield each.removeprefix('facesr_plugin').lstrip('.'), node.lineno


def test_there_is_something_to_look_at():
    assert 'losses.regularized_l1_loss' in {found for found, _ in imports('models.alpha_realesrnet_model')}
    assert len(SOURCES) > 40


@pytest.mark.parametrize('name', SOURCES)
def test_nothing_imports_upward(name):
    lines = [(found, f'{SOURCES[name]}:{line}: {found}') for found, line in imports(name)]
    assert not [line for found, line in lines if floor(found) > floor(name)]
    if name.split('.')[0] == 'enlarge':
        assert not [line for found, line in lines if found.split('.')[0] in NOT_FOR_ENLARGE]


def test_no_circles():
    """The package's own `__init__` is not counted: it imports for its users, and every module makes Python run it."""
    graph = {name: {found for found, _ in imports(name)} - {'', name} for name in SOURCES if name}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(' imports '.join(reversed(error.args[1])))


def test_nothing_for_type_checkers_only():
    assert not [name for name, path in SOURCES.items() if 'TYPE_CHECKING' in path.read_text(encoding='utf-8')]

"""Option files as plain data: how one is found and read, and set from the command line. It needs no BasicSR."""

import os
import re
import sys
import traceback
from collections.abc import Hashable
from importlib import import_module
from pathlib import Path
from typing import Any

import yaml

from facesr_plugin.errors import UserError, one_line

MOST_VALUES = 100_000  # of an option file, with every alias written out


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader, refusing a key that stands twice in a mapping.

    A date is the text that it is, and so is `010`, of which YAML 1.1 would make 8.
    """

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Put merged keys in; merges of merges can grow without end."""
        super().flatten_mapping(node)
        if len(node.value) > MOST_VALUES:
            raise yaml.constructor.ConstructorError(None, None, TOO_LARGE, node.start_mark)

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int | str:
        """Return a number, or the text that looks like an octal one."""
        is_octal = re.fullmatch('[-+]?0[0-9_]+', node.value)
        return self.construct_yaml_str(node) if is_octal else super().construct_yaml_int(node)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen = set()
        for key_node, _ in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                raise yaml.constructor.ConstructorError(None, None, 'a text expected as key', key_node.start_mark)
            if key_node.tag == 'tag:yaml.org,2002:merge':
                continue
            key = self.construct_object(key_node)
            if key in seen:
                raise yaml.constructor.ConstructorError(None, None, f'key {key!r} stands twice', key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


TOO_LARGE = f'more than {MOST_VALUES} values, with all aliases written out'
_Loader.add_constructor('tag:yaml.org,2002:timestamp', _Loader.construct_yaml_str)
_Loader.add_constructor('tag:yaml.org,2002:int', _Loader.construct_yaml_int)


class _CommandLineLoader(_Loader):
    """The same for a value of the command line, where 1e-4 is a number as in YAML 1.2; to YAML 1.1 it is text."""


_CommandLineLoader.add_implicit_resolver(
    'tag:yaml.org,2002:float', re.compile(r'[-+]?(\.\d+|\d+(\.\d*)?)[eE][-+]?\d+$', re.ASCII), list('-+.0123456789')
)


def _size(value: Any, known: dict[int, int]) -> int:
    """Return how many values there are in one with its aliases written out; one inside itself has no end."""
    if not isinstance(value, list | dict):
        return 1
    if id(value) not in known:
        known[id(value)] = MOST_VALUES + 1  # until it is known, for an alias of what it stands in
        known[id(value)] = 1 + sum(
            _size(part, known) for part in (value.values() if isinstance(value, dict) else value)
        )
    return known[id(value)]


def load_yaml(path: str | Path) -> dict[str, Any]:
    """Read an option file as plain data: PyYAML's safe loader makes numbers, texts, lists and mappings only.

    Raises:
        UserError: The file is missing, is no YAML mapping, or holds a tag that would make Python objects.
    """
    try:
        with open(path, encoding='utf-8') as file:
            opt = yaml.load(file, Loader=_Loader)
    except RecursionError as error:
        raise UserError(f'{path}: not a valid option file: nested too deeply') from error
    except OSError as error:
        raise UserError(f'{path}: {error.strerror}') from error
    except UnicodeDecodeError as error:
        raise UserError(f'{path}: a UTF-8 text file expected') from error
    except yaml.YAMLError as error:
        mark, problem = getattr(error, 'problem_mark', None), getattr(error, 'problem', None) or error
        where = f':{mark.line + 1}' if mark else ''
        raise UserError(f'{path}{where}: not a valid option file: {" ".join(str(problem).split())}') from error
    if _size(opt, {}) > MOST_VALUES:
        raise UserError(f'{path}: not a valid option file: {TOO_LARGE}')
    if not isinstance(opt, dict):
        raise UserError(f'{path}: a mapping of options expected, got {type(opt).__name__}')
    return opt


def shipped_options() -> dict[str, Path]:
    """Return the option files that come with the plugin, by name: a checkout's `options/`, or part of the package."""
    installed = Path(__file__).resolve().parents[1] / 'option_files'
    folder = installed if installed.is_dir() else Path(__file__).resolve().parents[2] / 'options'
    return {path.name: path for path in sorted(folder.glob('*.yml'))}


def find_option_file(path: str | Path) -> Path:
    """Return the option file at `path`, or else the shipped one that `NAME.yml` or `options/NAME.yml` is, and say so.

    Raises:
        UserError: There is none of either; the line lists the shipped ones.
    """
    path = Path(path)
    if os.path.exists(path):
        return path
    shipped = shipped_options()
    if path.name in shipped and path.parent in (Path(), Path('options')):
        print(f'{path}: not in the current folder; {shipped[path.name]}, which comes with the plugin, is used')
        return shipped[path.name]
    raise UserError(f'{path}: no such file, and none of those that come with the plugin: {", ".join(shipped)}')


def set_option(opt: dict[str, Any], keys: list[str], value: Any, where: str) -> None:
    """Set the option at a path of keys; the block it belongs to must be there. None takes a block out.

    Raises:
        UserError: It is not; the line begins with `where`.
    """
    *parents, last = keys
    block: Any = opt
    for parent in parents:
        block = block.get(parent) if isinstance(block, dict) else None
    if not isinstance(block, dict):
        raise UserError(f'{where}: no block {".".join(parents)} in the option file')
    if value is None and isinstance(block.get(last), dict):
        del block[last]
    else:
        block[last] = value


def override(opt: dict[str, Any], entry: str) -> None:
    """Set a key of a block that the file has, from `a:b:c=value`, the value read as YAML, 1e-4 as a number.

    Raises:
        UserError: `entry` has another form, the block does not exist, or the value is no YAML.

    Example:
        >>> opt = {'train': {'total_iter': 10}}
        >>> override(opt, 'train:total_iter=20')
        >>> opt
        {'train': {'total_iter': 20}}
    """
    path, separator, text = entry.partition('=')
    if not separator:
        raise UserError(f'--force_yml {one_line(entry)}: KEY:SUBKEY=VALUE expected')
    try:
        value = yaml.load(text, Loader=_CommandLineLoader)
    except (yaml.YAMLError, RecursionError) as error:
        raise UserError(f'--force_yml {one_line(entry)}: the value is not valid YAML') from error
    if _size(value, {}) > MOST_VALUES:
        raise UserError(f'--force_yml {path}: {TOO_LARGE}')
    set_option(opt, [key.strip() for key in path.split(':')], value, f'--force_yml {path}')


def import_modules(where: str, names: Any) -> None:
    """Import modules of the user, which register classes with BasicSR; those of the current folder are found.

    Args:
        where: What an error begins with.
        names: Modules, or paths of `.py` files; what is no list is for the check to tell.

    Raises:
        UserError: One cannot be imported; the line says where it failed.
    """
    for name in filter(lambda name: isinstance(name, str), names if isinstance(names, list) else []):
        file = Path(name).expanduser().resolve() if name.endswith('.py') else None
        if file and not file.is_file():
            raise UserError(f'{where} {one_line(name)}: no such file')
        folder = str(file.parent) if file else os.getcwd()
        if folder not in sys.path:
            sys.path.append(folder)
        try:
            module = import_module(file.stem if file else name)
        except (Exception, SystemExit) as error:
            frame = traceback.extract_tb(error.__traceback__)[-1]
            what = f'{type(error).__name__}: {" ".join(str(error).split())} ({frame.filename}, line {frame.lineno})'
            raise UserError(f'{where} {one_line(name)}: cannot be imported: {what}') from error
        if file and Path(getattr(module, '__file__', None) or '').resolve() != file:
            there = getattr(module, '__file__', None) or 'a part of Python'
            raise UserError(f'{where} {one_line(name)}: another file name expected, {file.stem} is a module: {there}')
        print(f'{where}: {name} ({getattr(module, "__file__", None)})')

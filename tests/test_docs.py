"""README and docs name nothing that is not there: links, files, commands, options, YAML and Python examples."""

import json
import re
import shlex
import shutil
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import cv2
import jsonschema
import numpy as np
import pytest
import yaml
from basicsr.utils.registry import LOSS_REGISTRY

from facesr_plugin.cli import COMMANDS
from facesr_plugin.enlarge.network import DEFAULT_WEIGHTS
from facesr_plugin.faces import detect
from facesr_plugin.options.load import build_parser
from facesr_plugin.options.read import load_yaml, override

ROOT = Path(__file__).parents[1]
README = ROOT / 'README.md'
PAGES = [README, *sorted((ROOT / 'docs').glob('*.md')), DEFAULT_WEIGHTS.with_name('README.md')]
PAGES.append(ROOT / 'tests/data/faces/README.md')
SCHEMA = json.loads((ROOT / 'options/schema.json').read_text())
VALIDATOR = jsonschema.validators.validator_for(SCHEMA)(SCHEMA)
ENTRY_POINTS = {'facesr_plugin/train.py': 'train', 'facesr_plugin/test.py': 'test', 'basicsr/test.py': 'test'}

each_page = pytest.mark.parametrize('page', PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def blocks(page: Path, language: str) -> list[str]:
    """Return the fenced blocks of a language; '' are those of the shell."""
    found = re.findall(r'^```(\w*)\n(.*?)^```$', page.read_text(), re.MULTILINE | re.DOTALL)
    return [block for name, block in found if name == language]


def spans(page: Path) -> list[str]:
    """Return what stands between backquotes in the text."""
    text = re.sub(r'^```.*?^```$', '', page.read_text(), flags=re.MULTILINE | re.DOTALL)
    return re.findall(r'`([^`\n]+)`', text)


def commands(page: Path) -> Iterator[tuple[list[str], bool]]:
    """Yield command lines as words, and whether they are whole, as in a block, or may be in part, as in the text."""
    for block in blocks(page, ''):
        for line in block.replace('\\\n', ' ').splitlines():
            if words := shlex.split(line, comments=True):
                yield words, True
    for span in spans(page):
        if re.match(r'(facesr|make|python|torchrun)(-\w+)? ', span):
            yield shlex.split(span), False


def subcommand(words: list[str]) -> tuple[str, list[str]] | None:
    """Return the subcommand of `facesr` that a command line comes down to, with its options; None if to none."""
    program, *rest = words
    if program == 'torchrun':
        start = next(i for i, word in enumerate(rest) if word == '-m' or word.endswith('.py'))
        program, rest = 'python', rest[start:]
    if program == 'facesr':
        return rest[0], rest[1:]
    if program.startswith('facesr-'):
        assert f"'{program} = " in (ROOT / 'setup.py').read_text(), f'{program} is not installed'
        return program.removeprefix('facesr-'), rest
    if program == 'python' and rest[0] in ENTRY_POINTS:
        return ENTRY_POINTS[rest[0]], rest[1:]
    if program == 'python' and rest[:2] == ['-m', 'facesr_plugin.train']:
        return 'train', rest[2:]
    return None


def parser(name: str):
    """Return the parser of a subcommand of `facesr`."""
    if name in ('train', 'test'):
        return build_parser(is_train=name == 'train')
    return import_module(COMMANDS[name][0]).build_parser()


def flags(text: str) -> set[str]:
    """Return the options, `-o` or `--output`, that a text names."""
    return set(re.findall(r"(?<![\w'`-])--?[a-zA-Z][\w-]*", text.replace("'", ' ')))


def script_flags(path: Path) -> set[str]:
    """Return the options that a script defines, or one of the packages beside it."""
    sources = [path, *path.parent.glob('*/*.py')]
    return {flag for source in sources for flag in re.findall(r"'(--?[a-z][\w-]*)'", source.read_text())}


def overlay(options: dict, changes: dict) -> dict:
    """Return the options with some changed; a block of another type is replaced."""
    merged = dict(options)
    for key, value in changes.items():
        old = merged.get(key)
        are_blocks = isinstance(old, dict) and isinstance(value, dict)
        is_same = are_blocks and value.get('type', old.get('type')) == old.get('type')
        merged[key] = overlay(old, value) if is_same else value
    return merged


def nest(options: dict) -> dict:
    """Return options in which `train.pixel_opt` stands for a block in a block, as YAML has them."""
    nested = {}
    for path, value in options.items():
        for key in reversed(str(path).split('.')):
            value = {key: value}
        nested = overlay(nested, value)
    return nested


def known_keys(schema) -> set[str]:
    """Return the names of all options in a JSON schema."""
    if isinstance(schema, list):
        return set().union(*map(known_keys, schema))
    if not isinstance(schema, dict):
        return set()
    properties = schema.get('properties')
    return {*(properties if isinstance(properties, dict) else ()), *known_keys(list(schema.values()))}


def slug(heading: str) -> str:
    """Return the anchor that GitHub gives a heading."""
    return re.sub(r'[^\w\- ]', '', heading.lower()).replace(' ', '-')


# ------------------------------------------------------------------------------------- the tests
def test_readme_is_one_page():
    assert README.stat().st_size <= 9000


@each_page
def test_links(page):
    for target in re.findall(r'\]\(([^)\s]+)\)', page.read_text()):
        if target.startswith('https://'):
            continue
        path, _, anchor = target.partition('#')
        file = page.parent / path if path else page
        assert file.exists(), target
        if anchor:
            assert anchor in map(slug, re.findall(r'^#+ (.+)$', file.read_text(), re.MULTILINE)), target


@each_page
def test_files(page):
    outputs = [words[i + 1] for words, _ in commands(page) for i, word in enumerate(words) if word == '-o']
    for path in re.findall(r'(?<![\w/.])(?:facesr_plugin|scripts|tests|docs|options)/[\w./*-]*', page.read_text()):
        path = path.rstrip('.')
        if path in outputs or re.search(r'[A-Z]{3}', path.replace('README', '')):
            continue
        assert list(ROOT.glob(path)), path


@each_page
def test_commands(page, capsys):
    targets = re.findall(r'^([\w-]+):', (ROOT / 'Makefile').read_text(), re.MULTILINE)
    for words, is_whole in commands(page):
        line = shlex.join(words)
        if words[0] == 'make':
            assert {word for word in words[1:] if '=' not in word and word != '...'} <= set(targets), line
        elif words[0] == 'python' and words[1].startswith('scripts/'):
            assert flags(line) <= script_flags(ROOT / words[1]), line
        elif found := subcommand(words):
            name, options = found
            if name in ('--help', 'SUBCOMMAND'):
                continue
            assert name in COMMANDS, line
            if is_whole:
                try:
                    args = parser(name).parse_args(options)
                except SystemExit:
                    pytest.fail(f'{line}: {capsys.readouterr().err}')
                if name in ('train', 'test'):
                    check_option_file(args)
            else:
                assert flags(shlex.join(options)) <= flags(parser(name).format_help()), line


def check_option_file(args):
    """Check that an option file exists and that what `--force_yml` sets are options."""
    if args.opt == 'FILE':
        return
    options = load_yaml(ROOT / 'options' / Path(args.opt).name)
    for entry in args.force_yml:
        override(options, entry)
    VALIDATOR.validate(options)


def test_options_named_alone():
    parsers = [parser(name) for name in COMMANDS]
    known = set().union(*(flags(p.format_help()) for p in parsers), *map(script_flags, (ROOT / 'scripts').glob('*.py')))
    for page in PAGES:
        for span in spans(page):
            if span.startswith('-'):
                assert span.split()[0] in known, f'{page.name}: {span}'


def test_every_subcommand_is_described():
    described = re.findall(r'^\| `facesr (\w+)` \|', (ROOT / 'docs/tools.md').read_text(), re.MULTILINE)
    assert described == list(COMMANDS)


@each_page
def test_yaml(page):
    snippets = [yaml.safe_load(block) for block in blocks(page, 'yaml')]
    snippets += [yaml.safe_load(span) for span in spans(page) if re.match(r'[a-z_.0-9]+: \S', span)]
    options, known = load_yaml(ROOT / 'options/exp1_lsr.yml'), known_keys(SCHEMA)
    for snippet in map(nest, snippets):
        if snippet.keys() <= options.keys():
            VALIDATOR.validate(overlay(options, snippet))
        else:
            assert snippet.keys() <= known, snippet


@pytest.mark.parametrize('page', [page for page in PAGES if blocks(page, 'python')], ids=lambda page: page.name)
def test_python(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(LOSS_REGISTRY, '_obj_map', dict(LOSS_REGISTRY._obj_map))
    monkeypatch.setattr(detect, 'DETECTORS', dict(detect.DETECTORS))
    cv2.imwrite('photo.jpg', np.full((6, 8, 3), 128, np.uint8))
    shutil.copy(DEFAULT_WEIGHTS, 'net_g_best.pth')
    for block in blocks(page, 'python'):
        exec(compile(block, page.name, 'exec'), {'__name__': 'example'})
    if page == README:
        assert cv2.imread('photo_x4.png').shape == (24, 32, 3)

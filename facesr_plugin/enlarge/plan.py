"""Which picture file becomes which. Nothing heavy is imported: a wrong input is told before the network is loaded."""

import os
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from facesr_plugin.errors import UserError
from facesr_plugin.pictures.formats import READ, why_not

STDIO = Path('-')
SHOWN = 5  # names of files that are left out


@dataclass
class Plan:
    """What is to be done.

    Attributes:
        sources: The picture that each output file is made of.
        renamed: Output files that have another name than their picture, since that one was taken, and the picture.
        left_out: Files of the input folders that are not read: the reason.
    """

    sources: dict[Path, Path] = field(default_factory=dict)
    renamed: dict[Path, Path] = field(default_factory=dict)
    left_out: dict[Path, str] = field(default_factory=dict)

    def lines(self) -> list[str]:
        """Return what there is to tell: pictures under another name, files that are left out."""
        lines = [f'{path}: becomes {target}, another picture has its name' for target, path in self.renamed.items()]
        by_reason = defaultdict(list)
        for path, reason in self.left_out.items():
            by_reason[reason].append(str(path))
        for reason, names in sorted(by_reason.items()):
            more = f' and {len(names) - SHOWN} more' if len(names) > SHOWN else ''
            kinds = Counter(Path(name).suffix.lower() or 'no suffix' for name in names)
            counts = ', '.join(f'{count} {kind}' for kind, count in sorted(kinds.items()))
            lines.append(f'left out ({reason}): {counts}: {", ".join(names[:SHOWN])}{more}')
        return lines


def make_plan(inputs: Sequence[Path], output: Path, kind: str) -> Plan:
    """Return what becomes what; pictures of a folder keep their subfolders, and what is in `output` is no input.

    Pictures that would have one name get different ones: the one that has the format of the results keeps it, or the
    first; `a.jpg` becomes `a_jpg`, others get a number. A file that is named twice is done once.

    Raises:
        UserError: An input is missing or holds no picture, or an output file would replace an input.
    """
    plan, wanted = Plan(), {}
    for root in inputs:
        for path, name in _pictures(root, output, plan.left_out):
            wanted.setdefault(path if path == STDIO else path.resolve(), (path, _target(output, name, kind)))
    groups = defaultdict(list)
    for path, target in wanted.values():
        groups[target].append(path)
    for target, paths in groups.items():
        paths.sort(key=lambda path: path.suffix.lower() != f'.{kind}')  # stable: else the first keeps the name
        plan.sources[target] = paths[0]
    for target, paths in groups.items():
        for path in paths[1:]:
            free = next(name for name in _other_names(target, path, paths[0]) if name not in plan.sources)
            plan.sources[free] = plan.renamed[free] = path
    inputs_of = set(wanted)
    for target, path in plan.sources.items():
        if target.resolve() in inputs_of:
            raise UserError(f'{path}: another output folder expected, {target} is an input')
    return plan


def _pictures(root: Path, output: Path, left_out: dict[Path, str]) -> Iterator[tuple[Path, Path]]:
    """Yield the pictures of an input and the names that they have in the output folder."""
    if root == STDIO:
        yield root, Path('stdin')
        return
    if not os.path.exists(root):
        raise UserError(f'{root}: no such file or folder')
    if not root.is_dir():
        yield root, Path(root.name)
        return
    if output != STDIO and output.resolve() == root.resolve():
        raise UserError(f'{output}: another output folder than the input {root} expected')
    found = False
    for path in _files(root, output):
        if reason := why_not(path):
            left_out[path] = reason
        else:
            found = True
            yield path, path.relative_to(root)
    if not found:
        raise UserError(f'{root}: holds no image ({", ".join(READ)})')


def _files(root: Path, output: Path) -> Iterator[Path]:
    """Yield the files below a folder, sorted by path, without hidden ones and those in the output folder."""
    skipped = None if output == STDIO else output.resolve()
    files = []
    for folder, folders, names in os.walk(root, followlinks=False):
        here = Path(folder)
        folders[:] = [name for name in folders if not name.startswith('.') and (here / name).resolve() != skipped]
        files += [here / name for name in names if not name.startswith('.')]
    return iter(sorted(path for path in files if path.is_file()))


def _target(output: Path, name: Path, kind: str) -> Path:
    known = name.suffix.lower() in READ
    return output / (name.with_suffix(f'.{kind}') if known else name.with_name(f'{name.name}.{kind}'))


def _other_names(target: Path, path: Path, first: Path) -> Iterator[Path]:
    """Yield names for a picture whose own is taken."""
    if path.suffix != first.suffix:
        yield target.with_stem(f'{target.stem}_{path.suffix[1:]}')
    number = 2
    while True:
        yield target.with_stem(f'{target.stem}_{number}')
        number += 1

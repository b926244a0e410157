"""Option blocks as types: unknown keys and wrong values are refused, each problem in one line that names its key."""

import copy
import difflib
import math
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Self

from annotated_types import Len
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails

from facesr_plugin.errors import UserError


class StrictBlock(BaseModel):
    """A block of options; unknown keys and values of another type are errors, and it cannot be changed."""

    model_config = ConfigDict(extra='forbid', strict=True, frozen=True, allow_inf_nan=False)

    @classmethod
    def parse(cls, values: Mapping[str, Any], where: str = '') -> Self:
        """Check `values`; `where` is the path of the block in the option file, e.g. `train.alpha_opt`.

        Raises:
            UserError: One line per problem: `train.alpha_opt.start: expected ..., got ...`.
        """
        block, problems = cls.examine(values, where)
        if problems:
            raise UserError('\n'.join(problems))
        return block

    @classmethod
    def examine(cls, values: Mapping[str, Any], where: str = '') -> tuple[Self | None, list[str]]:
        """Check `values` as `parse` does, but return the problems.

        The rules of a block are checked once its values are right. So what is wrong is taken out, and the rest checked
        again, until nothing is left to object to. A rule then sees defaults for what was taken out: what it says is
        passed over if it names such a key. Only a wrong value that must be there hides its own block's rules.

        Returns:
            The block without what is wrong in it, None if that cannot be; and one line per problem.
        """
        rest, problems, taken_out = dict(values), {}, set()
        while True:
            try:
                return cls.model_validate(rest), list(problems.values())
            except ValidationError as error:
                found = [_Problem(detail, cls) for detail in error.errors()]
            if not problems:
                rest = copy.deepcopy(rest)
            found = [problem for problem in found if not problem.is_about(taken_out)]
            for path, line in _lines(found).items():
                problems.setdefault(path, '.'.join(filter(None, (where, line))))
            taken_out |= {name for problem in found for name in problem.names}
            if not any([_remove(rest, problem.path) for problem in found]):
                return None, list(problems.values())

    @classmethod
    def pick(cls, values: Mapping[str, Any]) -> Self:
        """Check those of `values` that are fields of this block and pass over the rest.

        Raises:
            UserError: As `parse`.
        """
        return cls.parse({key: value for key, value in values.items() if key in cls.model_fields})


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return the end of a line about a name that is not known: the one it is close to, or all that are.

    Example:
        >>> did_you_mean('strat', ['start', 'end'])
        ", did you mean 'start'?"
        >>> did_you_mean('middle', ['start', 'end'])
        ' (known: end, start)'
    """
    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=1)
    return f', did you mean {close[0]!r}?' if close else f' (known: {", ".join(known)})'


class _Problem:
    """One of pydantic's findings, in our words.

    Attributes:
        path: Of the key, in the block that was checked.
        line: The path, what was expected and what came.
        expected: That part of the line, where several findings on one key can be told in one line.
        names: The paths of the key and of the one that it may have been meant for.
    """

    def __init__(self, detail: ErrorDetails, block: type[BaseModel]) -> None:
        self.path = tuple(part for part in detail['loc'] if not _is_tag(part))
        self.expected, self.end = '', f', got {detail["input"]!r}{_note(detail)}'
        self.rule: str | None = None
        self.kind = detail['type']
        meant = ''
        match detail['type']:
            case 'extra_forbidden':
                text = did_you_mean(str(self.path[-1]), _fields_at(block, self.path[:-1]))
                meant = text.partition("'")[2].partition("'")[0]
                message = f'unknown option{text}'
            case 'missing':
                message = 'missing'
            case 'value_error' if isinstance(detail['input'], dict):  # a block's rule names the key itself
                self.rule = str(detail['ctx']['error'])
                name, _, message = self.rule.partition(': ')
                self.block = self.path
                self.path += tuple(name.split('.'))
            case 'value_error':
                message = f'{detail["ctx"]["error"]}{self.end}'
            case _ if detail['loc'][-1] == '[key]' or detail['type'] == 'invalid_key':
                self.path = (*self.path[:-1], detail['input'])
                message = f'a text expected as key{self.end}'
            case _:
                self.expected = _expected(detail)
                message = f'expected {self.expected}{self.end}'
        self.line = f'{".".join(map(str, self.path))}: {message}'
        self.names = [self.path[: depth + 1] for depth in range(len(self.path))]
        if meant:
            self.names.append((*self.path[:-1], meant))

    def is_about(self, taken_out: set[tuple]) -> bool:
        """Return whether this is said of a key that was taken out: by a rule, or because nothing is left there."""
        if self.kind in ('missing', 'too_short') and self.path in taken_out:
            return True
        if self.rule is None:
            return False
        names = {str(path[-1]) for path in taken_out if path[:-1] == self.block}
        return any(name.removesuffix('s') in self.rule for name in names)


def _lines(problems: list[_Problem]) -> dict[tuple, str]:
    """Return one line for each key that has problems, by its path."""
    lines: dict[tuple, str] = {}
    choices: dict[tuple, list[str]] = {}
    for problem in problems:
        lines[problem.path] = problem.line
        if problem.expected:  # one member of a union
            choices.setdefault(problem.path, []).append(problem.expected)
            key, expected = '.'.join(map(str, problem.path)), ' or '.join(choices[problem.path])
            lines[problem.path] = f'{key}: expected {expected}{problem.end}'
    return lines


def _expected(detail: ErrorDetails) -> str:
    if detail['type'] in ('model_type', 'dict_type'):
        return 'a dictionary of options'
    for kind, key, bound in (('too_short', 'min_length', 'at least'), ('too_long', 'max_length', 'at most')):
        if detail['type'] == kind:
            number = detail['ctx'][key]
            return f'{bound} {number} item{"" if number == 1 else "s"}'
    message = detail['msg'].removeprefix('Input should be ')
    return message.replace('a valid integer', 'a whole number').replace('a valid ', 'a ')


def _note(detail: ErrorDetails) -> str:
    """Explain text that looks like a number."""
    text = detail['input']
    if isinstance(text, str) and detail['type'] in ('float_type', 'int_type') and _is_number(text):
        return f' (YAML 1.1 reads {text} as text: write {float(text)!r} or !!float {text})'
    return ''


def _is_tag(part: str | int) -> bool:
    """Return whether a part of a path is no key but names a validator or the member of a union."""
    return isinstance(part, str) and ('[' in part or part in ('float', 'int', 'str', 'list', 'dict', 'bool', 'none'))


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _fields_at(block: type[BaseModel], path: Iterable[str | int]) -> list[str]:
    """Return the field names of the block that lies at `path` below `block`."""
    for part in path:
        field = block.model_fields.get(str(part))
        candidates = [] if field is None else [field.annotation, *getattr(field.annotation, '__args__', ())]
        block = next((c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel)), block)
    return list(block.model_fields)


def _remove(values: dict, path: tuple) -> bool:
    """Take what lies at `path` out, or the value that holds it if that is no block; return whether it was there."""
    *parents, last = path or (None,)
    for part in parents:
        if not isinstance(values.get(part), dict):
            last = part
            break
        values = values[part]
    if last not in values:
        return False
    del values[last]
    return True


def _ascending(values: list[float]) -> list[float]:
    if values[0] > values[1]:
        raise ValueError('expected [low, high] with low <= high')
    return values


def _probabilities(values: list[float]) -> list[float]:
    if min(values, default=-1) < 0 or abs(sum(values) - 1) > 1e-6:
        raise ValueError('expected probabilities that sum to 1')
    return values


def positive(values: list[float]) -> list[float]:
    """Validate that a range starts above 0."""
    if values[0] <= 0:
        raise ValueError('expected numbers above 0')
    return values


def _whole(value: Any) -> Any:
    """Take `!!float 5e3` for 5000, as BasicSR's own option files write large numbers."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


Probability = Annotated[float, Field(ge=0, le=1)]
Probabilities = Annotated[list[float], AfterValidator(_probabilities)]
Range = Annotated[list[float], Len(2, 2), AfterValidator(_ascending)]
Count = Annotated[int, Field(ge=0), BeforeValidator(_whole)]
PositiveCount = Annotated[int, Field(ge=1), BeforeValidator(_whole)]

"""Option blocks as types: what may stand in each, and what is wrong with one, a line for each key."""

import difflib
import math
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Self, Union, get_args

from annotated_types import Len
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    GetJsonSchemaHandler,
    Tag,
    ValidationError,
    model_serializer,
)
from pydantic_core import CoreSchema, ErrorDetails

from facesr_plugin.errors import UserError


class Block(BaseModel):
    """A block of options; unknown keys and values of another type are errors, and it cannot be changed.

    A rule between keys is a `field_validator` of the later one, which finds the earlier ones in `info.data`, as far as
    they are right. Defaults are validated too, so that it also runs where its own key is left out.
    """

    model_config = ConfigDict(extra='forbid', strict=True, frozen=True, allow_inf_nan=False, validate_default=True)

    @classmethod
    def parse(cls, values: Mapping[str, Any], where: str = '') -> Self:
        """Check `values`; `where` is the path of the block in the option file, e.g. `train.alpha_opt`.

        Raises:
            UserError: One line per problem: `train.alpha_opt.start: expected ..., got ...`.
        """
        try:
            return cls.model_validate(dict(values))
        except ValidationError as error:
            lines = _lines(error.errors(), cls)
            raise UserError('\n'.join('.'.join(filter(None, (where, line))) for line in lines)) from error

    @classmethod
    def pick(cls, values: Mapping[str, Any]) -> Self:
        """Check those of `values` that are fields of this block and pass over the rest.

        Raises:
            UserError: As `parse`.
        """
        return cls.parse({key: value for key, value in values.items() if key in cls.model_fields})


class OpenBlock(Block):
    """A block of a class that is not ours: its further keys are that class's business, and stay as they are."""

    model_config = ConfigDict(extra='allow')

    type: str

    @model_serializer
    def _as_it_is(self) -> dict[str, Any]:
        return {'type': self.type, **self.model_extra}


class RuleError(ValueError):
    """Raised by a rule that is about a key inside the value that it looks at.

    Args:
        key: Its path there, e.g. `periods`.
        message: What was expected, and what came.
    """

    def __init__(self, key: str, message: str) -> None:
        super().__init__(message)
        self.key = key


class ByType:
    """Blocks of which `type` says which class's options they are: ours for the types that they name, else open.

    Use: `network_g: ByType.of(FaceSRResNetOptions, MSRResNetOptions)`, or `one_of` where no other type is known.
    """

    def __init__(self, ours: tuple[type[Block], ...], is_open: bool) -> None:
        self.ours, self.is_open = ours, is_open

    @classmethod
    def of(cls, *ours: type[Block]) -> Any:
        """Return the annotation of a block of one of these or of any other type."""
        return cls(ours, is_open=True)._annotation()

    @classmethod
    def one_of(cls, *ours: type[Block]) -> Any:
        """Return the annotation of a block of one of these types."""
        return cls(ours, is_open=False)._annotation()

    def _annotation(self) -> Any:
        blocks = (*self.ours, OpenBlock) if self.is_open else self.ours
        members = tuple(Annotated[block, Tag(f'[{block.__name__}]')] for block in blocks)
        known = ' or '.join(repr(name) for block in self.ours for name in types_of(block))
        discriminator = Discriminator(
            self.choose, custom_error_type='unknown_type', custom_error_message=f'expected {known}'
        )
        return Annotated[Union[members], discriminator, self]  # noqa: UP007  (of a tuple)

    def choose(self, value: Any) -> str:
        """Return the tag of the block that a value is for; the first one tells what is wrong with other things."""
        name = value.get('type') if isinstance(value, dict) else getattr(value, 'type', None)
        if not isinstance(name, str):
            return f'[{self.ours[0].__name__}]'
        block = next((block for block in self.ours if name in types_of(block)), OpenBlock)
        return f'[{block.__name__}]'

    def __get_pydantic_json_schema__(self, core_schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        schema: Any = handler(OpenBlock.__pydantic_core_schema__) if self.is_open else False
        for block in reversed(self.ours):
            is_ours = {'properties': {'type': {'enum': list(types_of(block))}}, 'required': ['type']}
            schema = {'if': is_ours, 'then': handler(block.__pydantic_core_schema__), 'else': schema}
        return {'type': 'object', 'required': ['type'], **schema}


def types_of(block: type[Block]) -> tuple[str, ...]:
    """Return the classes that `block` has the options of."""
    return get_args(block.model_fields['type'].annotation)


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


# ------------------------------------------------------------------ what is wrong, in our words
def _lines(errors: list[ErrorDetails], block: type[Block]) -> list[str]:
    """Return one line for each key that pydantic objects to; of a union that is what any member expected."""
    lines: dict[tuple, str] = {}
    expected: dict[tuple, list[str]] = {}
    for error in errors:
        path = tuple(part for part in error['loc'] if not _is_tag(part))
        got = f', got {error["input"]!r}'
        match error['type']:
            case 'extra_forbidden':
                message = f'unknown option{did_you_mean(str(path[-1]), _fields_at(block, error["loc"][:-1]))}'
            case 'missing' | 'model_type' if error['input'] is None or error['type'] == 'missing':
                message = 'missing'
            case 'unknown_type':
                path, message = (*path, 'type'), f'{error["msg"]}, got {error["input"]["type"]!r}'
            case 'value_error' if isinstance(error['ctx']['error'], RuleError):
                path = (*path, *filter(None, [error['ctx']['error'].key]))
                message = str(error['ctx']['error'])
            case 'value_error':
                message = f'{error["ctx"]["error"]}{got}'
            case _ if error['loc'][-1] == '[key]' or error['type'] == 'invalid_key':
                path, message = (*path[:-1], error['input']), f'a text expected as key{got}'
            case _:
                choices = expected.setdefault(path, [])
                choices.append(_expected(error))
                message = f'expected {" or ".join(choices)}{got}{_note(error)}'
        lines[path] = f'{".".join(map(str, path))}: {message}'
    return list(lines.values())


def _is_tag(part: str | int) -> bool:
    """Return whether a part of a path is no key but names a validator or the member of a union."""
    return isinstance(part, str) and ('[' in part or part in ('float', 'int', 'str', 'list', 'dict', 'bool', 'none'))


def _fields_at(block: type[BaseModel], path: Iterable[str | int]) -> list[str]:
    """Return the field names of the block at `path`, in which tags name the members of unions."""
    for part in path:
        if f'{part}'.startswith('['):
            names = {cls.__name__: cls for cls in _subclasses(Block)}
            block = names.get(part.strip('[]'), block)
        elif part in block.model_fields:
            annotation = block.model_fields[part].annotation
            members = (annotation, *get_args(annotation), *(a for m in get_args(annotation) for a in get_args(m)))
            block = next((m for m in members if isinstance(m, type) and issubclass(m, BaseModel)), block)
    return list(block.model_fields)


def _subclasses(cls: type) -> list[type]:
    return [cls, *(deeper for below in cls.__subclasses__() for deeper in _subclasses(below))]


def _expected(error: ErrorDetails) -> str:
    if error['type'] in ('model_type', 'dict_type'):
        return 'a dictionary of options'
    for kind, key, bound in (('too_short', 'min_length', 'at least'), ('too_long', 'max_length', 'at most')):
        if error['type'] == kind:
            number = error['ctx'][key]
            return f'{bound} {number} item{"" if number == 1 else "s"}'
    message = error['msg'].removeprefix('Input should be ')
    return message.replace('a valid integer', 'a whole number').replace('a valid ', 'a ')


def _note(error: ErrorDetails) -> str:
    """Explain text that looks like a number."""
    text = error['input']
    if not isinstance(text, str) or error['type'] not in ('float_type', 'int_type'):
        return ''
    try:
        number = float(text)
    except ValueError:
        return ''
    return f' (YAML 1.1 reads {text} as text: write {number!r} or !!float {text})' if math.isfinite(number) else ''


# --------------------------------------------------------------------------- kinds of values
def _whole(value: Any) -> Any:
    """Take `!!float 5e3` for 5000, as BasicSR's own option files write large numbers."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _ascending(values: list[float]) -> list[float]:
    if values[0] > values[1]:
        raise ValueError('expected [low, high] with low <= high')
    return values


def _probabilities(values: list[float]) -> list[float]:
    if min(values, default=-1) < 0 or abs(sum(values) - 1) > 1e-6:
        raise ValueError('expected probabilities that sum to 1')
    return values


def _positive(values: list[float]) -> list[float]:
    if values[0] <= 0:
        raise ValueError('expected numbers above 0')
    return values


WHOLE = BeforeValidator(_whole)  # after the bounds: before them it would hide them from the JSON schema
Count = Annotated[int, Field(ge=0), WHOLE]
PositiveCount = Annotated[int, Field(ge=1), WHOLE]
PositiveNumber = Annotated[float, Field(gt=0)]
Probability = Annotated[float, Field(ge=0, le=1)]
Probabilities = Annotated[list[float], AfterValidator(_probabilities)]
Range = Annotated[list[float], Len(2, 2), AfterValidator(_ascending)]
PositiveRange = Annotated[Range, AfterValidator(_positive)]

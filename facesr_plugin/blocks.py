"""Option blocks as types: what may stand in each, and what is wrong with one, a line for each key."""

import difflib
import inspect
import math
import os
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any, ClassVar, Literal, Self, Union, get_args, get_origin

from annotated_types import Len
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    GetJsonSchemaHandler,
    Tag,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_serializer,
    model_validator,
)
from pydantic_core import CoreSchema, ErrorDetails

from facesr_plugin.errors import UserError, one_line


class Block(BaseModel):
    """A block of options; unknown keys and values of another type are errors, and it cannot be changed.

    A rule between keys is a `field_validator` of the later one, which finds the earlier ones in `info.data`, as far as
    they are right. Defaults are validated too, so that it also runs where its own key is left out.

    A float that is whole, as `!!float 5e3`, is taken for the integer wherever a field is one.
    """

    model_config = ConfigDict(extra='forbid', strict=True, frozen=True, allow_inf_nan=False, validate_default=True)

    @field_validator('*', mode='before')
    @classmethod
    def _plain(cls, value: Any, info: ValidationInfo) -> Any:
        return plain(value, cls.model_fields[info.field_name].annotation)

    @classmethod
    def parse(cls, values: Mapping[str, Any], where: str = '') -> Self:
        """Check `values`; `where` is the path of the block in the option file, e.g. `train.alpha_opt`.

        Raises:
            UserError: One line per problem: `train.alpha_opt.start: expected ..., got ...`.
        """
        try:
            return cls.model_validate(dict(values))
        except ValidationError as error:
            lines = map(one_line, _lines(error.errors(), cls))
            raise UserError('\n'.join('.'.join(filter(None, (where, line))) for line in lines)) from error

    @classmethod
    def pick(cls, values: Mapping[str, Any]) -> Self:
        """Check those of `values` that are fields of this block and pass over the rest.

        Raises:
            UserError: As `parse`.
        """
        return cls.parse({key: value for key, value in values.items() if key in cls.model_fields})


class RuleError(ValueError):
    """Raised by a rule that is about a key inside the value that it looks at.

    Args:
        key: Its path there, e.g. `periods`.
        message: What was expected, and what came.
    """

    def __init__(self, key: str, message: str) -> None:
        super().__init__(message)
        self.key = key


class OpenBlock(Block):
    """A block of a class that is not ours: its further keys are that class's business.

    They stay as they are, but for whole floats where its signature does not say that they are floats. A class that has
    an attribute `Options`, a type of `Block`, has them checked by that.

    Attributes:
        registry: Where the class is looked up by `type`; it has `in` and `get`.
    """

    model_config = ConfigDict(extra='allow')
    registry: ClassVar[Any] = None

    type: str

    @model_validator(mode='before')
    @classmethod
    def _as_its_class_says(cls, values: Any) -> Any:
        if not isinstance(values, dict) or not isinstance(name := values.get('type'), str):
            return values
        theirs = cls.registry.get(name) if cls.registry is not None and name in cls.registry else None
        own = options_of(theirs)
        if own is not None:
            asked = {
                key: value for key, value in values.items() if key not in cls.model_fields or key in own.model_fields
            }
            return values | own.parse(asked).model_dump()
        says = cls.annotations(theirs)
        read = {}
        for key, value in values.items():
            try:
                read[key] = plain(value, says.get(key, int))
            except ValueError as error:
                raise RuleError(str(key), f'{error}, got {value!r}') from error
        return read

    @classmethod
    def annotations(cls, theirs: Callable | None) -> dict[str, Any]:
        """Return what is known of the types of a class's options: annotations, or the type of a default."""
        if theirs is None:
            return {}

        def says(parameter: inspect.Parameter) -> Any:
            if parameter.annotation is not parameter.empty:
                return parameter.annotation
            default = (
                next(iter(parameter.default), None)
                if isinstance(parameter.default, list | tuple)
                else parameter.default
            )
            return int if default in (None, parameter.empty) else type(default)

        return {name: says(parameter) for name, parameter in inspect.signature(theirs).parameters.items()}

    @model_serializer
    def _as_it_is(self) -> dict[str, Any]:
        declared = {key: getattr(self, key) for key in type(self).model_fields}
        return {key: value for key, value in declared.items() if value is not None} | self.model_extra


def options_of(theirs: Any) -> type[Block] | None:
    """Return the typed block that a class declares for its options, if it does."""
    own = getattr(theirs, 'Options', None)
    return own if isinstance(own, type) and issubclass(own, Block) else None


class ByType:
    """Blocks of which `type` says which class's options they are: ours for the types that they name, else open.

    Use: `network_g: ByType.of(FaceSRResNetOptions, others=OpenNetwork)`, or `one_of` where no other type is known.
    """

    def __init__(self, ours: tuple[type[Block], ...], others: type[OpenBlock] | None) -> None:
        self.ours, self.others = ours, others

    @classmethod
    def of(cls, *ours: type[Block], others: type[OpenBlock] = OpenBlock) -> Any:
        """Return the annotation of a block of one of these or of any other type."""
        return cls(ours, others)._annotation()

    @classmethod
    def one_of(cls, *ours: type[Block]) -> Any:
        """Return the annotation of a block of one of these types."""
        return cls(ours, None)._annotation()

    def _annotation(self) -> Any:
        blocks = self.ours if self.others is None else (*self.ours, self.others)
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
        block = next((block for block in self.ours if name in types_of(block)), self.others or OpenBlock)
        return f'[{block.__name__}]'

    def __get_pydantic_json_schema__(self, core_schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        schema: Any = handler(self.others.__pydantic_core_schema__) if self.others else False
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
    ruled: set[tuple] = set()  # where a member of a union had the right type, and a rule of it said more
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
            case 'value_error' if isinstance(error['ctx']['error'], UserError):  # of a block that was checked alone
                for line in str(error['ctx']['error']).splitlines():
                    lines[*path, line] = '.'.join(map(str, (*path, line)))
                continue
            case 'value_error' if isinstance(error['ctx']['error'], RuleError):
                path = (*path, *filter(None, [error['ctx']['error'].key]))
                message = str(error['ctx']['error'])
            case 'value_error':
                message = f'{error["ctx"]["error"]}{got}'
                ruled.add(path)
            case _ if error['loc'][-1] == '[key]' or error['type'] == 'invalid_key':
                path, message = (*path[:-1], error['input']), f'a text expected as key{got}'
            case _ if path in ruled:
                continue
            case _:
                choices = expected.setdefault(path, [])
                choices.append(_expected(error))
                message = f'expected {" or ".join(choices)}{got}{_note(error)}'
        lines[path] = f'{".".join(map(str, path))}: {message}'
    return list(lines.values())


KINDS = ('float', 'int', 'str', 'list', 'dict', 'bool', 'none')  # that pydantic calls members of unions by


def _is_tag(part: str | int) -> bool:
    """Return whether a part of a path is no key but names a validator or the member of a union."""
    return isinstance(part, str) and ('[' in part or part.removeprefix('constrained-') in KINDS)


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
    """Explain text that looks like a number, and the other way round."""
    got = error['input']
    if error['type'] == 'string_type' and isinstance(got, int | float):
        return ' (quote it, so that YAML reads text)'
    if not isinstance(got, str) or error['type'] not in ('float_type', 'int_type'):
        return ''
    try:
        number = float(got)
    except ValueError:
        return ''
    if not math.isfinite(number):
        return ''
    number = int(number) if error['type'] == 'int_type' and number.is_integer() else number
    return f' (read as text: write {number!r})'


# --------------------------------------------------------------------------- kinds of values
_CONTROL = re.compile('[\x00-\x1f\x7f-\x9f\u2028\u2029]')


def plain(value: Any, annotation: Any = None) -> Any:
    r"""Return a value as a field takes it: a whole float as integer, e.g. `!!float 5e3`; no text of several lines.

    Args:
        value: As YAML has it; lists are looked into.
        annotation: The field's type, as far as it is known.

    Raises:
        ValueError: A text has control characters, which no option needs: `"C:\new"` in double quotes has a line break.

    Example:
        >>> plain(5e3, int), plain([1.0, 2.5], list[int]), plain(4.0, float)
        (5000, [1, 2.5], 4.0)
    """
    if isinstance(value, list):
        return [plain(item, annotation) for item in value]
    if isinstance(value, str) and _CONTROL.search(value):
        raise ValueError('expected text without control characters (in double quotes YAML reads \\n as a line break)')
    if isinstance(value, float) and value.is_integer() and _is_whole(annotation):
        return int(value)
    return value


def _is_whole(annotation: Any) -> bool:
    """Return whether a type takes integers and no floats."""
    if isinstance(annotation, str):  # of a module that postpones them
        return 'int' in annotation and 'float' not in annotation
    kinds = set(_leaves(annotation))
    return int in kinds and float not in kinds


def _leaves(annotation: Any) -> Iterable[type]:
    """Yield the plain types that an annotation is made of."""
    if get_origin(annotation) is Literal:
        yield from map(type, get_args(annotation))
    elif get_args(annotation):
        for part in get_args(annotation):
            yield from _leaves(part)
    elif isinstance(annotation, type):
        yield annotation


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


def _file_name(name: str) -> str:
    if os.path.basename(name) != name or name in ('', '.', '..'):
        raise ValueError('expected the name of a folder')
    if (length := len(os.fsencode(name))) > LONGEST_NAME:
        raise ValueError(f'expected a name of at most {LONGEST_NAME} bytes, this one has {length}')
    return name


def _path(path: str) -> str:
    """Fill in `~` and environment variables, unless there is a file of just this name."""
    if os.path.exists(path):
        return path
    filled = os.path.expanduser(os.path.expandvars(path))
    if missing := [name for name in re.findall(r'\$(\w+|\{[^}]*\})', filled) if name.strip('{}') not in os.environ]:
        raise ValueError(f'the environment variable {missing[0].strip("{}")} is not set')
    return filled


LONGEST_NAME = 200  # bytes; BasicSR adds to them, and file systems hold 255
Count = Annotated[int, Field(ge=0)]
PositiveCount = Annotated[int, Field(ge=1)]
PositiveNumber = Annotated[float, Field(gt=0)]
Probability = Annotated[float, Field(ge=0, le=1)]
Probabilities = Annotated[list[float], AfterValidator(_probabilities)]
Range = Annotated[list[float], Len(2, 2), AfterValidator(_ascending)]
PositiveRange = Annotated[Range, AfterValidator(_positive)]
FileName = Annotated[str, AfterValidator(_file_name)]
FilePath = Annotated[str, AfterValidator(_path)]

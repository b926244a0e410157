"""Option blocks as types: unknown keys and wrong values are refused, each problem in one line that names its key."""

import difflib
from collections.abc import Mapping
from typing import Annotated, Any, Self

from annotated_types import Len
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails

from facesr_plugin.errors import UserError


class StrictBlock(BaseModel):
    """A block of options; unknown keys and values of another type are errors, and it cannot be changed."""

    model_config = ConfigDict(extra='forbid', strict=True, frozen=True)

    @classmethod
    def parse(cls, values: Mapping[str, Any], where: str = '') -> Self:
        """Check `values`; `where` is the path of the block in the option file, e.g. `train.alpha_opt`.

        Raises:
            UserError: One line per problem: `train.alpha_opt.start: expected ..., got ...`.
        """
        try:
            return cls.model_validate(dict(values))
        except ValidationError as error:
            raise UserError('\n'.join(_one_line(detail, cls, where) for detail in error.errors())) from None

    @classmethod
    def pick(cls, values: Mapping[str, Any]) -> Self:
        """Check those of `values` that are fields of this block and pass over the rest.

        Raises:
            UserError: As `parse`.
        """
        return cls.parse({key: value for key, value in values.items() if key in cls.model_fields})


def _one_line(detail: ErrorDetails, block: type[BaseModel], where: str) -> str:
    """Word one of pydantic's findings: key path, what was expected, what came."""
    # Members of unions and validators add parts of their own to the path: tags like 'function-before[...]'.
    path = [str(part) for part in detail['loc'] if not (isinstance(part, str) and ('[' in part or part in _TYPE_TAGS))]
    key = '.'.join([where, *path]).strip('.') or 'options'
    value = detail['input']
    match detail['type']:
        case 'extra_forbidden':
            known = _fields_at(block, path[:-1])
            close = difflib.get_close_matches(path[-1], known, n=1)
            hint = f', did you mean {close[0]!r}?' if close else f' (known: {", ".join(sorted(known))})'
            return f'{key}: unknown option{hint}'
        case 'missing':
            return f'{key}: missing'
        case 'value_error':
            # A field's validator speaks of its value; a block's names the key itself.
            message = str(detail['ctx']['error'])
            if isinstance(value, dict):
                return '.'.join([where, *path, message]).strip('.')
            return f'{key}: {message}, got {value!r}'
    expected = (
        detail['msg']
        .removeprefix('Input should be ')
        .replace('a valid integer', 'a whole number')
        .replace('a valid ', 'a ')
    )
    note = ''
    if isinstance(value, str) and detail['type'] in ('float_type', 'int_type') and _is_number(value):
        note = f' (YAML 1.1 reads {value} as text: write {float(value)!r} or !!float {value})'
    return f'{key}: expected {expected}, got {value!r}{note}'


_TYPE_TAGS = ('float', 'int', 'str', 'list', 'dict', 'bool', 'none')


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _fields_at(block: type[BaseModel], path: list[str]) -> list[str]:
    """Return the field names of the block that lies at `path` below `block`."""
    for part in path:
        field = block.model_fields.get(part)
        candidates = [] if field is None else [field.annotation, *getattr(field.annotation, '__args__', ())]
        block = next((c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel)), block)
    return list(block.model_fields)


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
Count = Annotated[int, BeforeValidator(_whole), Field(ge=0)]
PositiveCount = Annotated[int, BeforeValidator(_whole), Field(ge=1)]

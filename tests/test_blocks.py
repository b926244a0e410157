from typing import Any, Literal

import pytest
from pydantic import Field, ValidationError, ValidationInfo, field_validator

from facesr_plugin.blocks import (
    Block,
    ByType,
    Count,
    OpenBlock,
    PositiveCount,
    Probabilities,
    Probability,
    Range,
    RuleError,
)
from facesr_plugin.errors import UserError


class Leaf(Block):
    """The innermost block."""

    lr: float = 0.1
    betas: list[float] = Field([0.9, 0.999])


class Branch(Block):
    """A block with blocks inside, one of them optional."""

    kind: Literal['a', 'b'] = 'a'
    leaf: Leaf = Leaf()
    spare: Leaf | None = None
    low: int = 0
    high: int = 1

    @field_validator('high')
    @classmethod
    def _is_above(cls, high: int, info: ValidationInfo) -> int:
        if 'low' in info.data and high < info.data['low']:
            raise ValueError(f'at least low = {info.data["low"]} expected')
        return high


class Circle(Block):
    """A block of one type."""

    type: Literal['Circle', 'Disk']
    radius: float = 1.0


class Square(Block):
    """A block of another."""

    type: Literal['Square']
    side: float


class Root(Block):
    """The top level."""

    name: str
    steps: PositiveCount = 1
    workers: Count = 0
    gpus: Count | Literal['auto'] = 'auto'
    chance: Probability = 0.5
    shares: Probabilities = Field([1.0])
    span: Range = Field([0.0, 1.0])
    flag: bool = False
    size: float = Field(1.0, gt=0)
    branch: Branch = Branch()
    branches: dict[str, Branch] = Field({})
    shape: ByType.one_of(Circle, Square) | None = None
    any_shape: ByType.of(Circle, Square) | None = None

    @field_validator('branch')
    @classmethod
    def _has_few_betas(cls, branch: Branch, info: ValidationInfo) -> Branch:
        if len(branch.leaf.betas) > info.data.get('steps', 9) + 1:
            raise RuleError('leaf.betas', f'at most steps + 1 expected, got {len(branch.leaf.betas)}')
        return branch


def problems(where: str = '', **values: Any) -> list[str]:
    with pytest.raises(UserError) as error:
        Root.parse({'name': 'x', **values}, where)
    return str(error.value).splitlines()


def test_parse():
    root = Root.parse({'name': 'x', 'size': 2, 'branch': {'kind': 'b', 'leaf': {'lr': 1e-3}}})
    assert (root.size, root.branch.kind, root.branch.leaf.lr, root.branch.leaf.betas) == (2, 'b', 1e-3, [0.9, 0.999])


def test_values_are_left_alone():
    values = {'name': 'x', 'branch': {'leaf': {'lr': 1}}}
    Root.parse(values)
    assert values == {'name': 'x', 'branch': {'leaf': {'lr': 1}}}


def test_whole_floats_are_counts():
    root = Root.parse({'name': 'x', 'steps': 5.0, 'workers': 5.0, 'gpus': 5.0})
    assert [root.steps, root.workers, root.gpus] == [5, 5, 5]
    assert {type(number) for number in (root.steps, root.workers, root.gpus)} == {int}


def test_unchangeable():
    with pytest.raises(ValidationError, match='frozen'):
        Leaf().lr = 3


def test_pick_passes_over_the_rest():
    assert Leaf.pick({'lr': 0.5, 'name': 'x', 'epochs': 3}) == Leaf(lr=0.5)
    with pytest.raises(UserError, match=r"^lr: expected a number, got 'fast'$"):
        Leaf.pick({'lr': 'fast', 'name': 'x'})


@pytest.mark.parametrize(
    ('values', 'message'),
    [
        ({'step': 3}, "step: unknown option, did you mean 'steps'?"),
        ({'branch': {'knd': 'a'}}, "branch.knd: unknown option, did you mean 'kind'?"),
        ({'branch': {'leaf': {'beta': [1]}}}, "branch.leaf.beta: unknown option, did you mean 'betas'?"),
        ({'branch': {'spare': {'lrs': 1}}}, "branch.spare.lrs: unknown option, did you mean 'lr'?"),
        ({'branch': {'leaf': {'zzz': 1}}}, 'branch.leaf.zzz: unknown option (known: betas, lr)'),
    ],
)
def test_unknown_key(values, message):
    assert problems(**values) == [message]


@pytest.mark.parametrize(
    ('values', 'message'),
    [
        ({'name': 20240101}, 'name: expected a string, got 20240101 (quote it, so that YAML reads text)'),
        (
            {'steps': '010'},
            "steps: expected a whole number, got '010' (read as text: write 10)",
        ),
        ({'steps': 2.5}, 'steps: expected a whole number, got 2.5'),
        ({'steps': 0}, 'steps: expected greater than or equal to 1, got 0'),
        ({'workers': -1}, 'workers: expected greater than or equal to 0, got -1'),
        ({'flag': 'yes'}, "flag: expected a boolean, got 'yes'"),
        ({'flag': 1}, 'flag: expected a boolean, got 1'),
        ({'chance': 1.1}, 'chance: expected less than or equal to 1, got 1.1'),
        ({'size': 0}, 'size: expected greater than 0, got 0'),
        ({'branch': {'kind': 'c'}}, "branch.kind: expected 'a' or 'b', got 'c'"),
        ({'branch': {'leaf': {'betas': [0.9, None]}}}, 'branch.leaf.betas.1: expected a number, got None'),
        ({'branches': {'first': {'low': 'x'}}}, "branches.first.low: expected a whole number, got 'x'"),
    ],
)
def test_wrong_value(values, message):
    assert problems(**values) == [message]


def test_a_block_where_a_value_came():
    (line,) = problems(branch={'leaf': 3})
    assert line.startswith('branch.leaf: expected a dictionary')
    assert line.endswith(', got 3')


@pytest.mark.parametrize('text', ['1e-4', '5e3', '1E5'])
def test_number_that_yaml_reads_as_text(text):
    hint = f'(read as text: write {float(text)!r})'
    assert problems(branch={'leaf': {'lr': text}}) == [f'branch.leaf.lr: expected a number, got {text!r} {hint}']


def test_text_that_is_no_number_gets_no_hint():
    assert problems(branch={'leaf': {'lr': 'fast'}}) == ["branch.leaf.lr: expected a number, got 'fast'"]


@pytest.mark.parametrize('shares', [[0.5, 0.4], [0.5, 0.6], [1.5, -0.5], []])
def test_probabilities_sum_to_one(shares):
    assert problems(shares=shares) == [f'shares: expected probabilities that sum to 1, got {shares!r}']


def test_probabilities_may_be_rounded():
    assert Root.parse({'name': 'x', 'shares': [1 / 3, 1 / 3, 0.3333333]}).shares[2] == 0.3333333


def test_range_reversed():
    assert problems(span=[2, 1]) == ['span: expected [low, high] with low <= high, got [2, 1]']
    assert Root.parse({'name': 'x', 'span': [2, 2]}).span == [2, 2]


@pytest.mark.parametrize('span', [[1], [1, 2, 3]])
def test_range_has_two_ends(span):
    (line,) = problems(span=span)
    assert line.startswith('span: ')
    assert line.endswith(f', got {span}')


def test_missing():
    with pytest.raises(UserError, match=r'^name: missing$'):
        Root.parse({})


def test_a_rule_is_told_at_the_later_key():
    assert problems(branch={'low': 3}) == ['branch.high: at least low = 3 expected, got 1']


def test_a_rule_about_a_key_inside():
    assert problems(branch={'leaf': {'betas': [0, 0, 0]}}) == ['branch.leaf.betas: at most steps + 1 expected, got 3']


def test_a_rule_passes_over_what_is_wrong():
    assert problems(branch={'low': 3.5, 'high': -1}) == ['branch.low: expected a whole number, got 3.5']


# ---------------------------------------------------------------------- blocks by type
def test_by_type():
    root = Root.parse({'name': 'x', 'shape': {'type': 'Disk'}, 'any_shape': {'type': 'Star', 'points': None}})
    assert root.shape == Circle(type='Disk')
    assert isinstance(root.any_shape, OpenBlock)
    dump = root.model_dump(exclude_none=True)
    assert dump['shape'] == {'type': 'Disk', 'radius': 1.0}
    assert dump['any_shape'] == {'type': 'Star', 'points': None}  # it stays as it is


@pytest.mark.parametrize(
    ('block', 'line'),
    [
        ({'type': 'Star'}, "shape.type: expected 'Circle' or 'Disk' or 'Square', got 'Star'"),
        ({'type': 'Circle', 'side': 1}, 'shape.side: unknown option (known: radius, type)'),
        ({'type': 'Square'}, 'shape.side: missing'),
        ({'radius': 1.0}, 'shape.type: missing'),
        ({'type': 3}, "shape.type: expected 'Circle' or 'Disk', got 3"),
        ('Circle', "shape: expected a dictionary of options, got 'Circle'"),
    ],
)
def test_wrong_block_by_type(block, line):
    assert problems(shape=block) == [line]


def test_where_comes_first():
    lines = problems('datasets.train', step=3, branch={'low': 3})
    assert sorted(lines) == [
        'datasets.train.branch.high: at least low = 3 expected, got 1',
        "datasets.train.step: unknown option, did you mean 'steps'?",
    ]


def test_several_problems_one_line_each():
    lines = problems(step=3, chance=2, branch={'leaf': {'lr': '1e-4', 'betaz': 1}})
    assert [line.split(':')[0] for line in sorted(lines)] == ['branch.leaf.betaz', 'branch.leaf.lr', 'chance', 'step']

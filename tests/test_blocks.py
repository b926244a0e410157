from typing import Any, Literal

import pytest
from pydantic import Field, ValidationError, model_validator

from facesr_plugin.blocks import Block, Count, PositiveCount, Probabilities, Probability, Range
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

    @model_validator(mode='after')
    def _check(self) -> 'Branch':
        if self.low > self.high:
            raise ValueError(f'low: at most high = {self.high} expected, got {self.low}')
        return self


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
        ({'name': 5}, 'name: expected a string, got 5'),
        (
            {'steps': '10'},
            "steps: expected a whole number, got '10' (YAML 1.1 reads 10 as text: write 10.0 or !!float 10)",
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
    hint = f'(YAML 1.1 reads {text} as text: write {float(text)!r} or !!float {text})'
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


def test_block_rule_names_its_key():
    assert problems(branch={'low': 3}) == ['branch.low: at most high = 1 expected, got 3']


def test_where_comes_first():
    lines = problems('datasets.train', step=3, branch={'low': 3})
    assert sorted(lines) == [
        'datasets.train.branch.low: at most high = 1 expected, got 3',
        "datasets.train.step: unknown option, did you mean 'steps'?",
    ]


def test_several_problems_one_line_each():
    lines = problems(step=3, chance=2, branch={'leaf': {'lr': '1e-4', 'betaz': 1}})
    assert [line.split(':')[0] for line in sorted(lines)] == ['branch.leaf.betaz', 'branch.leaf.lr', 'chance', 'step']

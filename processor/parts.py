"""What the parts of a checkpoint must be: the only place that says it, for files of runs and of strangers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeInt,
    PositiveInt,
    TypeAdapter,
    ValidationError,
)
from torch import Tensor

from .errors import CheckpointError, shown

STRICT = ConfigDict(strict=True, arbitrary_types_allowed=True)


def _plain(value: Any) -> Any:
    """ValueError where something else than plain values is in it."""
    if isinstance(value, (dict, list, tuple)):
        for part in [*value, *value.values()] if isinstance(value, dict) else value:
            _plain(part)
    elif not (value is None or isinstance(value, (bool, int, float, str))):
        raise ValueError(f"a {type(value).__name__} is in it, wanted plain values")
    return value


def _weights(values: dict[str, Any]) -> dict[str, Any]:
    """ValueError where one is no tensor; what a user's module keeps besides (``get_extra_state``) may be."""
    for name, value in values.items():
        if not isinstance(value, Tensor) and not name.endswith("_extra_state"):
            raise ValueError(f"{name} is a {type(value).__name__}, wanted a tensor")
    return values


class _Best(BaseModel):
    """The best epoch so far."""

    model_config = STRICT
    value: float
    epoch: int
    split: str
    test: float


class _Optimizer(BaseModel):
    """The state of an optimiser of torch's."""

    model_config = STRICT
    param_groups: list[dict[str, Any]]
    state: dict[int, dict[str, Tensor | float | None]]


Keys = dict[str, Any]
Plain = Annotated[Keys, AfterValidator(_plain)]
Weights = Annotated[Keys, AfterValidator(_weights)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Shape = Annotated[tuple[PositiveInt, PositiveInt, PositiveInt, PositiveInt], Field(strict=False)]  # JSON has lists

# Of each part. One that is not there is no error here; who needs it names it.
KINDS: dict[str, Any] = {
    "model": Weights,
    "optimizer": _Optimizer,
    "mixer": Keys,
    "epoch": NonNegativeInt,
    "meter": Keys,
    "meter.steps": NonNegativeInt,
    "meter.loss": float,
    "meter.mix_loss": float,
    "meter.correct": NonNegativeInt,
    "meter.seen": NonNegativeInt,
    "meter.seconds": float,
    "best": _Best | Annotated[Keys, Field(max_length=0)],
    "metrics": dict[int, int | None],
    "average": Weights,
    "data": str,
    "weights": str | None,
    "threads": PositiveInt,
    "config": Plain,
    "origin": Plain,
    "card": Keys,
    "card.sample_shape": Shape,
    "card.dims": PositiveInt,
    "card.class_names": list[str],
    "card.class_counts": list[NonNegativeInt],
    "card.layout": str | Plain | None,
    "card.view": Keys | None,
    "card.baseline": Tensor | None,
    "card.spread": Annotated[Finite, Field(ge=0)] | None,
    "card.temperature": Annotated[Finite, Field(gt=0)],
    "card.version": str,
}


def _checker(kind: Any) -> TypeAdapter[Any]:
    is_model = isinstance(kind, type) and issubclass(kind, BaseModel)
    return TypeAdapter(kind) if is_model else TypeAdapter(kind, config=STRICT)


CHECKERS = {name: _checker(kind) for name, kind in KINDS.items()}


def check_parts(path: object, state: Mapping[str, Any], *needed: str) -> None:
    """Looks at the kinds of the parts that a checkpoint has.

    Args:
        path: of the file, for messages.
        needed: parts that must be there.

    Raises:
        CheckpointError: a part is missing, or is of another kind.
    """
    missing = [name for name in needed if name not in state]
    if missing:
        raise CheckpointError(
            f"checkpoint {path} has no {', '.join(missing)}: it is of an older version, or weights alone"
        )
    for name, checker in CHECKERS.items():
        part, _, field = name.partition(".")
        values = state[part] if field and part in state else state
        if (field or part) not in values:
            continue
        try:
            checker.validate_python(values[field or part])
        except ValidationError as error:
            problem, *others = error.errors(include_url=False)
            place = name if others else ".".join([name, *map(str, problem["loc"])])
            reason = " or ".join(dict.fromkeys(one["msg"] for one in [problem, *others[:2]]))
            raise CheckpointError(
                f"checkpoint {path} is damaged or not of this program: {place}: {reason}; "
                f"got {shown(problem['input'])}. Use another one"
            ) from None


@contextmanager
def restoring(path: object) -> Iterator[None]:
    """Turns what goes wrong in the block into a CheckpointError: its parts are of the right kinds, but do not fit."""
    try:
        yield
    except CheckpointError:
        raise
    except (LookupError, TypeError, ValueError, RuntimeError, AttributeError) as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise CheckpointError(f"checkpoint {path} does not fit this run: {reason[:500]}") from error

"""What a field of the settings table says about itself, and what follows from that."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import MISSING, Field, dataclass, fields
from enum import Enum
from typing import Annotated, Any, get_args, get_origin, get_type_hints

from kilroy_engine.settings.kinds import Kind, kind_of


class Topic(Enum):
    """Below which heading ``kilroy run --help`` shows a flag. ``kilroy resume`` has the flags of WORKERS and LIMITS: what a run
    is called and where it works are decided once. Whoever looks after the place of work of a run reads those of PLACE."""

    RUN = "The run"
    PLACE = "Where it works"
    WORKERS = "Who does the work"
    LIMITS = "Limits"


@dataclass(frozen=True)
class LeftOut:
    """A place that a setting is not given in: why, and the name of what is there ``instead``."""

    why: str
    instead: str = ""


class Inherited(Enum):
    """A child pipeline has the value of the run around it."""

    FROM_RUN = "from the run around it"


@dataclass(frozen=True)
class Setting:
    """One setting, or one option of a single start.

    Names follow from the field's, here ``stage_timeout_s``: the form and the flow's ``options`` have ``stage_timeout``, the
    command has ``--stage-timeout``, the environment ``KILROY_STAGE_TIMEOUT``, unless ``option``, ``flag`` or ``environment``
    say why not. What is no option has no flag.

    ``title`` is shown by the form, ``meaning`` by the form, the command's help and the reference page. ``key`` is the dotted
    key of ``run.yaml`` and of ``run_config.json``; empty: the name that the form has. ``unoffered`` are words of a choice that
    the form and the command do not offer. ``in_child`` is the value that a child pipeline has, whatever the run around it has.
    """

    title: str
    meaning: str
    topic: Topic
    key: str = ""
    option: LeftOut | None = None
    flag: LeftOut | None = None
    environment: LeftOut | None = None
    unoffered: tuple[str, ...] = ()
    in_child: object = Inherited.FROM_RUN


@dataclass(frozen=True)
class NoSetting:
    """A field that nobody can set: what it holds."""

    what: str


@dataclass(frozen=True)
class Row:
    """A field of the table with everything that follows from it. ``option``, ``flag`` and ``environment`` are empty where the
    setting cannot be given; ``parameter`` and ``flag_shown`` are then what is there instead, if anything is."""

    name: str
    setting: Setting
    kind: Kind
    default: object
    option: str
    flag: str
    environment: str
    key: str

    @property
    def choices(self) -> tuple[str, ...]:
        """The words that form and command offer."""
        return tuple(word for word in self.kind.choices if word not in self.setting.unoffered)

    @property
    def parameter(self) -> str:
        """The parameter of the flow, or of its ``options``."""
        return self.option or _instead(self.setting.option)

    @property
    def flag_shown(self) -> str:
        """The option of ``kilroy run`` that says it."""
        return self.flag or _instead(self.setting.flag)

    @property
    def default_text(self) -> str:
        """The default as people write it; empty where nothing is the default."""
        match self.default:
            case None:
                return "no limit"
            case bool():
                return "on" if self.default else "off"
            case float():
                units = (f"{self.default / size:g}{unit}" for unit, size in _UNITS if self.default % size == 0)
                return next(units, f"{self.default:g}s")
            case _:
                return str(self.default or "")


_UNITS = (("d", 86400), ("h", 3600), ("m", 60))


def rows_of(table: type) -> tuple[Row, ...]:
    """The rows of a table: a frozen dataclass with a :class:`Setting` at each field.

    Raises:
        TypeError: A field says nothing about itself, or something that cannot be.
    """
    hints = get_type_hints(table, include_extras=True)
    return tuple(_rows(fields(table), hints))


def _rows(of_table: tuple[Field[Any], ...], hints: dict[str, Any]) -> Iterator[Row]:
    for field in of_table:
        annotation = hints[field.name]
        said = get_args(annotation)[1:] if get_origin(annotation) is Annotated else ()
        if any(isinstance(word, NoSetting) for word in said):
            continue
        setting = next((word for word in said if isinstance(word, Setting)), None)
        if setting is None:
            raise TypeError(f"{field.name} says nothing about itself: annotate it with Setting(...) or NoSetting(...)")
        yield _row(field, setting, kind_of(annotation))


def _row(field: Field[Any], setting: Setting, kind: Kind) -> Row:
    default = field.default if field.default_factory is MISSING else field.default_factory()
    name = field.name.removesuffix("_s") if kind.milliseconds else field.name
    option = "" if setting.option else name
    row = Row(
        name=field.name,
        setting=setting,
        kind=kind,
        default=default,
        option=option,
        flag="" if setting.flag or not option else f"--{name.replace('_', '-')}",
        environment="" if setting.environment else f"KILROY_{name.upper()}",
        key=setting.key or name,
    )
    if row.option and kind.form is None:
        raise TypeError(f"{field.name}: no form offers values of its type; say why it is left out: option=LeftOut(...)")
    if row.key.endswith("_ms") != kind.milliseconds:
        raise TypeError(f"{field.name}: the key {row.key} of a time ends in _ms, and no other key does")
    return row


def _instead(left_out: LeftOut | None) -> str:
    return left_out.instead if left_out else ""

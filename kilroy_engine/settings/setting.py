"""The description of one setting, written at its field in the settings table, and the names that follow from it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import MISSING, Field, dataclass, fields
from enum import Enum
from typing import Annotated, Any, get_args, get_origin, get_type_hints

from kilroy_engine.settings.kinds import Kind, kind_of


class Topic(Enum):
    """The heading under which ``kilroy run --help`` shows a setting's flag.

    ``kilroy resume`` has the flags of WORKERS and LIMITS only: a resume keeps the run's name and place of work.
    The workspace reads the settings of PLACE from ``run_config.json``.
    """

    RUN = "The run"
    PLACE = "Where it works"
    WORKERS = "Who does the work"
    LIMITS = "Limits"


@dataclass(frozen=True)
class LeftOut:
    """Says why a setting has no form entry, no flag or no environment name. ``instead`` is the name to use there, if any."""

    why: str
    instead: str = ""


class Inherited(Enum):
    """Marks a setting whose value a child pipeline takes from the run around it."""

    FROM_RUN = "from the run around it"


@dataclass(frozen=True)
class Setting:
    """Describes one setting of a run, or one option of a single start.

    The other names follow from the field's name. For the field ``stage_timeout_s``, the run form and the flow's ``options``
    have ``stage_timeout``, the command has ``--stage-timeout``, the environment has ``KILROY_STAGE_TIMEOUT``. ``option``,
    ``flag`` and ``environment`` say why a name is left out. A setting without an option has no flag.

    The form shows ``title``. The form, the command's help and the reference page show ``meaning``. ``key`` is the dotted key in
    ``run.yaml`` and ``run_config.json``; if empty, the key is the option's name. ``unoffered`` are words of a ``Literal`` that
    the form and the command do not offer. ``in_child`` is the value in every child pipeline.
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
    """Marks a field that nobody can set. ``what`` says what the field holds."""

    what: str


@dataclass(frozen=True)
class Row:
    """A field of the settings table with its names, its kind and its default.

    ``option``, ``flag`` and ``environment`` are empty where the setting has no such name.
    """

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
        """The words that the form and the command offer for this setting."""
        return tuple(word for word in self.kind.choices if word not in self.setting.unoffered)

    @property
    def parameter(self) -> str:
        """The option's name, or the name of the flow's parameter in its place; may be empty."""
        return self.option or _instead(self.setting.option)

    @property
    def flag_shown(self) -> str:
        """The flag of ``kilroy run``, or the flag to use in its place; may be empty."""
        return self.flag or _instead(self.setting.flag)

    @property
    def default_text(self) -> str:
        """The default in the notation of users, such as ``20m``; empty for an empty default."""
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
    """The rows of ``table``, a frozen dataclass with a :class:`Setting` or :class:`NoSetting` at each field.

    Raises:
        TypeError: A field has neither of the two, or its description contradicts its kind.
    """
    hints = get_type_hints(table, include_extras=True)
    return tuple(_rows(fields(table), hints))


def _rows(of_table: tuple[Field[Any], ...], hints: dict[str, Any]) -> Iterator[Row]:
    for field in of_table:
        annotation = hints[field.name]
        metadata = get_args(annotation)[1:] if get_origin(annotation) is Annotated else ()
        if any(isinstance(entry, NoSetting) for entry in metadata):
            continue
        setting = next((entry for entry in metadata if isinstance(entry, Setting)), None)
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

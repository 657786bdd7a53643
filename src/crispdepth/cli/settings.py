"""Changing values of a config by name, where there are too many for flags of their own."""

from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from crispdepth.cli.errors import UsageError

Config = TypeVar("Config")


def with_settings(config: Config, settings: Sequence[str], flag: str) -> Config:
    """The config with settings such as ``peak=0``, ``masks.guide=false`` or ``planes=32,8``.

    Args:
        config: a dataclass of booleans, numbers, words, tuples of numbers, and such dataclasses.
        settings: NAME=VALUE, a dot before the names of an inner dataclass.
        flag: what errors call the option.

    Raises:
        UsageError: there is no such name, or it has no such value.
    """
    for setting in settings:
        name, _, text = setting.partition("=")
        config = _changed(config, name.split("."), text, f"{flag} {setting}")
    return config


def preset_with_settings(
    presets: Mapping[str, Config], preset: str, settings: Sequence[str]
) -> Config:
    """The preset of that name (`--preset`) with settings (`--network`), see `with_settings`.

    Raises:
        UsageError: there is no such preset, or as `with_settings`.
    """
    if preset not in presets:
        raise UsageError(f"There is no preset {preset!r}; choose one of {', '.join(presets)}.")
    return with_settings(presets[preset], settings, "--network")


def _changed(config: Any, path: Sequence[str], text: str, label: str) -> Any:
    names = [field.name for field in fields(config)]
    name, *inner = path
    if name not in names:
        raise UsageError(f"{label}: the names are {', '.join(names)}.")
    value = getattr(config, name)
    if is_dataclass(value):
        if not inner:
            below = ", ".join(f"{name}.{field.name}" for field in fields(value))
            raise UsageError(f"{label}: say which of {below}.")
        return replace(config, **{name: _changed(value, inner, text, label)})
    if inner:
        raise UsageError(f"{label}: {name} has no parts.")
    return replace(
        config, **{name: _parsed(name, value, get_type_hints(type(config))[name], text, label)}
    )


def _parsed(name: str, value: Any, hint: Any, text: str, label: str) -> Any:
    """The text as a value of the kind that is there."""
    if get_origin(hint) is Literal:
        if text not in get_args(hint):
            raise UsageError(f"{label}: choose one of {', '.join(map(str, get_args(hint)))}.")
        return text
    if isinstance(value, bool):
        if text not in ("true", "false"):
            raise UsageError(f"{label}: {name} must be true or false.")
        return text == "true"
    try:
        if isinstance(value, tuple):
            parts = tuple(type(value[0])(part) for part in text.split(","))
            if len(parts) != len(value):
                raise ValueError
            return parts
        return type(value)(text)
    except ValueError:
        wanted = "a whole number" if isinstance(value, int) else "a number"
        if isinstance(value, tuple):
            wanted = f"{len(value)} numbers, a comma between them"
        raise UsageError(f"{label}: {name} must be {wanted}.") from None

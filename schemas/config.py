"""The settings loader: defaults < file < environment < flags, each value with where it came from."""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, get_args

from pydantic import BaseModel, BeforeValidator, SecretStr, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from schemas.errors import SettingsError
from schemas.setting_types import parse_duration
from schemas.settings import Settings

ENVIRONMENT_PREFIX = "TIERSTREAM_"
NOT_SETTINGS_PREFIX = "TIERSTREAM_TEST_"
"""Variables of the test suite, which the loader passes over."""

FLAGS = {
    "kafka.bootstrap_servers": "--bootstrap-servers",
    "data_dir": "--data-dir",
    "web.port": "--web-port",
    "broker.port": "--broker-port",
    "broker.kind": "--broker",
    "serving.port": "--port",
}
"""The flag of a setting, where it is not the key itself."""


_NUMBER = re.compile(r"-?\d+(\.\d+)?")


@dataclass(frozen=True, slots=True)
class LoadedSettings:
    """Settings with the origin of every value."""

    settings: Settings
    sources: dict[str, str]
    """By dotted key: `default`, `file PATH`, `environment NAME` or `flag --NAME`."""
    file: Path | None = None
    """The settings file, where one was given."""


@dataclass(frozen=True, slots=True)
class _Given:
    value: Any
    source: str
    is_text: bool = False
    """Whether the value comes from where there is nothing but text."""


def load(config_file: Path | None, environ: Mapping[str, str], overrides: Mapping[str, Any]) -> LoadedSettings:
    """Build the settings from the shipped defaults, a file, the environment and flags, the last one winning.

    Args:
        config_file: a TOML file, or None.
        environ: variables, of which those that start with `TIERSTREAM_` are settings.
        overrides: values of flags by dotted key; None means that the flag was not given.

    Raises:
        SettingsError: a key is unknown or a value cannot be; in one line, without secrets.
    """
    fields = dict(setting_fields())
    given: dict[str, _Given] = {}
    _merge(given, fields, _read_toml(resources.files("config").joinpath("default.toml").read_text("utf-8"), "default"))
    if config_file is not None:
        _merge(given, fields, _read_toml(_read_file(config_file), f"file {config_file}"))
    _merge(given, fields, _from_environment(environ))
    flags = {key: value for key, value in overrides.items() if value is not None}
    _merge(given, fields, {key: _Given(value, f"flag {FLAGS.get(key, key)}") for key, value in flags.items()})
    sources = {key: given[key].source if key in given else "default" for key in fields}
    return LoadedSettings(_validate(given, fields), sources, config_file)


def cache_folder(settings: Settings, environ: Mapping[str, str] = os.environ) -> Path:
    """Return the folder of downloads: `cache_dir`, or `tierstream` in the user's cache folder."""
    if settings.cache_dir is not None:
        return Path(settings.cache_dir)
    home = environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "tierstream"


def setting_fields(model: type[BaseModel] = Settings, prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """Yield every setting's dotted key with its field, in the order of the model."""
    for name, field in model.model_fields.items():
        annotation = field.annotation
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            yield from setting_fields(annotation, f"{prefix}{name}.")
        else:
            yield prefix + name, field


def setting_value(settings: Settings, key: str) -> Any:
    """Return the value of a dotted key; a secret reads as asterisks."""
    value: Any = settings
    for part in key.split("."):
        value = getattr(value, part)
    return str(value) if isinstance(value, SecretStr) else value


def _read_file(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise SettingsError(
            f"settings file {path} cannot be read: {reason}", "give another one with --config"
        ) from error


def _read_toml(text: str, source: str) -> dict[str, _Given]:
    try:
        content = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise SettingsError(f"{source} is not TOML: {_one_line(str(error))}", "fix the line that is named") from error
    return {key: _Given(value, source) for key, value in _flatten(content)}


def _one_line(text: str) -> str:
    """Return text with what would move a cursor escaped: names in files and variables are anybody's."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text)


def _flatten(content: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in content.items():
        if isinstance(value, dict):
            yield from _flatten(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def _from_environment(environ: Mapping[str, str]) -> dict[str, _Given]:
    names = [n for n in environ if n.startswith(ENVIRONMENT_PREFIX) and not n.startswith(NOT_SETTINGS_PREFIX)]
    return {
        name.removeprefix(ENVIRONMENT_PREFIX).lower().replace("__", "."): _Given(
            environ[name], f"environment {name}", is_text=True
        )
        for name in sorted(names)
    }


def _merge(given: dict[str, _Given], fields: Mapping[str, FieldInfo], layer: Mapping[str, _Given]) -> None:
    for key, item in layer.items():
        if key not in fields:
            close = difflib.get_close_matches(key, fields, n=1, cutoff=0.5)
            remedy = f"did you mean {close[0]}?" if close else "config/default.toml lists every key"
            raise SettingsError(f"unknown setting {_one_line(key)} ({_one_line(item.source)})", remedy)
        if isinstance(item.value, bool) and fields[key].annotation is not bool:
            raise _refusal(key, item, fields[key])
        given[key] = _Given(_from_text(item.value, fields[key]), item.source) if item.is_text else item


def _from_text(value: str, field: FieldInfo) -> str | float | None:
    """Read what a variable cannot say otherwise: nothing, as compose files set it, and seconds as a number."""
    if value == "" and NoneType in get_args(field.annotation):
        return None
    return float(value) if _is_duration(field) and _NUMBER.fullmatch(value) else value


def _is_duration(field: FieldInfo) -> bool:
    return any(isinstance(part, BeforeValidator) and part.func is parse_duration for part in field.metadata)


def _validate(given: Mapping[str, _Given], fields: Mapping[str, FieldInfo]) -> Settings:
    tree: dict[str, Any] = {}
    for key, item in given.items():
        *sections, name = key.split(".")
        branch = tree
        for section in sections:
            branch = branch.setdefault(section, {})
        branch[name] = item.value
    try:
        return Settings.model_validate(tree)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        key = ".".join(map(str, first["loc"]))
        if key in fields:
            raise _refusal(key, given[key], fields[key]) from None
        message = first["msg"].removeprefix("Value error, ")
        raise SettingsError(f"{key}: {message}", "config/default.toml says what each key means") from None


def _refusal(key: str, item: _Given, field: FieldInfo) -> SettingsError:
    secret = SecretStr in (field.annotation, *get_args(field.annotation))
    value = "(hidden)" if secret else repr(item.value)
    return SettingsError(f"{key} = {value} ({item.source}) cannot be", f"allowed is {allowed(field)}")


def allowed(field: FieldInfo) -> str:
    """Say in words which values a setting takes."""
    schema = _field_schema(field)
    if "enum" in schema or "const" in schema:
        return "one of " + ", ".join(map(str, schema.get("enum", [schema.get("const")])))
    if _is_duration(field):
        least = next((part.ge for part in field.metadata if hasattr(part, "ge")), 1)
        return "a duration above 0 such as 250ms, 90s or 7d" + {0: ", or 0", -1: ', or "forever"'}.get(least, "")
    if "description" in schema:
        return str(schema["description"])
    bounds = [words.format(schema[name]) for name, words in _BOUNDS.items() if name in schema]
    return " ".join([_KINDS.get(schema.get("type", ""), "text"), ", ".join(bounds)]).strip()


_KINDS = {"integer": "a whole number", "number": "a number", "boolean": "true or false"}
_BOUNDS = {
    "minimum": "at least {:g}",
    "exclusiveMinimum": "above {:g}",
    "maximum": "at most {:g}",
    "exclusiveMaximum": "below {:g}",
    "pattern": "that matches {}",
    "minLength": "at least {} long",
    "maxLength": "at most {} long",
}


def _field_schema(field: FieldInfo) -> dict[str, Any]:
    annotation: Any = field.annotation
    for part in field.metadata:
        annotation = Annotated[annotation, part]
    schema = TypeAdapter(annotation).json_schema()
    options = [option for option in schema.get("anyOf", []) if option.get("type") != "null"]
    return {**schema, **(options[0] if options else {})}

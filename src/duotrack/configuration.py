"""Settings as plain data: dataclasses from JSON or YAML, and back.

The dataclass is the schema. Nothing is guessed: an unknown key, a missing key and a value of another type are errors
that name the place. Allowed types of fields are bool, int, float, str, None, Literal, unions, tuples and dataclasses;
an int may stand for a float and a list for a tuple, because JSON and YAML write them so.
"""

import copy
import dataclasses
import difflib
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from reprlib import repr as shortened
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

T = TypeVar("T")


def read(cls: type[T], mapping: object, where: str) -> T:
    """Makes a dataclass from nested plain data.

    Args:
        cls: the dataclass; its fields may be dataclasses too.
        mapping: as ``json.load`` or :func:`parse_yaml` return it.
        where: what the data came from, for error messages: a file name.

    Raises:
        ValueError: if a key is unknown or missing, a value has another type, or the dataclass refuses a value.
    """
    try:
        return cast(T, _instance(cls, mapping, where, ""))
    except RecursionError:  # a group may hold one of its own kind
        raise ValueError(f"{where}: settings are nested too deeply") from None


def plain(instance: Any) -> dict[str, Any]:
    """A dataclass as nested dictionaries and lists, ready for JSON and YAML: what :func:`read` takes."""
    return {field.name: _plain(getattr(instance, field.name)) for field in dataclasses.fields(instance)}


def override(mapping: Mapping[str, Any], assignments: Iterable[str]) -> dict[str, Any]:
    """A copy of nested settings with some values replaced, as by ``--set optimizer.rate=1e-4``.

    Args:
        mapping: nested plain data.
        assignments: ``key.key=value``, the value in YAML. Groups that are absent or null are made; whether the keys
            exist is for :func:`read` to say.

    Raises:
        ValueError: if an assignment has no ``=``, or goes into something that is not a group of settings.
    """
    result = copy.deepcopy(dict(mapping))
    for assignment in assignments:
        path, equals, text = assignment.partition("=")
        keys = path.strip().split(".")
        if not equals or not all(keys):
            raise ValueError(f"{assignment!r} is no assignment: write key=value, as in optimizer.rate=1e-4")
        place: Any = result
        for depth, key in enumerate(keys[:-1], 1):
            if place.get(key) is None:
                place[key] = {}
            place = place[key]
            if not isinstance(place, dict):
                group = ".".join(keys[:depth])
                raise ValueError(f"{assignment!r}: {group} is {shortened(place)}, not a group of settings")
        place[keys[-1]] = parse_yaml(text, assignment)
    return result


def parse_yaml(text: str, where: str) -> Any:
    """YAML to plain data, where ``1e-4`` is a number (YAML 1.1 asks for a dot and reads it as text).

    Args:
        text: the document.
        where: what it came from, for error messages.

    Raises:
        ValueError: if it is not YAML.
        ModuleNotFoundError: if PyYAML is not installed.
    """
    try:
        import yaml
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError('YAML needs PyYAML; install it: pip install "duotrack[torch]"') from error

    class Loader(yaml.SafeLoader):
        pass

    exponent_without_dot = re.compile(r"[-+]?[0-9]+[eE][-+]?[0-9]+$")
    Loader.add_implicit_resolver("tag:yaml.org,2002:float", exponent_without_dot, list("-+0123456789"))
    try:
        return yaml.load(text, Loader)
    except yaml.YAMLError as error:
        raise ValueError(f"{where}: not valid YAML: {error}") from error


def _instance(cls: Any, mapping: object, where: str, path: str) -> Any:
    place = f"{where}: {path}" if path else where
    if not isinstance(mapping, Mapping):
        raise ValueError(f"{place}: expected a group of settings, found {_found(mapping)}")
    fields = {field.name: field for field in dataclasses.fields(cls)}
    for key in mapping:
        if key not in fields:
            nearest = difflib.get_close_matches(str(key), fields, 1, cutoff=0.5)
            remedy = f"did you mean {nearest[0]!r}?" if nearest else f"known are {', '.join(fields)}"
            raise ValueError(f"{place}: unknown key {key!r}; {remedy}")
    missing = [name for name, field in fields.items() if name not in mapping and _required(field)]
    if missing:
        raise ValueError(f"{place}: missing {', '.join(missing)}")
    hints = get_type_hints(cls)
    values = {key: _value(hints[key], value, where, f"{path}.{key}" if path else key) for key, value in mapping.items()}
    try:
        return cls(**values)
    except ValueError as error:
        raise ValueError(f"{place}: {error}") from error


def _value(hint: Any, value: object, where: str, path: str) -> Any:
    if dataclasses.is_dataclass(hint):
        return _instance(hint, value, where, path)
    kind, arguments = get_origin(hint), get_args(hint)
    if kind in (Union, UnionType):
        groups = [option for option in arguments if dataclasses.is_dataclass(option)]
        if len(groups) == 1 and isinstance(value, Mapping):
            return _instance(groups[0], value, where, path)  # its own error says more than "none of these"
        for option in arguments:
            with suppress(ValueError):
                return _value(option, value, where, path)
    elif kind is Literal:
        if any(value == choice and type(value) is type(choice) for choice in arguments):
            return value
    elif kind is tuple:
        if isinstance(value, list | tuple):
            items = arguments[:1] * len(value) if arguments[1:] == (...,) else arguments
            if len(items) == len(value):
                pairs = enumerate(zip(items, value, strict=True))
                return tuple(_value(item, element, where, f"{path}[{i}]") for i, (item, element) in pairs)
    elif hint is float:
        if type(value) in (int, float):
            return float(cast(float, value))
    elif hint not in _NAMES:
        raise TypeError(f"{path}: settings cannot have the type {hint}")
    elif type(value) is hint:  # exactly: a bool is no int here
        return value
    raise ValueError(f"{where}: {path}: expected {_expected(hint)}, found {_found(value)}")


_NAMES = {bool: "true or false", int: "a whole number", float: "a number", str: "text", NoneType: "null"}


def _expected(hint: Any) -> str:
    """A type in the words of someone who writes JSON or YAML."""
    kind, arguments = get_origin(hint), get_args(hint)
    if kind in (Union, UnionType):
        return " or ".join(_expected(option) for option in arguments)
    if kind is Literal:
        return " or ".join(repr(choice) for choice in arguments)
    if kind is tuple and arguments[1:] == (...,):
        return f"a list (of {_expected(arguments[0])})"
    if kind is tuple:
        return f"a list of {len(arguments)} ({', '.join(_expected(item) for item in arguments)})"
    return _NAMES.get(hint, "a group of settings")


def _found(value: object) -> str:
    return "null" if value is None else f"{shortened(value)} ({type(value).__name__})"


def _required(field: "dataclasses.Field[Any]") -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return plain(value)
    return [_plain(item) for item in value] if isinstance(value, tuple) else value

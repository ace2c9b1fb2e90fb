"""Settings from YAML and from the command line, strictly.

A YAML file holds only what differs from the defaults; overrides (`a.b=c`) come on top and the later
wins. An unknown key, a wrong type or a key given twice is refused in one line, because a setting
that silently takes no effect costs a training run. Numbers are read by YAML 1.2's rules: `1e-4` is
a float, `no` is a word.
"""

import difflib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, Field, ValidationError

Config = TypeVar("Config", bound=BaseModel)
Seed = Annotated[int, Field(ge=0, lt=2**32)]
"""A seed that every generator of random numbers takes."""


def load_config(
    cls: type[Config],
    *paths: Path,
    overrides: Sequence[str] = (),
    values: Mapping[str, object] | None = None,
) -> Config:
    """Return the settings of YAML files with overrides on top, checked; the later wins.

    Args:
        cls: The settings' model.
        paths: YAML files that hold the differences from the defaults, each on top of the one
            before.
        overrides: `a.b=c`, the value typed as in YAML; a list or a section replaces the whole.
        values: Plain values by dotted key, on top of everything: a program's own flags.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If a file is not YAML, a key is unknown, or a value is of the wrong type.
    """
    tree: dict[str, Any] = {}
    for path in paths:
        layer = _read(path)
        _check(cls, layer, where=str(path), whole=False)
        _merge(tree, layer)
    for override in overrides:
        _apply(tree, override)
    for key, value in (values or {}).items():
        _put(tree, tuple(key.split(".")), value, shown=key)
    return _check(cls, tree, where="override")


def dump_config(config: BaseModel, *, without: AbstractSet[str] = frozenset()) -> str:
    """Return the settings as YAML with every field written out; `load_config` reads them back.

    Args:
        config: The settings.
        without: Fields that are left out.
    """
    tree = config.model_dump(mode="json", exclude=set(without))
    text: str = yaml.dump(tree, Dumper=_Dumper, sort_keys=False, allow_unicode=True)
    return text


def _check(cls: type[Config], tree: Mapping[str, Any], *, where: str, whole: bool = True) -> Config:
    """Return the settings in `tree`; of one file among several, a required value may be missing."""
    try:
        # Through JSON: there alone strict types still take a list for a tuple, text for a path.
        return cls.model_validate_json(json.dumps(tree), strict=True)
    except ValidationError as failure:
        faults = _by_place(failure, tree)
    if not whole:
        faults = {p: own for p, own in faults.items() if own[0]["type"] != "missing"}
    if not faults:
        return cls.model_construct()
    lines = [f"{where}: {_explain(cls, place, own)}" for place, own in faults.items()]
    raise ValueError("\n".join(lines))


_Place = tuple[int | str, ...]
_Fault = Mapping[str, Any]


def _by_place(failure: ValidationError, tree: Mapping[str, Any]) -> dict[_Place, list[_Fault]]:
    """Return the faults by the user's own keys.

    Where a value may be of several kinds, pydantic tells one fault a kind and writes the kind's
    name among the keys. A section was meant as a section: what is wrong inside it says enough.
    """
    found: dict[_Place, list[_Fault]] = {}
    for fault in failure.errors(include_url=False):
        found.setdefault(_place(tree, fault), []).append(fault)
    entered = {place[:depth] for place in found for depth in range(len(place))}
    return {place: faults for place, faults in found.items() if place not in entered}


def _place(tree: Mapping[str, Any], fault: _Fault) -> _Place:
    """Return the keys that lead to a fault, without the names of kinds between them."""
    place: list[int | str] = []
    value: Any = tree
    for part in fault["loc"]:
        inside = dict(enumerate(value)) if isinstance(value, list) else value
        if isinstance(inside, dict) and part in inside:
            place.append(part)
            value = inside[part]
    return (*place, fault["loc"][-1]) if fault["type"] == "missing" else tuple(place)


def _merge(tree: dict[str, Any], layer: Mapping[str, Any]) -> None:
    """Lay sections over sections and values over values."""
    for key, value in layer.items():
        if isinstance(value, dict) and isinstance(tree.get(key), dict):
            _merge(tree[key], value)
        else:
            tree[key] = value


class _Loader(yaml.SafeLoader):  # type: ignore[misc]
    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 - how PyYAML keeps them

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            name = str(key.value)
            if name in seen:
                raise yaml.MarkedYAMLError(
                    problem=f"key '{name}' is given twice", problem_mark=key.start_mark
                )
            seen.add(name)
        mapping: dict[Any, Any] = super().construct_mapping(node, deep)
        return mapping


class _Dumper(yaml.SafeDumper):  # type: ignore[misc]
    pass


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such settings file. Check --config.")
    try:
        tree = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)
    except (yaml.YAMLError, UnicodeDecodeError) as failure:
        raise ValueError(f"{path}{_problem(failure)}. Mend the file.") from None
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        raise ValueError(f"{path}: expected 'key: value' lines, got {_show(tree)}.")
    return tree


def _problem(failure: Exception) -> str:
    mark = getattr(failure, "problem_mark", None)
    place = f":{mark.line + 1}:{mark.column + 1}" if mark else ""
    return f"{place}: not valid YAML: {getattr(failure, 'problem', None) or failure}"


def _apply(tree: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    parts = tuple(part.strip() for part in key.split("."))
    if not equals or not all(parts):
        raise ValueError(
            f"override '{override}': expected KEY=VALUE, for example trainer.epochs=5."
        )
    try:
        value = yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as failure:
        raise ValueError(f"override '{override}'{_problem(failure)}. Quote the value.") from None
    _put(tree, parts, value, shown=override)


def _put(tree: dict[str, Any], parts: tuple[str, ...], value: object, *, shown: str) -> None:
    for part in parts[:-1]:
        if tree.get(part) is None:
            tree[part] = {}
        tree = tree[part]
        if not isinstance(tree, dict):
            raise ValueError(
                f"override '{shown}': '{part}' holds {_show(tree)}, not a section. Set '{part}' as "
                "a whole, or leave this out."
            )
    tree[parts[-1]] = value


def _explain(cls: type[BaseModel], loc: _Place, faults: Sequence[_Fault]) -> str:
    name = ".".join(map(str, loc))
    fault = faults[0]
    if fault["type"] == "extra_forbidden":
        return _explain_unknown(cls, loc)
    if fault["type"] == "missing":
        flag = "--" + name.partition(".")[0].replace("_", "-")
        return f"{name} needs a value. Give {flag}, or set it in the --config file."
    if fault["type"] == "value_error":
        reason = str(fault["msg"]).removeprefix("Value error, ")
        return f"{name}: {reason}" if name else reason
    expected = " or ".join(map(_expected, faults))
    words = re.findall("'([^']+)'", expected)
    near = difflib.get_close_matches(str(fault["input"]), words, n=1)
    hint = f" Did you mean '{near[0]}'?" if near else ""
    return f"{name}: expected {expected}, got {_show(fault['input'])}.{hint}"


def _expected(fault: _Fault) -> str:
    if fault["type"] == "model_type":
        return "a section of settings"
    return str(fault["msg"]).removeprefix("Input should be ")


def _explain_unknown(cls: type[BaseModel], loc: _Place) -> str:
    *section, key = map(str, loc)
    prefix = "".join(f"{part}." for part in section)
    known = sorted({name for owner in _owners(cls, section) for name in owner.model_fields})
    near = [prefix + match for match in difflib.get_close_matches(key, known, n=1)]
    # A key in the wrong section is as common as a misspelt one.
    near += [path for path in _paths(cls) if path.rpartition(".")[2] == key]
    hint = f" Did you mean '{near[0]}'?" if near else ""
    return (
        f"unknown key '{prefix}{key}'. Known: {', '.join(prefix + name for name in known)}.{hint}"
    )


def _owners(cls: type[BaseModel], section: Sequence[str]) -> list[type[BaseModel]]:
    owners = [cls]
    for part in section:
        inner = [
            model
            for owner in owners
            if part in owner.model_fields
            for model in _models(owner.model_fields[part].annotation)
        ]
        owners = inner or owners
    return owners


def _models(annotation: object) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _models(argument)


def _paths(cls: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for name, info in cls.model_fields.items():
        yield prefix + name
        for model in _models(info.annotation):
            yield from _paths(model, f"{prefix}{name}.")


def _show(value: object) -> str:
    text = repr(value)
    return f"{text if len(text) <= 60 else text[:57] + '...'} ({type(value).__name__})"


_FLOAT = re.compile(
    r"[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?$"
    r"|[-+]?[0-9]+[eE][-+]?[0-9]+$"
    r"|[-+]?\.(?:inf|Inf|INF)$|\.(?:nan|NaN|NAN)$"
)
for _tag, _pattern, _first in (
    ("bool", re.compile(r"(?:true|True|TRUE|false|False|FALSE)$"), "tTfF"),
    ("null", re.compile(r"(?:~|null|Null|NULL|)$"), ["~", "n", "N", ""]),
    ("int", re.compile(r"[-+]?(?:0|[1-9][0-9]*)$"), "-+0123456789"),
    ("float", _FLOAT, "-+.0123456789"),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", _pattern, list(_first))
# Written text is quoted wherever either generation of YAML would take it for something else.
_Dumper.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT, list("-+.0123456789"))

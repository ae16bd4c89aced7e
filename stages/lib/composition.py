"""Composing params/ with Hydra and checking the result against a stage's dataclass.

Order: the dataclass's defaults, params/config.yaml (fields of the same name), the declared files, the
command line. A section may not refer outside itself: DVC tracks sections, and would miss the change.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import re
import string
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages.lib.errors import StageError, one_line

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from stages.lib.stage import Source, Stage

PARAMS = Path("params")
# Hydra's settings of its own application frame, which nobody reads here: without them it takes two thirds of the time.
UNUSED = [f"~hydra/{group}" for group in "output launcher sweeper help hydra_help hydra_logging job_logging env".split()]


def compose(stage: Stage, arguments: Sequence[str]) -> Any:
    """The stage's Config object. Raises StageError naming the file and key that is wrong."""
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    config = layered(stage, arguments)
    _refuse_missing(stage, config)
    try:
        result = OmegaConf.to_object(config)
    except OmegaConfBaseException as error:
        raise StageError(f"{getattr(error, 'full_key', None) or 'parameters'}: {_first_line(error)}") from error
    _check(result)
    return result


def _check(node: Any) -> None:
    """Call check() of every dataclass that has one (ranges; __post_init__ would also run on unfilled defaults)."""
    for item in dataclasses.fields(node):
        if dataclasses.is_dataclass(getattr(node, item.name)):
            _check(getattr(node, item.name))
    if hasattr(node, "check"):
        node.check()


def layered(stage: Stage, arguments: Sequence[str], lenient: bool = False) -> DictConfig:
    """Defaults, globals, files and command line merged; lenient leaves out files whose key is not given."""
    from omegaconf import OmegaConf

    overrides = parse_overrides(arguments)
    config = OmegaConf.structured(stage.schema)
    for key, value in overrides.items():  # first pass: the identity keys decide which files are read
        if "." not in key:
            _assign(config, key, value, f"{key}={value}")
    wanted = [source for source in stage.sources if not (lenient and _open_keys(config, source))]
    named = [(source, {key: _identity(config, key) for key in _keys(source)}) for source in wanted]
    paths = list(dict.fromkeys(source.path.format(**keys) for source, keys in named))
    for path in paths:
        _need_file(path)
    shared, *files = plain(paths) or composed(paths)
    for key in [item.name for item in dataclasses.fields(stage.schema) if item.name in shared]:
        where = f"params/config.yaml: {key}"
        _assign(config, key, _resolved(shared[key], where), where)
    for source, keys in named:
        _fill(config, source, keys, files[paths.index(source.path.format(**keys))])
    for key, value in overrides.items():  # second pass: the command line has the last word
        _assign(config, key, value, f"{key}={value}")
    return config


def _open_keys(config: DictConfig, source: Source) -> bool:
    """Whether an identity key that names the source's file or section is not given yet."""
    from omegaconf import OmegaConf

    return any(OmegaConf.is_missing(config, key) for key in _keys(source))


def parse_overrides(arguments: Sequence[str]) -> dict[str, Any]:
    """KEY=VALUE words by Hydra's grammar, without its additions, deletions and sweeps."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    values: dict[str, Any] = {}
    for word in arguments:
        try:
            override = OverridesParser.create().parse_override(word)
        except HydraException as error:
            raise StageError(f"{word}: expected KEY=VALUE; --help lists the keys") from error
        key = override.key_or_group
        if override.is_sweep_override() or override.is_add() or override.is_delete() or override.package:
            raise StageError(f"{word}: expected a plain KEY=VALUE with one value (no +, ~, @ or sweep)")
        if key in values:
            raise StageError(f"{word}: {key} is given twice")
        values[key] = override.value()
    return values


def global_keys() -> list[str]:
    """The keys of params/config.yaml, in its order."""
    from omegaconf import OmegaConf

    _need_root()
    return list(OmegaConf.load(PARAMS / "config.yaml"))


def _need_root() -> None:
    if not (PARAMS / "config.yaml").is_file():
        raise StageError("params/config.yaml: not found; run stages from the root of the repository")


def plain(paths: Sequence[str]) -> list[dict] | None:
    """What `composed` gives where Hydra has nothing to add, in a tenth of its time; None where it may have.

    It may where a file has a defaults list or settings of Hydra's own, or is no mapping. A package header says
    nothing where the package is given, as it is here.
    """
    import yaml

    _need_root()
    found = []
    for path in ("config", *paths):
        try:
            read = yaml.load((PARAMS / f"{path}.yaml").read_bytes(), _loader())
        except (yaml.YAMLError, OSError, ValueError):  # Hydra says what is wrong
            return None
        if not isinstance(read, dict) or not all(isinstance(key, str) for key in read) or read.keys() & {"defaults", "hydra"}:
            return None
        found.append(read)
    return found


@functools.cache
def _loader() -> type:
    """OmegaConf's YAML (1e-3 is a number, a date is none, no key may be given twice), parsed by libyaml where that is there."""
    import yaml
    from omegaconf._utils import get_yaml_loader

    class Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
        yaml_implicit_resolvers = get_yaml_loader().yaml_implicit_resolvers

        def construct_mapping(self, node: Any, deep: bool = False) -> dict:
            keys = [key.value for key, _ in node.value if key.tag == yaml.resolver.BaseResolver.DEFAULT_SCALAR_TAG]
            if len(set(keys)) < len(keys):
                raise yaml.constructor.ConstructorError(None, None, "a key is given twice", node.start_mark)
            return super().construct_mapping(node, deep)

    return Loader


def composed(paths: Sequence[str]) -> list[dict]:
    """Hydra's compositions of config.yaml and of each "group/name" below params/, references left as they stand.

    Raises StageError.
    """
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from yaml import YAMLError

    _need_root()
    # All at once: Hydra spends a tenth of a second on each composition.
    words = [f"+{path.rpartition('/')[0]}@files.f{number}={path.rpartition('/')[2]}" for number, path in enumerate(paths)]
    try:
        with initialize_config_dir(version_base="1.3", config_dir=str(PARAMS.resolve())):
            shared = OmegaConf.to_container(hydra_compose("config", overrides=[*words, *UNUSED]))
    except (HydraException, YAMLError) as error:
        raise StageError(f"params: {one_line(error)}") from error
    files = shared.pop("files", {})
    return [shared, *(files[f"f{number}"] for number in range(len(paths)))]


def _fill(config: DictConfig, source: Source, keys: dict[str, str], node: Any) -> None:
    """Fill config.<target> from the section of a composed params file. Raises StageError."""
    path = source.path.format(**keys)
    section = (source.section or "").format(**keys)
    for depth, part in enumerate(section.split(".") if section else []):
        if not isinstance(node, dict) or part not in node:
            inside = ".".join(section.split(".")[:depth])
            found = ", ".join(str(key) for key in node) if isinstance(node, dict) else "no sections"
            where = f"params/{path}.yaml{': ' + inside if inside else ''}"
            raise StageError(f"{where} has no section {part!r}; it has {found}")
        node = node[part]
    where = f"params/{path}.yaml{': ' + section if section else ''}"
    _assign(config, source.target, _resolved(node, where), where)


def _resolved(node: Any, where: str) -> Any:
    """A section with its references to itself (${...}) followed. Raises StageError for a reference out of it."""
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    if not _refers(node):
        return node
    try:
        box = OmegaConf.create(node if isinstance(node, dict) else {"value": node})
        found = OmegaConf.to_container(box, resolve=True)
    except OmegaConfBaseException as error:
        raise StageError(f"{where}: {_first_line(error)}; a section may only refer to itself") from error
    return found if isinstance(node, dict) else found["value"]


def _refers(node: Any) -> bool:
    if isinstance(node, dict):
        return any(map(_refers, node.values()))
    return any(map(_refers, node)) if isinstance(node, list) else isinstance(node, str) and "${" in node


def _need_file(path: str) -> None:
    if not (PARAMS / f"{path}.yaml").is_file():
        folder = (PARAMS / path).parent
        there = ", ".join(sorted(item.stem for item in folder.glob("*.yaml"))) or "none"
        raise StageError(f"{(PARAMS / path).as_posix()}.yaml: no such file; in {folder.as_posix()} there are: {there}")


def _keys(source: Source) -> list[str]:
    text = f"{source.path}.{source.section or ''}"
    return [name for _, name, _, _ in string.Formatter().parse(text) if name]


def _identity(config: DictConfig, key: str) -> str:
    """An identity key that names a file or section. Raises StageError if absent or not a plain name."""
    from omegaconf import OmegaConf

    if OmegaConf.is_missing(config, key):
        raise StageError(f"{key}: not given; add {key}=VALUE (--help explains it)")
    value = str(config[key])
    if not re.fullmatch(r"[A-Za-z0-9_-]+", value):
        raise StageError(f"{key}={value}: expected a plain name of letters, digits, - and _")
    return value


def _assign(config: DictConfig, key: str, value: Any, where: str) -> None:
    """Set one (dotted) key with the schema's checks; `where` opens the message if it is refused."""
    from omegaconf import OmegaConf
    from omegaconf.errors import ConfigKeyError, OmegaConfBaseException

    try:
        OmegaConf.update(config, key, value, merge=True)
    except (ConfigKeyError, AttributeError) as error:
        raise StageError(f"{where}: {_unknown(config, error)}") from error
    except (OmegaConfBaseException, TypeError, ValueError) as error:
        name = getattr(error, "full_key", None) or key
        raise StageError(f"{where}: {name}: {_first_line(error)}") from error


def _unknown(config: DictConfig, error: Exception) -> str:
    """`unknown key x; known here: ...` for a key that the schema lacks."""
    full = str(getattr(error, "full_key", "") or "")
    parent, _, name = full.rpartition(".")
    from omegaconf import OmegaConf

    node = OmegaConf.select(config, parent) if parent else config
    known = [str(item) for item in node] if OmegaConf.is_dict(node) else []
    close = difflib.get_close_matches(name, known, 1)
    hint = f"; did you mean {close[0]}?" if close else f"; known here: {', '.join(known) or 'none'}"
    return f"unknown key {full or _first_line(error)}{hint}"


def _refuse_missing(stage: Stage, config: DictConfig) -> None:
    from omegaconf import OmegaConf

    missing = sorted(OmegaConf.missing_keys(config))
    if not missing:
        return
    for source in stage.sources:
        inside = [key for key in missing if key.startswith(f"{source.target}.")]
        if inside:
            path = source.path.format(**{key: config[key] for key in _keys(source)})
            raise StageError(f"params/{path}.yaml: {source.section or 'the file'} lacks {', '.join(inside)}")
    raise StageError(f"{', '.join(missing)}: not given; add {missing[0]}=VALUE (--help explains it)")


def _first_line(error: Exception) -> str:
    return one_line(str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__)

"""Reads an MMEngine config file in either of its styles, with all it is based on.

Text style (`_base_ = [...]`) is executed, as MMEngine does; import style (`with
read_base():`) is read without importing what it names. Errors name file and line.
"""

import ast
import importlib.util
import os
import re
import sys
import traceback
from typing import Any, Dict, Iterator, List, Tuple

from mmengine.config import Config

from pipeline.train.tools.tool import ToolError

_SECRET = re.compile(r"\{\{\s*\$(\w*(?:KEY|TOKEN|SECRET|PASSWORD)\w*)", re.IGNORECASE)
#: What a config sets for MMCV 1.x and no longer for MMEngine.
_OLD_KEYS = (
    *("data", "lr_config", "optimizer_config", "total_epochs", "evaluation", "runner"),
    "checkpoint_config",
)
_STYLES = (
    "Begin the file with `_base_ = [...]` (empty if it has none) to have it executed, or write "
    "`with read_base(): from .x import *` and compute nothing with imports; its bases have to "
    "be of the same style."
)


def load(path: str) -> Tuple[Dict[str, Any], List[str]]:
    """Return a config as plain dicts and the files it was read from, itself first."""
    prepare_mmengine()
    files = files_of(path)
    try:
        config = Config.fromfile(files[0], import_custom_modules=False)
    except Exception as error:
        raise ToolError(_explain(error, path, files)) from error
    content = config.to_dict()
    _refuse_other_kinds(content, path)
    return content, files


def prepare_mmengine() -> None:
    """Let MMEngine 0.10.7 read configs as it does on the Python that it was written for.

    Since Python 3.11 modules such as `os` have no file, so that MMEngine takes a config which
    imports one for the import style. It looks for packages (`mmaction::`) by pkg_resources, which
    newer setuptools no longer have.
    """
    from mmengine.config import config as reader
    from mmengine.config import utils

    builtin = reader._is_builtin_module
    if not getattr(builtin, "of_pcan", False) and not builtin("os"):

        def is_builtin(name: str) -> bool:
            known = getattr(sys, "stdlib_module_names", ())
            return name.split(".")[0] in known or bool(builtin(name))

        is_builtin.of_pcan = True  # type: ignore[attr-defined]
        reader._is_builtin_module = utils._is_builtin_module = is_builtin
    if importlib.util.find_spec("pkg_resources") is None:
        reader.is_installed = _is_installed
        reader.get_installed_path = _installed_path


def _is_installed(package: str) -> bool:
    return importlib.util.find_spec(_module_of(package)) is not None


def _installed_path(package: str) -> str:
    """Return the folder of a package, named as it is installed or imported."""
    spec = importlib.util.find_spec(_module_of(package))
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(f"{package} is not installed")
    return os.path.dirname(spec.origin)


def _module_of(package: str) -> str:
    from mmengine.config.utils import MODULE2PACKAGE

    return next((m for m, name in MODULE2PACKAGE.items() if name == package), package)


def _refuse_other_kinds(config: Dict[str, Any], path: str) -> None:
    """Refuse a file without any setting, and a config of MMAction2 0.x."""
    if not config:
        raise ToolError(
            f"{shown(os.path.abspath(path))} is empty: it sets nothing. Save it again, or name "
            "another config."
        )
    old = [key for key in _OLD_KEYS if key in config]
    if len(old) > 1 and "train_dataloader" not in config and "train_cfg" not in config:
        raise ToolError(
            f"{shown(os.path.abspath(path))} is a config of MMAction2 0.x ({', '.join(old[:4])}); "
            "jobs run on MMAction2 1.x, whose configs have train_dataloader, train_cfg and "
            "param_scheduler. Write it in that form, or start from the 1.x config of its model."
        )


def files_of(path: str) -> List[str]:
    """Return `path` and every file it is based on; raise ToolError for one that cannot be read."""
    found: List[str] = []
    first: Tuple[str, ...] = ()
    waiting = [(os.path.abspath(os.path.expanduser(path)), first)]
    while waiting:
        file, via = waiting.pop(0)
        if file in via:
            circle = " -> ".join(map(shown, (*via[via.index(file) :], file)))
            raise ToolError(f"A config is its own base: {circle}. Take one of these _base_ out.")
        if file in found:
            continue
        if not os.path.isfile(file):
            if via:
                raise ToolError(
                    f"{shown(via[-1])} is based on {shown(file)}, which does not exist."
                )
            raise ToolError(f"The config {shown(file)} does not exist.")
        found.append(file)
        waiting += [(base, (*via, file)) for base in _bases(file)]
    return found


def shown(file: str) -> str:
    """Return a path as the user would write it: relative where that is shorter."""
    return min(file, os.path.relpath(file), key=len)


def _bases(file: str) -> List[str]:
    if not file.endswith(".py"):
        return [_resolve(base, file) for base in Config._get_base_files(file)]
    tree = _parse(file)
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and _assigns_base(node):
            return [_resolve(base, file) for base in _literal(node.value, file)]
        if isinstance(node, ast.With):
            return [_module_file(n, file) for n in node.body if isinstance(n, ast.ImportFrom)]
    return []


def _parse(file: str) -> ast.Module:
    """Parse a Python config; refuse bad syntax, encoding, and secrets taken into the text."""
    try:
        with open(file, encoding="utf-8") as stream:
            text = stream.read()
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise ToolError(f"{shown(file)}:{line}: not UTF-8 text. Save it as UTF-8.") from error
    except OSError as error:
        raise ToolError(f"{shown(file)} cannot be read: {error}.") from error
    if text.startswith("\ufeff"):
        raise ToolError(
            f"{shown(file)} begins with a byte order mark, which MMEngine cannot read. Save it as "
            "UTF-8 without BOM."
        )
    secret = _SECRET.search(text)
    if secret:
        raise ToolError(
            f"{shown(file)} takes {secret.group(1)} from the environment into the config, where "
            "logs would show it. Take it out; the job does not need it."
        )
    try:
        # MMEngine's placeholders are not Python until it has replaced them.
        return ast.parse(re.sub(r"\{\{[^{}]*\}\}", "_", text))
    except SyntaxError as error:
        raise ToolError(f"{shown(file)}:{error.lineno}: {error.msg}.") from error


def _assigns_base(node: ast.Assign) -> bool:
    target = node.targets[0]
    return isinstance(target, ast.Name) and target.id == "_base_"


def _literal(node: ast.expr, file: str) -> List[str]:
    try:
        bases = ast.literal_eval(node)
    except ValueError as error:
        raise ToolError(
            f"{shown(file)}:{node.lineno}: _base_ has to be a list of file names."
        ) from error
    return list(bases) if isinstance(bases, (list, tuple)) else [bases]


def _resolve(base: str, file: str) -> str:
    """Return the file a `_base_` entry means, also one of an installed package (`mmaction::`)."""
    try:
        return os.path.abspath(Config._get_cfg_path(base, file)[0])
    except ModuleNotFoundError as error:
        raise ToolError(
            f"{shown(file)}: _base_ names {base}, a config of {base.partition('::')[0]}, which "
            f"{sys.executable} does not have. Install it there, or name the interpreter that has "
            "it as job.python."
        ) from error
    except Exception as error:
        raise ToolError(
            f"{shown(file)}: _base_ names {base}, not found: {error}. Write its path."
        ) from error


def _module_file(node: ast.ImportFrom, file: str) -> str:
    """Return the file that an import inside `with read_base():` means."""
    words = (node.module or "").split(".")
    if node.level:
        root = os.path.join(os.path.dirname(file), *[os.pardir] * (node.level - 1))
    else:
        root, words = _installed_path(words[0]), words[1:]
    return os.path.abspath(os.path.join(root, *words)) + ".py"


def _of_a_base(text: str, files: List[str]) -> str:
    """Return how a name that only a base config sets is reached; nothing for other names."""
    named = re.search("name '([A-Za-z_]+)'", text)
    name = named.group(1) if named else ""
    owner = next((file for file in files[1:] if name in _set_in(file)), None)
    if not name or owner is None:
        return ""
    return f" {shown(owner)} sets it, and a config reaches what its bases set as _base_.{name}."


def _set_in(file: str) -> Iterator[str]:
    """Yield the names that a config in Python assigns."""
    for node in ast.walk(_parse(file)) if file.endswith(".py") else ():
        if isinstance(node, ast.Assign):
            yield from (target.id for target in node.targets if isinstance(target, ast.Name))


def _explain(error: Exception, path: str, files: List[str]) -> str:
    """Return why MMEngine could not read the config, in one or two sentences."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if f.filename in files]
    place = f"{shown(frames[-1].filename)}:{frames[-1].lineno}" if frames else shown(path)
    text = " ".join(str(error).split())
    if isinstance(error, RuntimeError) and (not text or "inheritance chain" in text):
        called = f": `{frames[-1].line}` computes with an import" if frames else ""
        return f"{place} mixes the styles of configs{called}. {_STYLES}"
    if isinstance(error, KeyError):
        text = str(error.args[0]) if error.args else "a key is missing"
    if isinstance(error, NameError) and frames:
        text = f"{text}.{_of_a_base(text, files)}"
    text = text.replace(os.getcwd() + os.sep, "")
    return (
        f"{place}: {type(error).__name__}: {text}" if text else f"{place}: {type(error).__name__}"
    )

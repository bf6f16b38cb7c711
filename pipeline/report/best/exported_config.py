"""The config of an export: self-contained, movable, with the framework's own early stopping."""

import ast
import re
from typing import Any

from pipeline.plan.sweep import Patience

#: The one installed module that brings the model and patches the released mmaction2.
MODULE = "pipeline.train.model"
ROOT_VARIABLE = "PCAN_DATA_ROOT"


def exported_config(text: str, metric: str, patience: Patience | None, head: str) -> str:
    """Return the config text of an export.

    Args:
        text: the resolved config of the trial, without paths of this machine.
        metric: what early stopping watches.
        head: comment lines that stand on top.
    """
    text = _without_early_stopping(_with_import(text))
    if patience is not None:
        hook = (
            f"dict(type='EarlyStoppingHook', monitor={metric!r}, rule='greater', "
            f"patience={patience.epochs}, min_delta={patience.min_delta!r})"
        )
        text = _with_hook(text, hook)
    comment = "".join(f"# {line}\n" for line in head.splitlines())
    return f"{comment}\n{_movable(text)}"


def _movable(text: str) -> str:
    """Read the data's folder from an environment variable, with the old folder as default."""
    match = re.search(r"^data_root = (['\"])(.*)\1$", text, re.M)
    if match is None:
        return text
    root = match.group(2).rstrip("/")
    if not root or "{" in root:
        return text
    pattern = re.compile(rf"(['\"]){re.escape(root)}(?=/|\1)")
    return pattern.sub(lambda m: f"{m.group(1)}{{{{${ROOT_VARIABLE}:{root}}}}}", text)


def _with_hook(text: str, hook: str) -> str:
    statement = _assignment(text, "custom_hooks")
    if statement is None:
        return f"{text.rstrip()}\ncustom_hooks = [{hook}]\n"
    old = ast.get_source_segment(text, statement.value) or "[]"
    new = f"[{hook}]" if old.strip() in ("[]", "None") else f"[*{old}, {hook}]"
    return text.replace(ast.get_source_segment(text, statement) or "", f"custom_hooks = {new}")


def _without_early_stopping(text: str) -> str:
    """Leave out early stopping of the config: the trial ran without, and gets the plan's own."""
    for name in ("default_hooks", "custom_hooks"):
        statement = _assignment(text, name)
        if statement is None:
            continue
        value, before = statement.value, ast.dump(statement.value)
        if isinstance(value, ast.List | ast.Tuple):
            value.elts = [one for one in value.elts if not _stops(one)]
        elif isinstance(value, ast.Call):
            value.keywords = [one for one in value.keywords if not _stops(one.value)]
        elif isinstance(value, ast.Dict):
            kept = [(k, v) for k, v in zip(value.keys, value.values, strict=True) if not _stops(v)]
            value.keys, value.values = [k for k, _ in kept], [v for _, v in kept]
        if ast.dump(value) != before:
            old = ast.get_source_segment(text, statement) or ""
            text = text.replace(old, f"{name} = {ast.unparse(value)}")
    return text


def _stops(value: ast.expr) -> bool:
    """Whether a hook of a config is MMEngine's early stopping."""
    kind: ast.expr | None = None
    if isinstance(value, ast.Call):
        kind = next((k.value for k in value.keywords if k.arg == "type"), None)
    elif isinstance(value, ast.Dict):
        keys = [k.value if isinstance(k, ast.Constant) else None for k in value.keys]
        kind = value.values[keys.index("type")] if "type" in keys else None
    return isinstance(kind, ast.Constant) and str(kind.value).endswith("EarlyStoppingHook")


def _with_import(text: str) -> str:
    statement = _assignment(text, "custom_imports")
    if statement is None:
        added = f"custom_imports = dict(imports=[{MODULE!r}], allow_failed_imports=False)\n"
        return added + text
    modules = _imports(statement.value)
    if MODULE in modules:
        return text
    new = f"custom_imports = dict(imports={[MODULE, *modules]!r}, allow_failed_imports=False)"
    return text.replace(ast.get_source_segment(text, statement) or "", new)


def _assignment(text: str, name: str) -> ast.Assign | None:
    for statement in ast.parse(text).body:
        if not isinstance(statement, ast.Assign):
            continue
        target = statement.targets[0]
        if isinstance(target, ast.Name) and target.id == name:
            return statement
    return None


def _imports(value: ast.expr) -> list[str]:
    """Return the modules of `dict(imports=[...])` or `{'imports': [...]}`."""
    listed: Any = None
    if isinstance(value, ast.Call):
        listed = next((k.value for k in value.keywords if k.arg == "imports"), None)
    elif isinstance(value, ast.Dict):
        keys = [k.value if isinstance(k, ast.Constant) else None for k in value.keys]
        listed = value.values[keys.index("imports")] if "imports" in keys else None
    modules = ast.literal_eval(listed) if listed is not None else []
    return [modules] if isinstance(modules, str) else list(modules)

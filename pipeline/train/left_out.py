"""The hooks of a config whose work a job does itself: one list for what is said and what is done.

The judge stops a trial and the end of an epoch saves it. A hook that also stops, saves or deletes
is left out wherever a config can name it. Plain dicts: neither torch nor MMEngine is imported.
"""

from typing import Any, Dict, List, Tuple

#: Kinds that stop a training, or save and delete checkpoints.
REPLACED = ("CheckpointHook", "EarlyStoppingHook")
#: Options of a hook by which it moves or deletes the job's own logs.
REPLACED_OPTIONS = {"LoggerHook": ("out_dir", "keep_local", "file_client_args", "backend_args")}
#: MMEngine's own saver stands here in every config; that it is left out need not be said.
_USUAL = ("checkpoint", "CheckpointHook")


def kind_of(part: Any) -> str:
    """Return the bare class name a config entry asks for ("mmengine.CheckpointHook" too)."""
    kind = part.get("type", "") if isinstance(part, dict) else type(part)
    name = kind if isinstance(kind, str) else getattr(kind, "__name__", str(kind))
    return name.rsplit(".", 1)[-1]


def split_hooks(config: Any) -> Tuple[Dict[str, Any], List[Any], List[str]]:
    """Return the default hooks and the custom hooks that a job runs, and what it leaves out.

    Args:
        config: a config, or a plain dict of its variables.
    """
    gone: List[str] = []
    default: Dict[str, Any] = {}
    for name, hook in (config.get("default_hooks") or {}).items():
        if hook is not None and (name == "checkpoint" or kind_of(hook) in REPLACED):
            if (name, kind_of(hook)) != _USUAL:
                gone.append(kind_of(hook))
            continue
        default[name] = _without_options(hook, gone)
    custom: List[Any] = []
    listed = config.get("custom_hooks") or []
    for hook in [listed] if isinstance(listed, dict) else listed:
        if kind_of(hook) in REPLACED:
            gone.append(kind_of(hook))
        else:
            custom.append(_without_options(hook, gone))
    return default, custom, gone


def _without_options(hook: Any, gone: List[str]) -> Any:
    """Return a hook without the options that work against the job; those go to `gone`."""
    options = REPLACED_OPTIONS.get(kind_of(hook), ()) if isinstance(hook, dict) else ()
    named = [name for name in options if hook.get(name) is not None]
    if not named:
        return hook
    gone += [f"{kind_of(hook)}.{name}" for name in named]
    return {key: value for key, value in hook.items() if key not in named}

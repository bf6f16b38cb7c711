"""Remove credentials, and folders of this machine, from what is sent or kept beside a result.

It goes by key names, by the form of known credentials, and by paths; a secret that looks like an
ordinary word is not recognised. Python 3.8 and the standard library.
"""

import re
from typing import Any

HIDDEN = "<hidden>"

_SECRET_KEY = re.compile(
    r"(?i)(^|[^a-z])(api_?key|access_?key|token|secret|passw(or)?d|pwd|credentials?|authorization)"
    r"([^a-z]|$)"
)
_SECRET_VALUE = re.compile(r"\b(?:hf|gh[pousr]|sk|wandb_v1|local|AKIA)[-_]?[A-Za-z0-9_-]{16,}")
_USERINFO = re.compile(r"([a-z][a-z0-9+.-]*://)[^\s/@]+@")
_ABSOLUTE = re.compile(r"(?<![\w/:.])(?:~|/(?:[^\s/'\",:;()]+/)+)(?=[^\s/'\",:;()])")

#: `db_password = "x"`, `"token": x`, `export API_KEY=x`: a secret's name, then its value.
_ASSIGNED = re.compile(
    r"(?P<name>[\w.-]*?(?:api_?key|access_?key|token|secret|passw(?:or)?d|pwd|credentials?"
    r"|authorization))(?P<sign>[\"']?\s*[:=]\s*)(?P<value>[\"'][^\"'\n]{4,}[\"']|[^\s\"'(,]{8,})",
    re.I,
)


def redact(value: Any, key: str = "") -> Any:
    """Return `value` without credentials and without the folders of this machine.

    Args:
        value: a scalar, list or mapping, as JSON knows them.
        key: the name it is stored under, which may be what gives it away.
    """
    if isinstance(value, dict):
        return {str(k): redact(v, str(k)) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [redact(item, key) for item in value]
    if value is not None and not isinstance(value, bool) and _SECRET_KEY.search(_words(key)):
        return HIDDEN
    return _text(value) if isinstance(value, str) else value


def redact_source(text: str) -> str:
    """Return source text, such as a diff, without credentials; lines and paths stay.

    What is assigned to the name of a credential is hidden; a call or another name is not, nor is
    a short value.
    """
    text = _USERINFO.sub(rf"\1{HIDDEN}@", text)
    text = _SECRET_VALUE.sub(HIDDEN, text)
    return _ASSIGNED.sub(_hide_assigned, text)


def _hide_assigned(found: "re.Match[str]") -> str:
    if not _SECRET_KEY.search(_words(found["name"])):
        return found[0]
    return f"{found['name']}{found['sign']}{HIDDEN}"


def _words(key: str) -> str:
    """Return the key with camel case parted: `dbPassword` -> `db_Password`."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", key)


def _text(text: str) -> str:
    text = _USERINFO.sub(rf"\1{HIDDEN}@", text)
    text = _SECRET_VALUE.sub(HIDDEN, text)
    return _ABSOLUTE.sub("", text)

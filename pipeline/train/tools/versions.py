"""`python -m pipeline.train.tools.versions`: the packages that jobs of this interpreter import.

stdin: `{}`. stdout: `{"versions": {name: version}}`. Nothing heavy is imported: a package is found
as an import would find it, and a checkout that hides the installed one says its own version.
"""

import importlib.metadata
import importlib.util
import os
import platform
import re
import sys
from typing import Any, Dict, Optional

from pipeline.train.tools.tool import serve

#: Distribution -> the module it brings.
PACKAGES = {
    "torch": "torch",
    "torchvision": "torchvision",
    "mmengine": "mmengine",
    "mmaction2": "mmaction",
    "mmcv": "mmcv",
    "mmcv-lite": "mmcv",
    "numpy": "numpy",
    "opencv-python": "cv2",
    "decord": "decord",
}
_OPENCV = "opencv-python"


def versions(_: Dict[str, Any]) -> Dict[str, Any]:
    """Answer the one question there is."""
    found = {"python": platform.python_version()}
    for name, module in PACKAGES.items():
        version = _version(name, module)
        if version is not None:
            found[name] = version
    other = _other_opencv(found.get(_OPENCV))
    if other is not None:
        found.pop(_OPENCV, None)
        found.update(other)
    cuda = _stated(_folder("torch"), "cuda")
    return {"versions": {**found, **({"cuda": cuda} if cuda else {})}}


def _version(name: str, module: str) -> Optional[str]:
    """Return the version of what an import would find, None if that is not there."""
    folder = _folder(module)
    try:
        installed = importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        installed = None
    if installed is not None and folder == _real(str(installed.locate_file(module))):
        return installed.version
    if folder is None or name == "mmcv-lite":
        return None
    stated = _stated(folder, "__version__")
    if stated is None or "site-packages" in folder:
        return installed.version if installed is not None else None
    return f"{stated} (checkout)"


def _other_opencv(listed: Optional[str]) -> Optional[Dict[str, str]]:
    """Return the distribution whose cv2 is imported, where that is not the listed release.

    Several distributions bring that module, and the one installed last is what runs; it says its
    own release and kind.
    """
    folder = _folder("cv2")
    version = _stated(folder, "opencv_version")
    if version is None or version == listed:
        return None
    contrib = "-contrib" if _stated(folder, "contrib") == "True" else ""
    headless = "-headless" if _stated(folder, "headless") == "True" else ""
    return {f"opencv{contrib}-python{headless}": version}


def _folder(module: str) -> Optional[str]:
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError):
        return None
    origin = spec.origin if spec is not None else None
    return _real(os.path.dirname(origin)) if origin else None


def _real(path: str) -> str:
    return os.path.realpath(path)


def _stated(folder: Optional[str], name: str) -> Optional[str]:
    """Return the text or truth that a package's `version.py` gives a name, None without one."""
    try:
        with open(os.path.join(folder or "", "version.py"), encoding="utf-8") as stream:
            text = stream.read()
    except OSError:
        return None
    match = re.search(rf"^{name}\b[^=\n]*=\s*(?:['\"]([^'\"]+)|(True|False)\b)", text, re.M)
    return match.group(1) or match.group(2) if match else None


if __name__ == "__main__":
    sys.exit(serve(versions))

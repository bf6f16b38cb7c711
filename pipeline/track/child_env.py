"""The environment in which a process with wandb runs: what it needs, and nothing secret."""

import os
from pathlib import Path


def clean_environment(with_key: bool) -> dict[str, str]:
    """Return the environment for a process that runs W&B: what it needs, and nothing secret.

    Args:
        with_key: whether it may talk to a server.
    """
    always = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "LD_LIBRARY_PATH", "VIRTUAL_ENV")
    sending = (
        "WANDB_API_KEY",
        "WANDB_BASE_URL",
        "WANDB_ENTITY",
        "WANDB_IDENTITY_TOKEN_FILE",
        "WANDB_CONFIG_DIR",
        "NETRC",
        *("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy"),
        *("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE"),
    )
    names = (*always, *sending) if with_key else always
    kept = {name: os.environ[name] for name in names if name in os.environ}
    import pipeline

    ours = str(Path(next(iter(pipeline.__path__))).parent)
    path = [ours, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    quiet = {"WANDB_ERROR_REPORTING": "false", "WANDB_SILENT": "true", "PYTHONUNBUFFERED": "1"}
    return {**kept, **quiet, "PYTHONPATH": os.pathsep.join(path)}

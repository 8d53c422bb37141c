"""`momentrank serve`: the service in this process, until Ctrl-C."""

import os
from collections.abc import Callable

from features.errors import ProjectError
from pipelines.deployment import Deployment
from pipelines.service.access import Tokens

_LOOPBACK = ("127.0.0.1", "::1", "localhost")


def run(deployment: Deployment, host: str, port: int, tell: Callable[[str], None]) -> None:
    """Serve a deployment. If `MOMENTRANK_READ_TOKEN` and `MOMENTRANK_WRITE_TOKEN` are set, callers need them.

    Raises ProjectError if other machines can reach `host` and a token is missing.
    """
    import logging

    import uvicorn

    from pipelines.service.app import create_app
    from pipelines.service.service import Service

    tokens = Tokens(os.environ.get("MOMENTRANK_READ_TOKEN", ""), os.environ.get("MOMENTRANK_WRITE_TOKEN", ""))
    if host not in _LOOPBACK and not (tokens.read and tokens.write):
        raise ProjectError(
            f"--host {host} lets other machines read what users did without a token: set "
            "MOMENTRANK_READ_TOKEN and MOMENTRANK_WRITE_TOKEN"
        )
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    tell(f"http://{host}:{port} (try it), /docs (routes), /health; Ctrl-C stops")
    # No access log: its paths hold user ids.
    uvicorn.run(
        create_app(Service(deployment), tokens), host=host, port=port, access_log=False, log_level="warning",
        timeout_keep_alive=30, timeout_graceful_shutdown=10,
    )  # fmt: skip

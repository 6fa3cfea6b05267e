"""What this program is told by its environment, and by `.env` in the working directory behind it."""

from collections.abc import Mapping
from pathlib import Path

from dotenv import dotenv_values

from sparkctl.failures import UsageFailed

# The services read the file themselves: what is theirs is not handed on.
_OWN = ("SPARK_AGENT_ADDRESS", "SPARK_GATEWAY_ADDRESS")


def environment(process: Mapping[str, str], file: Path) -> dict[str, str]:
    """The variables of the process, and this program's own from the file where the process has none.

    Raises UsageFailed if the file cannot be read; one that is not there is empty.
    """
    try:
        written = dotenv_values(file)
    except OSError as error:
        raise UsageFailed(f"{file}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UsageFailed(f"{file}: not UTF-8") from None
    return {name: value for name in _OWN if (value := written.get(name))} | dict(process)

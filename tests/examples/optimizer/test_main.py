from pathlib import Path

import pytest

from examples.optimizer.__main__ import Settings, SettingsError, settings


def test_settings_have_defaults() -> None:
    assert settings({}) == Settings("127.0.0.1:50050", "127.0.0.1", 8765, Path("optimizer-data"), 0)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("OPTIMIZER_LISTEN", "8765"),
        ("OPTIMIZER_LISTEN", "127.0.0.1:"),
        ("OPTIMIZER_LISTEN", "127.0.0.1:65536"),
        ("OPTIMIZER_STEP_SECONDS", "a while"),
    ],
)
def test_a_setting_that_is_not_valid_is_named(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=name):
        settings({name: value})

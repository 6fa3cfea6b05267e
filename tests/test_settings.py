import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from agent_service.settings import Config, SettingsError, advertised, limits, load, unknown_variables


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """An environment without settings, in a directory without an .env."""
    monkeypatch.chdir(tmp_path)
    for name in unknown_variables() + [name for name, *_ in VARIABLES]:
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


@pytest.fixture
def spark_toml(environment: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str], None]:
    """Writes the file that SPARK_CONFIG names."""

    def write(text: str) -> None:
        (tmp_path / "spark.toml").write_text(text)
        environment.setenv("SPARK_CONFIG", "spark.toml")

    return write


VARIABLES = [
    (
        "SPARK_DATABASE_URL",
        "",
        "postgresql://db/spark?sslmode=require",
        "postgresql://db/spark?sslmode=require",
    ),
    ("SPARK_DATA_DIR", Path("~/.local/share/spark"), "elsewhere", Path("elsewhere")),
    ("SPARK_AGENT_LISTEN", "127.0.0.1:50051", "[::1]:0", "[::1]:0"),
    ("SPARK_ADVERTISE_ADDRESS", None, "agent-1:50051", "agent-1:50051"),
    ("SPARK_LEASE_SECONDS", 10, "0.5", 0.5),
    ("SPARK_POLL_SECONDS", 1, "0.25", 0.25),
    ("SPARK_MAX_SESSIONS", 1000, "7", 7),
    ("SPARK_DRAIN_SECONDS", 10, "30", 30),
    ("SPARK_LOG_LEVEL", "info", "WARNING", "warning"),
    ("SPARK_INSECURE_LISTEN", False, "1", True),
    ("SPARK_DEMO_PACE", 1, "0", 0),
    ("SPARK_MAX_TEXT_BYTES", 16 * 1024, "1", 1),
    ("SPARK_MAX_DATA_BYTES", 16 * 1024, "2", 2),
    ("SPARK_MAX_PENDING", 1000, "3", 3),
    ("SPARK_MAX_PENDING_PER_SOURCE", 250, "4", 4),
    ("SPARK_MAX_TOOL_OUTPUT_BYTES", 256 * 1024, "5", 5),
]


@pytest.mark.parametrize(("name", "default", "text", "value"), VARIABLES)
def test_each_variable_has_its_default_and_is_read(
    environment: pytest.MonkeyPatch, name: str, default: object, text: str, value: object
) -> None:
    field = name.removeprefix("SPARK_").lower()
    assert getattr(load()[0], field) == default
    environment.setenv(name, text)
    assert getattr(load()[0], field) == value


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SPARK_AGENT_LISTEN", "50051"),
        ("SPARK_AGENT_LISTEN", ":50051"),
        ("SPARK_AGENT_LISTEN", "127.0.0.1:"),
        ("SPARK_AGENT_LISTEN", "127.0.0.1:65536"),
        ("SPARK_AGENT_LISTEN", "127.0.0.1:-1"),
        ("SPARK_AGENT_LISTEN", "127.0.0.1:\N{SUPERSCRIPT ONE}"),
        ("SPARK_ADVERTISE_ADDRESS", "agent-1"),
        ("SPARK_LEASE_SECONDS", "soon"),
        ("SPARK_LEASE_SECONDS", "0"),
        ("SPARK_LEASE_SECONDS", "nan"),
        ("SPARK_POLL_SECONDS", "-1"),
        ("SPARK_MAX_SESSIONS", "0"),
        ("SPARK_MAX_SESSIONS", "1.5"),
        ("SPARK_DRAIN_SECONDS", "10s"),
        ("SPARK_LOG_LEVEL", "loud"),
        ("SPARK_INSECURE_LISTEN", "perhaps"),
        ("SPARK_DEMO_PACE", "-1"),
        ("SPARK_MAX_TEXT_BYTES", "16 KiB"),
        ("SPARK_MAX_PENDING", "-1"),
    ],
)
def test_a_malformed_value_is_named(environment: pytest.MonkeyPatch, name: str, value: str) -> None:
    environment.setenv(name, value)
    with pytest.raises(SettingsError, match=f"^{name}: "):
        load()


@pytest.mark.parametrize("name", ["SPARK_LEASE_SECONDS", "SPARK_POLL_SECONDS", "SPARK_DRAIN_SECONDS"])
def test_no_time_is_endless(environment: pytest.MonkeyPatch, name: str) -> None:
    environment.setenv(name, "inf")
    with pytest.raises(SettingsError, match=f"^{name}: "):
        load()


def test_the_environment_comes_before_the_dotenv_file(
    environment: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / ".env").write_text("SPARK_MAX_SESSIONS=3\nSPARK_POLL_SECONDS=3\nSPARK_OF_ANOTHER=3\n")
    environment.setenv("SPARK_POLL_SECONDS", "4")
    settings, _ = load()
    assert (settings.max_sessions, settings.poll_seconds) == (3, 4)


def test_the_limits_are_those_of_the_settings(environment: pytest.MonkeyPatch) -> None:
    for name, value in (
        ("TEXT_BYTES", "1"),
        ("DATA_BYTES", "2"),
        ("PENDING", "3"),
        ("PENDING_PER_SOURCE", "4"),
    ):
        environment.setenv(f"SPARK_MAX_{name}", value)
    found = limits(load()[0])
    assert (found.max_text_bytes, found.max_data_bytes) == (1, 2)
    assert (found.max_pending, found.max_pending_per_source) == (3, 4)


def test_without_spark_toml_there_are_no_models_of_ones_own() -> None:
    assert load()[1] == Config()


def test_spark_toml_names_models(spark_toml: Callable[[str], None]) -> None:
    spark_toml(
        """
        [models.local]
        base_url = "http://127.0.0.1:8000/v1"
        model = "qwen3"
        api_key_env = "LOCAL_API_KEY"
        context_window = 32768
        placement = "tool"

        [models.small]
        base_url = "http://127.0.0.1:8001/v1"
        """
    )
    models = load()[1].models
    assert list(models) == ["local", "small"]
    assert (models["local"].model, models["local"].context_window) == ("qwen3", 32768)
    assert (models["small"].api_key_env, models["small"].context_window) == ("", None)
    assert (models["local"].placement, models["small"].placement) == ("tool", "auto")


def test_spark_toml_names_sets_of_tools(spark_toml: Callable[[str], None]) -> None:
    spark_toml(
        """
        [tools.web]
        command = ["uvx", "mcp-server-fetch"]
        env = { LANG = "C" }
        timeout_seconds = 20
        cancellable = false

        [tools.ship-log]
        url = "http://127.0.0.1:8000/mcp"
        headers_env = { Authorization = "LOG_KEY" }
        share_session_id = true
        """
    )
    tools = load()[1].tools
    assert list(tools) == ["web", "ship-log"]
    assert (tools["web"].command, tools["web"].env) == (("uvx", "mcp-server-fetch"), {"LANG": "C"})
    assert (tools["web"].timeout_seconds, tools["web"].cancellable) == (20, False)
    assert tools["ship-log"].url == "http://127.0.0.1:8000/mcp"
    assert tools["ship-log"].headers_env == {"Authorization": "LOG_KEY"}
    assert (tools["web"].share_session_id, tools["ship-log"].share_session_id) == (False, True)
    assert (tools["ship-log"].timeout_seconds, tools["ship-log"].cancellable) == (None, True)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("modles = 1", "unknown key modles"),
        ("[models.x]\nbase_url = 'http://u'\nfoo = 1", "unknown key models.x.foo"),
        ("[models.x]\nmodel = 'm'", "models.x.base_url: "),
        ("[models.x]\nbase_url = '127.0.0.1:8000'", "models.x.base_url: "),
        ("[models.x]\nbase_url = 'http://u'\ncontext_window = 0", "models.x.context_window: "),
        ("[models.x]\nbase_url = 'http://u'\nplacement = 'above'", "models.x.placement: "),
        ("models = 3", "models: "),
        ("[models.demo]\nbase_url = 'http://u'", "models: the name demo is taken"),
        ("[tools.web]", "tools.web: either command or url is needed, and not both"),
        (
            "[tools.web]\ncommand = ['a']\nurl = 'http://u'",
            "tools.web: either command or url is needed, and not both",
        ),
        ("[tools.web]\nurl = 'http://u'\nenv = { A = 'b' }", "tools.web: env goes with command"),
        (
            "[tools.web]\ncommand = ['a']\nheaders_env = { Authorization = 'KEY' }",
            "tools.web: headers_env goes with url",
        ),
        ("[tools.web]\nurl = 'http://u'\nheaders_env = { 'a b' = 'KEY' }", "tools.web.headers_env.a b."),
        ("[tools.web]\nurl = 'http://u'\nheaders_env = { A = '' }", "tools.web.headers_env.A: "),
        ("[tools.web]\nurl = 'file:///etc'", "tools.web.url: "),
        ("[tools.web]\ncommand = 'uvx'", "tools.web.command: "),
        ('[tools.web]\ncommand = ["a\\u0000"]', "tools.web.command.0: "),
        ("[tools.web]\ncommand = []", "tools.web: either command or url is needed"),
        ("[tools.web]\ncommand = ['a']\ntimeout_seconds = 0", "tools.web.timeout_seconds: "),
        ("[tools.web]\ncommand = ['a']\nenv = { A = 1 }", "tools.web.env.A: "),
        ("[tools.web]\ncommand = ['a']\nargs = ['b']", "unknown key tools.web.args"),
        ("[tools.Web]\ncommand = ['a']", "tools: the name 'Web' is not a small letter and up to 31"),
        ("[tools.a_b]\ncommand = ['a']", "tools: the name 'a_b' is not a small letter"),
        ("[tools.now]\ncommand = ['a']", "tools: the name now is taken by a built-in tool"),
        ("[tools.built-in]\ncommand = ['a']", "tools: the name built-in is taken"),
    ],
)
def test_what_is_wrong_in_spark_toml_is_named(
    spark_toml: Callable[[str], None], text: str, problem: str
) -> None:
    spark_toml(text)
    with pytest.raises(SettingsError) as raised:
        load()
    assert str(raised.value).startswith(f"spark.toml: {problem}")


@pytest.mark.parametrize("text", [b"[models.x\n", b"\xff\xfe"])
def test_a_file_that_is_not_toml_is_named(
    environment: pytest.MonkeyPatch, tmp_path: Path, text: bytes
) -> None:
    (tmp_path / "spark.toml").write_bytes(text)
    environment.setenv("SPARK_CONFIG", "spark.toml")
    with pytest.raises(SettingsError, match=r"^SPARK_CONFIG: spark\.toml: "):
        load()


def test_a_file_that_is_missing_is_named(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("SPARK_CONFIG", "nowhere.toml")
    with pytest.raises(SettingsError, match=r"^SPARK_CONFIG: nowhere\.toml: .*No such file"):
        load()


def test_variables_that_look_like_settings_and_are_none_are_found(environment: pytest.MonkeyPatch) -> None:
    for name in ("SPARK_POLL_SECONDS", "SPARK_GATEWAY_LISTEN", "SPARK_AGENT_ADDRESS"):
        environment.setenv(name, "2")
    environment.setenv("SPARK_POLL_SECOND", "2")
    environment.setenv("SPARK_AGENT_PORT", "tcp://10.0.0.1:50051")
    assert unknown_variables() == ["SPARK_AGENT_PORT", "SPARK_POLL_SECOND"]


@pytest.mark.parametrize(
    ("listens_at", "setting", "found_at"),
    [
        ("127.0.0.1:7", "", "127.0.0.1:7"),
        ("agent-1:7", "", "agent-1:7"),
        ("0.0.0.0:7", "", f"{socket.gethostname()}:7"),
        ("[::]:7", "", f"{socket.gethostname()}:7"),
        ("0.0.0.0:7", "10.0.0.1:8", "10.0.0.1:8"),
    ],
)
def test_other_replicas_find_one_where_it_says_or_where_it_listens(
    environment: pytest.MonkeyPatch, listens_at: str, setting: str, found_at: str
) -> None:
    environment.setenv("SPARK_ADVERTISE_ADDRESS", setting)
    assert advertised(load()[0], listens_at) == found_at

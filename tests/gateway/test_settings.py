import pytest

from gateway.settings import SettingsError, load, unused_variables


@pytest.fixture(autouse=True)
def _environment_of_its_own(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    for name in ("GATEWAY_LISTEN", "AGENT_ADDRESS", "LOG_LEVEL", "INSECURE_LISTEN", "DRAIN_SECONDS"):
        monkeypatch.delenv(f"SPARK_{name}", raising=False)


def test_the_defaults_are_those_of_the_design():
    settings = load()

    assert settings.gateway_listen == "127.0.0.1:50050"
    assert settings.agent_address == "127.0.0.1:50051"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SPARK_GATEWAY_LISTEN", "50050"),
        ("SPARK_GATEWAY_LISTEN", "127.0.0.1:70000"),
        ("SPARK_GATEWAY_LISTEN", "127.0.0.1:"),
        ("SPARK_AGENT_ADDRESS", "dns:///"),
        ("SPARK_AGENT_ADDRESS", "ipv4:10.0.0.1:50051,agent2:50051"),
        ("SPARK_AGENT_ADDRESS", "ipv4:10.0.0.1,10.0.0.2"),
        ("SPARK_AGENT_ADDRESS", "ipv6:127.0.0.1:50051"),
        ("SPARK_AGENT_ADDRESS", "10.0.0.1:50051,10.0.0.2:50051"),
        ("SPARK_DRAIN_SECONDS", "-1"),
        ("SPARK_DRAIN_SECONDS", "soon"),
        ("SPARK_DRAIN_SECONDS", "inf"),
        ("SPARK_LOG_LEVEL", "loud"),
        ("SPARK_INSECURE_LISTEN", "perhaps"),
    ],
)
def test_a_malformed_value_is_named(monkeypatch, name, value):
    monkeypatch.setenv(name, value)

    with pytest.raises(SettingsError, match=name):
        load()


def test_a_variable_without_a_value_is_as_good_as_none(monkeypatch):
    for name in ("GATEWAY_LISTEN", "AGENT_ADDRESS", "LOG_LEVEL", "INSECURE_LISTEN", "DRAIN_SECONDS"):
        monkeypatch.setenv(f"SPARK_{name}", "")

    assert load().agent_address == "127.0.0.1:50051"


@pytest.mark.parametrize(
    "address",
    [
        "dns:///agents:50051",
        "ipv4:10.0.0.1:1,10.0.0.2:2",
        "ipv6:[::1]:1,[::2]:2",
        "[::1]:50051",
        "agents",
        "unix:agents",
    ],
)
def test_the_agent_address_is_any_grpc_target(monkeypatch, address):
    monkeypatch.setenv("SPARK_AGENT_ADDRESS", address)

    assert load().agent_address == address


def test_the_dotenv_file_is_read(tmp_path):
    (tmp_path / ".env").write_text("SPARK_GATEWAY_LISTEN=127.0.0.1:7\nSPARK_MAX_SESSIONS=3\n")

    assert load().gateway_listen == "127.0.0.1:7"


@pytest.mark.parametrize("listen", ["127.0.0.1:0", "127.8.8.8:0", "localhost:0", "[::1]:0"])
def test_loopback_needs_no_permission(monkeypatch, listen):
    monkeypatch.setenv("SPARK_GATEWAY_LISTEN", listen)

    assert load().gateway_listen == listen


@pytest.mark.parametrize("listen", ["0.0.0.0:50050", "[::]:50050", "10.0.0.1:50050", "gateway:50050"])
def test_listening_beyond_loopback_must_be_allowed(monkeypatch, listen):
    monkeypatch.setenv("SPARK_GATEWAY_LISTEN", listen)

    with pytest.raises(SettingsError, match="SPARK_INSECURE_LISTEN"):
        load()

    monkeypatch.setenv("SPARK_INSECURE_LISTEN", "1")
    assert load().gateway_listen == listen


def test_variables_that_mean_nothing_to_the_gateway_are_found(monkeypatch):
    monkeypatch.setenv("SPARK_GATEWAY_LISTN", "127.0.0.1:1")
    monkeypatch.setenv("SPARK_GATEWAY_LISTEN", "127.0.0.1:1")

    assert "SPARK_GATEWAY_LISTN" in unused_variables()
    assert "SPARK_GATEWAY_LISTEN" not in unused_variables()

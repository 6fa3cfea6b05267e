import pytest

from sparkctl.environment import environment
from sparkctl.failures import UsageFailed


@pytest.fixture
def file(tmp_path):
    return tmp_path / ".env"


def test_without_a_file_there_is_the_process_alone(file):
    assert environment({"HOME": "/home/keeper"}, file) == {"HOME": "/home/keeper"}


def test_the_addresses_may_stand_in_the_file(file):
    file.write_text('# both\nSPARK_AGENT_ADDRESS=a:1\nexport SPARK_GATEWAY_ADDRESS="b:2"\n')

    assert environment({}, file) == {"SPARK_AGENT_ADDRESS": "a:1", "SPARK_GATEWAY_ADDRESS": "b:2"}


def test_the_process_comes_before_the_file(file):
    file.write_text("SPARK_AGENT_ADDRESS=a:1")

    assert environment({"SPARK_AGENT_ADDRESS": "c:3"}, file) == {"SPARK_AGENT_ADDRESS": "c:3"}


def test_what_is_for_the_services_is_left_to_them(file):
    file.write_text("SPARK_DATABASE_URL=postgres://\nSPARK_AGENT_ADDRESS=\nSPARK_GATEWAY_ADDRESS")

    assert environment({}, file) == {}


def test_a_file_that_is_no_text_is_named(file):
    file.write_bytes(b"SPARK_AGENT_ADDRESS=\xff")

    with pytest.raises(UsageFailed, match=r"\.env: not UTF-8"):
        environment({}, file)

"""The contract: the generated code is fresh, and what both packages have has one form."""

import os
import subprocess
from pathlib import Path

import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor, FileDescriptor, ServiceDescriptor

from spark.agent.v1 import agent_service_pb2
from spark.gateway.v1 import gateway_service_pb2

ROOT = Path(__file__).parent.parent
PROTOS = ROOT / "protos"
AGENT, GATEWAY = agent_service_pb2.DESCRIPTOR, gateway_service_pb2.DESCRIPTOR
SERVICES = [AGENT.services_by_name["AgentService"], GATEWAY.services_by_name["GatewayService"]]
# The gateway's name for what the agent service calls otherwise.
SAME = {"PostResult": "DepositResult", "PostError": "DepositError"}


def run(*command: str) -> subprocess.CompletedProcess[str]:
    # A make that runs the tests leaves words for the one that a test runs.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


def generated(directory: Path) -> dict[str, str]:
    return {
        str(file.relative_to(directory)): file.read_text()
        for pattern in ("*_pb2*.py", "*_pb2*.pyi")
        for file in directory.rglob(pattern)
    }


def test_generating_again_changes_nothing(tmp_path):
    done = run("make", "generate", f"PROTOS_OUT={tmp_path}")

    assert done.returncode == 0, done.stderr
    assert len(generated(PROTOS)) == 4 * len(list(PROTOS.rglob("*.proto")))
    assert generated(tmp_path) == generated(PROTOS)


@pytest.mark.parametrize(
    "arguments", [("lint",), ("format", "--diff", "--exit-code")], ids=lambda args: args[0]
)
def test_buf_has_nothing_to_say(arguments):
    done = run(".venv/bin/buf", *arguments, "protos")

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def every_file(file: FileDescriptor) -> dict[str, FileDescriptor]:
    found = {file.name: file}
    for dependency in file.dependencies:
        found |= every_file(dependency)
    return found


def test_nothing_is_imported_but_google_protobuf():
    files = every_file(GATEWAY) | every_file(AGENT)

    assert len(files) > 6
    assert all(name.startswith(("spark/", "google/protobuf/")) for name in files)


@pytest.mark.parametrize("service", SERVICES, ids=lambda service: service.name)
def test_every_method_has_a_request_and_a_response_of_its_own(service: ServiceDescriptor):
    assert len(service.methods) > 5
    for method in service.methods:
        assert method.input_type.full_name == f"{service.file.package}.{method.name}Request"
        assert method.output_type.full_name == f"{service.file.package}.{method.name}Response"


def shape(message: Descriptor) -> list[tuple[str, int, int, bool, str]]:
    """The fields of a message, and of what they hold the name without its package."""

    def held(field: FieldDescriptor) -> str:
        of = field.message_type or field.enum_type
        return SAME.get(of.name, of.name) if of else ""

    return [
        (field.name, field.number, field.type, field.is_repeated, held(field)) for field in message.fields
    ]


def test_what_both_services_have_has_one_form():
    shared = [
        (message, AGENT.message_types_by_name[SAME.get(name, name)])
        for name, message in GATEWAY.message_types_by_name.items()
        if SAME.get(name, name) in AGENT.message_types_by_name
    ]

    assert len(shared) == 10
    for of_gateway, of_agent in shared:
        assert shape(of_gateway) == shape(of_agent), of_gateway.name

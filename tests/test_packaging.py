"""What is handed out: a wheel whose base is the contract, and a lock file that fits every machine."""

import email.message
import email.parser
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PROTOS = ROOT / "protos"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> zipfile.ZipFile:
    directory = tmp_path_factory.mktemp("dist")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(directory)],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    (file,) = directory.glob("*.whl")
    return zipfile.ZipFile(file)


def read(wheel: zipfile.ZipFile, name: str) -> str:
    (path,) = (path for path in wheel.namelist() if path.endswith(f".dist-info/{name}"))
    return wheel.read(path).decode()


@pytest.fixture(scope="module")
def metadata(wheel) -> email.message.Message:
    return email.parser.Parser().parsestr(read(wheel, "METADATA"))


def test_the_wheel_has_the_contract_with_its_types(wheel):
    contract = {
        str(file.relative_to(PROTOS))
        for pattern in ("*.proto", "*_pb2*.py", "*_pb2*.pyi", "py.typed")
        for file in PROTOS.rglob(pattern)
    }

    assert "spark/agent/v1/interrupt.proto" in contract
    assert "spark/gateway/v1/gateway_service_pb2_grpc.pyi" in contract
    assert "spark/py.typed" in contract
    assert contract <= set(wheel.namelist())


@pytest.mark.parametrize("package", ["agent_service", "gateway", "sparkctl"])
def test_the_wheel_has_every_file_of_a_package(wheel, package):
    files = {
        str(file.relative_to(ROOT))
        for file in (ROOT / package).rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }

    assert f"{package}/__main__.py" in files
    assert files <= set(wheel.namelist())


def test_the_wheel_has_nothing_else(wheel):
    roots = {path.split("/")[0] for path in wheel.namelist()}

    assert {root for root in roots if not root.endswith(".dist-info")} == {
        "agent_service",
        "gateway",
        "sparkctl",
        "spark",
    }


def test_the_base_needs_grpcio_and_protobuf_and_nothing_else(metadata):
    needed = [one for one in metadata.get_all("Requires-Dist") if "extra ==" not in one]

    assert {re.split(r"[^A-Za-z0-9._-]", one)[0] for one in needed} == {"grpcio", "protobuf"}


def test_the_contract_imports_nothing_but_grpcio_and_protobuf():
    imported = {
        match[1]
        for file in PROTOS.rglob("*_pb2*.py")
        for match in re.finditer(r"^(?:import|from) ([a-z_]+)", file.read_text(), re.MULTILINE)
    }

    assert imported - sys.stdlib_module_names == {"google", "grpc", "spark"}


def test_there_is_an_extra_for_each_thing_to_run(metadata):
    assert set(metadata.get_all("Provides-Extra")) == {"agent", "bench", "cli", "embedded", "gateway"}


def test_the_wheel_brings_the_command_line_and_the_licence(wheel):
    assert "sparkctl = sparkctl.__main__:main" in read(wheel, "entry_points.txt")
    assert "Apache License" in read(wheel, "licenses/LICENSE")


def test_the_lock_file_pins_everything_that_is_declared_with_hashes_and_names_no_host():
    lock = (ROOT / "requirements.lock").read_text()
    pinned = set(re.findall(r"^([a-z0-9._-]+)==", lock, re.MULTILINE))
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wanted = [
        *declared["project"]["dependencies"],
        *(one for extra in declared["project"]["optional-dependencies"].values() for one in extra),
        *declared["dependency-groups"]["dev"],
    ]

    names = {re.split(r"[^A-Za-z0-9._-]", one)[0] for one in wanted}
    assert names <= pinned
    assert lock.count("--hash=sha256:") >= len(pinned)
    assert "://" not in lock


def test_docker_and_make_fetch_the_same_uv():
    versions = {
        re.search(pattern, (ROOT / file).read_text())[1]
        for file, pattern in (
            ("Dockerfile", r"uv==([0-9.]+)"),
            ("Makefile", r"UV_VERSION := ([0-9.]+)"),
        )
    }

    assert len(versions) == 1

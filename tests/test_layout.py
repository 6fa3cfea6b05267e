"""The floors of the design, read off the imports: they go down or stay on a floor, and never in a circle."""

import ast
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SERVICES = ("agent_service", "gateway", "sparkctl")
MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 60
# A migration is a list of statements: a straight line, and cut into pieces it would read no better.
MIGRATIONS = "agent_service.store.migrations.versions"

# A module stands on the floor of the longest name that it begins with.
FLOORS = {
    "agent_service": 0,
    "agent_service.errors": 0,
    "agent_service.settings": 0,
    "agent_service.domain": 1,
    "agent_service.store": 2,
    "agent_service.wakeups": 2,
    "agent_service.model": 3,
    "agent_service.tools": 3,
    "agent_service.loop": 4,
    "agent_service.rpc": 5,
    "agent_service.service": 6,
    "agent_service.__main__": 6,
}
# They meet in the store and in wakeups.
STRANGERS = {"agent_service.rpc": "agent_service.loop", "agent_service.loop": "agent_service.rpc"}
CONTRACT = ("spark", "grpc", "grpc_health", "grpc_reflection", "grpc_status", "google")
SPEAK_THE_CONTRACT = ("agent_service.rpc", "agent_service.__main__")

Modules = Mapping[str, ast.Module]


def is_in(module: str, package: str) -> bool:
    return module == package or module.startswith(f"{package}.")


def parsed(sources: Mapping[str, str]) -> Modules:
    return {name: ast.parse(source) for name, source in sources.items()}


def files(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def modules(package: str) -> Modules:
    def name(file: Path) -> str:
        parts = file.relative_to(ROOT).with_suffix("").parts
        return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)

    return parsed({name(file): file.read_text() for file in files(package)})


def imported(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """Each imported module with the name taken from it, or with an empty one."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            assert node.module
            yield from ((node.module, alias.name) for alias in node.names)


def imports(all_modules: Modules) -> set[tuple[str, str]]:
    """Pairs of a module and one that it imports; a name that is itself a module counts as that module."""
    found = set()
    for importer, tree in all_modules.items():
        for module, name in imported(tree):
            found.add((importer, f"{module}.{name}" if f"{module}.{name}" in all_modules else module))
    return found


def floor(module: str) -> int:
    known = [name for name in FLOORS if is_in(module, name) and (name != "agent_service" or module == name)]
    assert known, f"{module} stands on no floor"
    return FLOORS[max(known, key=len)]


def climbing(all_modules: Modules) -> set[tuple[str, str]]:
    return {
        (importer, module)
        for importer, module in imports(all_modules)
        if is_in(module, "agent_service")
        if floor(module) > floor(importer)
        or any(is_in(importer, one) and is_in(module, other) for one, other in STRANGERS.items())
    }


def circle(all_modules: Modules) -> list[str]:
    graph: dict[str, set[str]] = {name: set() for name in all_modules}
    for importer, module in imports(all_modules):
        if module in all_modules:
            graph[importer].add(module)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def strangers(all_modules: Modules, package: str) -> set[tuple[str, str]]:
    others = [other for other in (*SERVICES, "tests", "benchmarks") if other != package]
    return {pair for pair in imports(all_modules) if any(is_in(pair[1], other) for other in others)}


def contract_outside_the_door(all_modules: Modules) -> set[tuple[str, str]]:
    return {
        (importer, module)
        for importer, module in imports(all_modules)
        if any(is_in(module, name) for name in CONTRACT)
        if not any(is_in(importer, name) for name in SPEAK_THE_CONTRACT)
    }


def long_functions(all_modules: Modules) -> list[str]:
    return [
        f"{name}.{node.name}"
        for name, tree in all_modules.items()
        if not is_in(name, MIGRATIONS)
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        if (node.end_lineno or 0) - node.lineno >= MAX_FUNCTION_LINES
    ]


@pytest.mark.parametrize("package", SERVICES)
def test_a_package_is_read_whole(package):
    found = modules(package)

    assert package in found
    assert f"{package}.__main__" in found
    assert any(module == "grpc" for _, module in imports(found))


def test_every_module_of_the_agent_service_stands_on_a_floor():
    assert {floor(module) for module in modules("agent_service")} == set(FLOORS.values())


def test_imports_go_down():
    assert climbing(modules("agent_service")) == set()


@pytest.mark.parametrize("package", SERVICES)
def test_imports_make_no_circle(package):
    assert circle(modules(package)) == []


@pytest.mark.parametrize("package", SERVICES)
def test_the_services_share_nothing_but_the_protos(package):
    assert strangers(modules(package), package) == set()


def test_the_contract_stops_at_the_door():
    assert contract_outside_the_door(modules("agent_service")) == set()


@pytest.mark.parametrize("package", SERVICES)
def test_no_file_is_too_long(package):
    lengths = {str(file): len(file.read_text().splitlines()) for file in files(package)}

    assert {name for name, lines in lengths.items() if lines > MAX_FILE_LINES} == set()


@pytest.mark.parametrize("package", SERVICES)
def test_no_function_is_too_long(package):
    assert long_functions(modules(package)) == []


class TestTheseChecksFindWhatTheyLookFor:
    def test_an_import_that_climbs(self):
        tree = parsed(
            {
                "agent_service.store.rows": "def late():\n    from agent_service.loop import agent",
                "agent_service.loop.agent": "import agent_service.store.rows",
                "agent_service.rpc.door": "import agent_service.loop.agent",
            }
        )

        assert climbing(tree) == {
            ("agent_service.store.rows", "agent_service.loop.agent"),
            ("agent_service.rpc.door", "agent_service.loop.agent"),
        }

    def test_a_module_on_no_floor(self):
        with pytest.raises(AssertionError, match="no floor"):
            floor("agent_service.attic")

    def test_a_circle(self):
        tree = parsed({"a": "from a import b", "a.b": "import a.c", "a.c": "from a.b import x"})

        assert set(circle(tree)) == {"a.b", "a.c"}

    def test_an_import_of_another_service(self):
        tree = parsed({"gateway.x": "from agent_service.errors import SparkError"})

        assert strangers(tree, "gateway") == {("gateway.x", "agent_service.errors")}

    def test_protobuf_behind_the_door(self):
        tree = parsed(
            {
                "agent_service.domain.x": "from google.protobuf import struct_pb2",
                "agent_service.rpc.x": "import spark.agent.v1.session_pb2",
            }
        )

        assert contract_outside_the_door(tree) == {("agent_service.domain.x", "google.protobuf")}

    def test_a_function_that_is_too_long(self):
        def body(lines: int) -> str:
            return "def f():\n" + "    x = 1\n" * (lines - 1)

        assert long_functions(parsed({"m": body(60)})) == []
        assert long_functions(parsed({"m": body(61)})) == ["m.f"]

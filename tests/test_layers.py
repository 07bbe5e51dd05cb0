"""Who may know whom: the import contracts of pyproject.toml, and what the C++ kernels include."""

import ast
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def test_imports_point_down(monkeypatch, capfd):
    cli = pytest.importorskip("importlinter.cli")
    monkeypatch.chdir(ROOT)
    monkeypatch.syspath_prepend(str(ROOT / "src"))
    assert cli.lint_imports(no_cache=True) == cli.EXIT_STATUS_SUCCESS, capfd.readouterr().out


def imported(path):
    """Top-level packages that a file imports; its own package as ``.``."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (name.name.split(".")[0] for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield "." if node.level else node.module.split(".")[0]


@pytest.mark.parametrize(
    ("folder", "allowed"),
    [("asma_kernels/reference", {"torch", "."}), ("asma_kernels", {"torch", "numpy", "."})],
)
def test_library_needs_torch_and_numpy_only(folder, allowed):
    for path in (ROOT / folder).rglob("*.py"):
        optional = {"triton"} if path.parent.name == "triton" else set()
        others = set(imported(path)) - allowed - optional - set(sys.stdlib_module_names)
        assert not others, f"{path} imports {others}"


# Of the standard library these alone define no function that a kernel's object file could end up with.
HARMLESS = {"cstdint", "cstddef", "stdint.h", "stddef.h", "stdlib.h", "string.h"}
KERNELS = [path for folder in ("cpu", "common", "cuda") for path in sorted((ROOT / "csrc" / folder).glob("*.*"))]


@pytest.mark.parametrize("path", KERNELS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_kernels_include_neither_torch_nor_the_standard_library(path):
    included = re.findall(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]', path.read_text(), re.MULTILINE)
    system = {name for bracket, name in included if bracket == "<"}
    if path.name == "binding.cpp":
        assert not {name for name in system if name.startswith("cuda")}, "bindings know no CUDA header"
        return
    assert not {name for _, name in included if re.match("(torch|ATen|c10)/|.*immintrin", name)}
    if path.name == "isa.cpp":  # compiled once, not per instruction set
        return
    assert system <= HARMLESS | {"cuda_runtime.h", "cuda_fp16.h"}, "see csrc/cpu/scratch.h"


def test_host_module_includes_no_torch():
    """And what of it is compiled per instruction set keeps the kernels' rule; it may have intrinsics."""
    for path in (ROOT / "csrc/host").iterdir():
        included = re.findall(r'^\s*#\s*include\s*[<"]([^>"]+)[>"]', path.read_text(), re.MULTILINE)
        assert not [name for name in included if re.match("(torch|ATen|c10)/", name)], path
        if path.name in ("ntu_skeleton.cpp", "ntu_skeleton.h", "decimal.h"):
            own = {"ntu_skeleton.h", "decimal.h"}
            assert set(included) <= HARMLESS | own | {"immintrin.h"}, f"{path}: see csrc/cpu/scratch.h"


def test_edge_engine_includes_no_torch_and_its_kernels_keep_the_rule():
    for path in (ROOT / "csrc/edge").glob("*.*"):
        included = re.findall(r'^\s*#\s*include\s*[<"]([^>"]+)[>"]', path.read_text(), re.MULTILINE)
        assert not [name for name in included if re.match("(torch|ATen|c10)/|.*(immintrin|Python|pybind11)", name)], (
            path
        )
        if path.name in ("live.cpp", "live.h", "network.cpp", "network.h", "temporal.h"):
            assert {name for name in included if not name.endswith(".h")} <= HARMLESS, f"{path}: see csrc/cpu/scratch.h"

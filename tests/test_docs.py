"""What the documentation shows runs, and what it links to exists."""

import doctest
import importlib
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest

import asma
import asma_kernels
from asma_kernels import _triton

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
# Blocks that show a change to somebody's model are not programs by themselves.
PROGRAMS = ["README.md", "docs/data.md"]


def modules():
    for package in (asma_kernels, asma):
        for found in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
            # Not modules: what runs when imported, and the compiled libraries that lie beside them.
            if not re.search(r"__main__|\.libasma_", found.name) and (
                _triton.INSTALLED or ".triton." not in found.name
            ):
                yield found.name


@pytest.mark.parametrize("name", list(modules()))
def test_examples_in_docstrings_run(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = doctest.testmod(importlib.import_module(name), optionflags=doctest.ELLIPSIS)
    assert result.failed == 0


@pytest.mark.parametrize("page", PROGRAMS)
def test_programs_in_the_pages_run(page, tmp_path):
    """Each in a process of its own, which has imported nothing else, as a reader would run it."""
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)
    assert blocks
    for block in blocks:
        done = subprocess.run([sys.executable, "-c", block], cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr


def test_complete_examples_of_the_drop_in_page_run():
    """Those that import what they use; the others show a change to somebody's model."""
    blocks = re.findall(r"```python\n(import .*?)```", (ROOT / "docs/drop_in.md").read_text(), re.DOTALL)
    assert len(blocks) >= 3
    for block in blocks:
        exec(compile(block, "docs/drop_in.md", "exec"), {})


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
        assert (page.parent / target).exists(), f"{page.name} links to {target}"


# Ops behind the public function of another.
PARTS = {"graph_conv_dense"}


def test_every_op_is_defined_exported_and_has_the_rooms_that_the_table_says():
    definitions = (ROOT / "docs" / "ops.md").read_text()
    lines = re.findall(r"^\| ([\w, ]+) \| yes \| (\w+) \| (\w+).*? \| (\w+).*?\|", definitions, re.MULTILINE)
    table = {op: has for ops, *has in lines for op in ops.split(", ")}
    rooms = ("csrc/cpu/{}.cpp", "csrc/cuda/{}.cu", "asma_kernels/triton/{}.py")
    for found in pkgutil.iter_modules(importlib.import_module("asma_kernels.ops").__path__):
        assert found.name in PARTS or found.name in asma_kernels.__all__
        assert (ROOT / "asma_kernels/reference" / f"{found.name}.py").exists()
        assert (ROOT / "tests" / f"test_{found.name}.py").exists()
        for room, said in zip(rooms, table[found.name], strict=True):
            assert (ROOT / room.format(found.name)).exists() == (said != "no"), (found.name, room, said)

"""Finds what a build needs: torch, tools and headers. What is missing or wrong ends the build in one sentence."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import re
import shutil
import site
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

SETUPTOOLS = 77
TORCH = (2, 10)
CMAKE = (3, 22)
CUDA_ARCHS = ("80", "90", "100")  # of these the ones that nvcc knows, and PTX of the last for what comes after


def refuse(sentence: str) -> NoReturn:
    raise SystemExit(f"asma-kernels: {sentence}")


def check_setuptools() -> None:
    """Without build isolation it is whatever the environment has; an old one fails on pyproject.toml, and unclearly."""
    found = importlib.metadata.version("setuptools")
    if int(found.split(".")[0]) < SETUPTOOLS:
        refuse(f"setuptools >= {SETUPTOOLS} is needed, {found} was found: `pip install --upgrade setuptools`")


def torch_folder() -> Path:
    """The torch package that is installed here, found without importing it."""
    spec = importlib.util.find_spec("torch")
    folders = [Path(spec.origin).parent] if spec and spec.origin else []
    folders += [Path(packages) / "torch" for packages in _hidden_site_packages()]
    folder = next((folder for folder in folders if (folder / "version.py").is_file()), None)
    wanted = f"torch >= {TORCH[0]}.{TORCH[1]}"
    advice = "install it first; where it is installed but hidden from the build, use --no-build-isolation"
    if folder is None:
        refuse(f"{wanted} was not found in the environment of {sys.executable}: {advice}")
    found = re.search(r"__version__ = '((\d+)\.(\d+)[^']*)'", (folder / "version.py").read_text())
    if found is None or (int(found[2]), int(found[3])) < TORCH:
        refuse(f"{wanted} is needed, {found[1] if found else 'an unknown version'} was found in {folder}: {advice}")
    return folder


def _hidden_site_packages() -> list[str]:
    """site-packages of the environment that pip installs into: build isolation takes them off sys.path."""
    prefixes = [sys.prefix]
    configuration = Path(sys.prefix) / "pyvenv.cfg"
    if configuration.is_file():
        if not re.search(r"include-system-site-packages\s*=\s*true", configuration.read_text(), re.IGNORECASE):
            return site.getsitepackages(prefixes)
        prefixes.append(sys.base_prefix)
    return [*site.getsitepackages(prefixes), site.getusersitepackages()]


@dataclass(frozen=True)
class Host:
    """What asma._host and asma.edge are built with; without ``includes`` they are left out, why says ``left_out``."""

    includes: str = ""  # folders of headers, as CMake wants them
    suffix: str = ""
    left_out: str = ""


def find_host() -> Host:
    """Python's headers, which Debian keeps in a package of their own, and pybind11's."""
    python, pybind11 = sysconfig.get_path("include"), find_pybind11()
    if not os.path.isfile(f"{python}/Python.h"):
        return Host(left_out=f"Python.h was not found in {python}: install python3-dev or the like")
    if pybind11 is None:
        return Host(left_out="pybind11 was not found: `pip install pybind11`")
    return Host(f"{python};{pybind11}", sysconfig.get_config_var("EXT_SUFFIX"))


def find_pybind11() -> Path | None:
    """The folder of pybind11's headers: torch brings them, made for its Python; else those of the package."""
    spec = importlib.util.find_spec("pybind11")
    packages = spec.submodule_search_locations if spec else None
    folders = [torch_folder() / "include", *(Path(package) / "include" for package in packages or [])]
    return next((folder for folder in folders if (folder / "pybind11/pybind11.h").is_file()), None)


def find_tool(name: str, at_least: tuple[int, int] = (0, 0)) -> str | None:
    """A build tool that runs and is new enough, from beside this Python or from PATH."""
    for folder in [sysconfig.get_path("scripts"), *os.environ.get("PATH", os.defpath).split(os.pathsep)]:
        # Run, not only found: under build isolation a script of the environment cannot import its own package.
        path = shutil.which(name, path=folder)
        version = re.search(r"(\d+)\.(\d+)", _output(path, "--version")) if path else None
        if version and (int(version[1]), int(version[2])) >= at_least:
            return path
    return None


def require_tool(name: str, at_least: tuple[int, int] = (0, 0)) -> str:
    path = find_tool(name, at_least)
    if path is None:
        version = f" >= {at_least[0]}.{at_least[1]}" if at_least > (0, 0) else ""
        refuse(f"{name}{version} was not found: install it, for example with `pip install {name}`")
    return path


@dataclass(frozen=True)
class Cuda:
    """What the CUDA half is built with; without ``nvcc`` it is left out, for the reason ``left_out``."""

    nvcc: str = ""
    archs: str = ""  # as CMake wants them: "80-real;100-virtual"
    left_out: str = ""


def find_cuda() -> Cuda:
    """As ``ASMA_CUDA`` (auto, on, off) and ``ASMA_CUDA_ARCHS`` say."""
    wish = os.environ.get("ASMA_CUDA", "auto")
    if wish not in ("auto", "on", "off"):
        refuse(f"ASMA_CUDA must be auto, on or off, got {wish!r}")
    if wish == "off":
        return Cuda(left_out="ASMA_CUDA=off")
    toolkits = [os.environ.get("CUDA_HOME", ""), "/usr/local/cuda"]
    folders = [toolkits[0] + "/bin", os.environ.get("PATH", os.defpath), toolkits[1] + "/bin"]
    nvcc = shutil.which("nvcc", path=os.pathsep.join(folders))
    known = re.findall(r"sm_(\d+)", _output(nvcc, "--list-gpu-code")) if nvcc else []
    if not known:
        problem = f"{nvcc} does not run" if nvcc else "nvcc was not found"
        if wish == "on":
            refuse(f"ASMA_CUDA=on, but {problem}: install the CUDA toolkit, or name its folder in CUDA_HOME")
        return Cuda(left_out=problem)
    default = ",".join(arch for arch in CUDA_ARCHS if arch in known) + "+PTX"
    return Cuda(str(nvcc), _archs(os.environ.get("ASMA_CUDA_ARCHS") or default, known))


def _archs(wish: str, known: list[str]) -> str:
    """``sm_80 9.0a 100+PTX``, separated by spaces, commas or semicolons, as CMake wants it."""
    archs = []
    for word in re.split(r"[\s,;]+", wish.strip(" ,;")):
        parts = re.fullmatch(r"(?:sm_)?(?:(\d+)\.)?(\d+)([af]?)(\+PTX)?", word, re.IGNORECASE)
        number = (parts[1] or "") + parts[2] if parts else ""
        if not parts or number not in known:
            refuse(
                f"ASMA_CUDA_ARCHS must name architectures that nvcc knows (sm_{', sm_'.join(known)}), such as "
                f"'80,90a,100+PTX', got {wish!r}"
            )
        arch = number + parts[3].lower()
        archs += [f"{arch}-real", f"{arch}-virtual"] if parts[4] else [f"{arch}-real"]
    return ";".join(archs)


def _output(*command: str | None) -> str:
    """What a command prints; nothing where it cannot run."""
    try:
        done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=True, timeout=60)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout

"""Drives CMakeLists.txt, which holds the sources and flags; everything else about the package is in pyproject.toml."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from setuptools import Distribution, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).resolve().parent
BUILD = ROOT / "build" / "dev"  # the one of `make lib`, and kept: the next build compiles what changed
sys.path.insert(0, str(ROOT / "build_backend"))
import toolchain  # noqa: E402


class CompiledDistribution(Distribution):
    def has_ext_modules(self) -> bool:
        return True  # though setuptools knows of none: CMake builds them


class CMakeBuild(build_ext):
    def run(self) -> None:
        if not sys.platform.startswith("linux"):
            toolchain.refuse(f"the compiled library is for Linux, this is {sys.platform}")
        torch, cuda, host = toolchain.torch_folder(), toolchain.find_cuda(), toolchain.find_host()
        cmake = toolchain.require_tool("cmake", toolchain.CMAKE)
        ninja = toolchain.require_tool("ninja")
        configure = [cmake, "-G", "Ninja", "-S", str(ROOT), "-B", str(BUILD), f"-DCMAKE_MAKE_PROGRAM={ninja}"]
        configure += [f"-DASMA_TORCH_DIR={torch}", f"-DASMA_CUDA={'ON' if cuda.nvcc else 'OFF'}"]
        configure += [f"-DASMA_CUDA_LEFT_OUT={cuda.left_out}"]
        configure += [f"-DASMA_HOST_INCLUDES={host.includes}", f"-DASMA_HOST_SUFFIX={host.suffix}"]
        configure += [f"-DASMA_HOST_LEFT_OUT={host.left_out}"]
        if cuda.nvcc:
            configure += [f"-DCMAKE_CUDA_COMPILER={cuda.nvcc}", f"-DASMA_CUDA_ARCHS={cuda.archs}"]
        stage = BUILD / "stage"
        in_place = self.editable_mode or self.inplace
        kernels, wrapper = (ROOT, ROOT / "src") if in_place else [Path(self.build_lib).resolve()] * 2
        _forget_other_checkout()
        BUILD.mkdir(parents=True, exist_ok=True)
        with open(BUILD / "lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            shutil.rmtree(stage, ignore_errors=True)
            _step(configure)
            _step([cmake, "--build", str(BUILD)])
            _step([cmake, "--install", str(BUILD), "--prefix", str(stage)])
            _replace(stage / "asma_kernels", kernels / "asma_kernels", "libasma_*.so")
            _replace(stage / "asma", wrapper / "asma", f"*{host.suffix or '.*.so'}")
        print(_summary(kernels / "asma_kernels" / "_build.json"), file=sys.stderr, flush=True)


class CleanWheel(bdist_wheel):
    def run(self) -> None:
        # What an earlier build left there would be packed too: modules since removed, a CUDA library since left out.
        shutil.rmtree(self.get_finalized_command("build").build_lib, ignore_errors=True)
        super().run()


def _forget_other_checkout() -> None:
    """A build folder that was copied along with a checkout belongs to where it came from; CMake refuses it."""
    cache = BUILD / "CMakeCache.txt"
    if cache.exists() and f"CMAKE_HOME_DIRECTORY:INTERNAL={ROOT}\n" not in cache.read_text():
        shutil.rmtree(BUILD)


def _step(command: list[str]) -> None:
    try:
        subprocess.run(command, check=True)
    except subprocess.CalledProcessError:
        toolchain.refuse(f"`{' '.join(command[:2])}` failed; its message is above")


def _replace(source: Path, target: Path, libraries: str) -> None:
    """Each file by rename: a process that has the old library mapped keeps it. Old libraries without a new one go."""
    target.mkdir(parents=True, exist_ok=True)
    built = list(source.iterdir()) if source.is_dir() else []
    for name in {path.name for path in target.glob(libraries)} - {path.name for path in built}:
        (target / name).unlink()
    for path in built:
        shutil.copy2(path, target / f"{path.name}.new")
        os.replace(target / f"{path.name}.new", target / path.name)


def _summary(build_file: Path) -> str:
    built = json.loads(build_file.read_text())
    cuda = f"CUDA {built['cuda']} ({built['cuda_archs']})" if built["cuda"] else f"no CUDA ({built['cuda_left_out']})"
    host = f"no asma._host ({built['host_left_out']}), " if built["host_left_out"] else ""
    return (
        f"asma-kernels {built['asma_kernels']} was built: CPU ({built['isas']}), {cuda}, {host}"
        f"with torch {built['torch']} and {built['compiler']}"
    )


setup(distclass=CompiledDistribution, cmdclass={"build_ext": CMakeBuild, "bdist_wheel": CleanWheel})

"""setuptools' build backend, which asks for cmake, ninja and pybind11 only where there are none, and for torch at once.

torch is not among the build requirements: pip would put the newest one, with its CUDA packages, into the build's own
environment, whatever is installed. It is looked for when pip asks what a build requires, before pip downloads anything.
"""

from __future__ import annotations

from typing import Any

import toolchain
from setuptools import build_meta
from setuptools.build_meta import *  # noqa: F403


def _check() -> None:
    toolchain.check_setuptools()
    toolchain.torch_folder()


def _tools() -> list[str]:
    _check()
    toolchain.find_cuda()
    tools: dict[str, Any] = {
        f"cmake>={toolchain.CMAKE[0]}.{toolchain.CMAKE[1]}": toolchain.find_tool("cmake", toolchain.CMAKE)
    }
    tools["ninja"] = toolchain.find_tool("ninja")
    tools["pybind11>=2.13"] = toolchain.find_pybind11()
    return [requirement for requirement, path in tools.items() if path is None]


def get_requires_for_build_wheel(config_settings: Any = None) -> list[str]:
    return _tools() + build_meta.get_requires_for_build_wheel(config_settings)


def get_requires_for_build_editable(config_settings: Any = None) -> list[str]:
    return _tools() + build_meta.get_requires_for_build_editable(config_settings)


# Without build isolation pip does not ask what the build requires, but for the metadata first.


def prepare_metadata_for_build_wheel(metadata_directory: str, config_settings: Any = None) -> str:
    _check()
    return build_meta.prepare_metadata_for_build_wheel(metadata_directory, config_settings)


def prepare_metadata_for_build_editable(metadata_directory: str, config_settings: Any = None) -> str:
    _check()
    return build_meta.prepare_metadata_for_build_editable(metadata_directory, config_settings)

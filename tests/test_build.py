"""The package as users get it: built from the sdist, installed outside the checkout, and what goes wrong on the way."""

import email
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from importlib.metadata import distribution
from pathlib import Path

import pytest
import torch

import asma_kernels
from bench import cuda_table

ROOT = Path(__file__).parents[1]
OFFLINE = ["--no-index", "--no-deps"]
LEAVE_OUT = shutil.ignore_patterns(".*", "build", "dist", "runs", "*.so", "*.egg-info", "_build.json", "__pycache__")
NVCC = cuda_table.nvcc()
ARM = shutil.which("aarch64-linux-gnu-g++")
HOST, EDGE = (f"{name}{sysconfig.get_config_var('EXT_SUFFIX')}" for name in ("_host", "edge"))
pytestmark = pytest.mark.slow


def run(*command, **environment):
    """Runs it outside the checkout, with the tools of this environment; stdout and stderr together."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("ASMA_", "PYTHON"))}
    clean["PATH"] = sysconfig.get_path("scripts") + os.pathsep + os.environ["PATH"]
    return subprocess.run(
        [str(word) for word in command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=environment.pop("cwd", "/"),
        env=clean | {name: str(value) for name, value in environment.items()},
    )


def succeed(*command, **environment):
    done = run(*command, **environment)
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.fixture(scope="module")
def sdist(tmp_path_factory):
    """The sdist of a copy of the checkout, built by the project's own backend."""
    folder = tmp_path_factory.mktemp("sdist")
    source = folder / "source"
    shutil.copytree(ROOT, source, ignore=LEAVE_OUT)
    build = "import sys; sys.path.insert(0, 'build_backend'); import backend; backend.build_sdist(sys.argv[1])"
    succeed(sys.executable, "-c", build, folder, cwd=source)
    (built,) = folder.glob("*.tar.gz")
    return built


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """From the checkout, whose build folder has the objects already where `make` has run."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "-v", "--no-build-isolation", *OFFLINE, "-w", folder, ROOT]
    printed = succeed(*command, ASMA_CUDA="off")
    (summary,) = re.findall(r"asma-kernels .* was built: .*", printed)
    assert "no CUDA (ASMA_CUDA=off)" in summary
    assert f"torch {torch.__version__}" in summary
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def site(wheel, tmp_path_factory):
    """A folder with the wheel installed in it."""
    folder = tmp_path_factory.mktemp("site")
    succeed(sys.executable, "-m", "pip", "install", *OFFLINE, "--target", folder, wheel)
    return folder


def test_wheel_is_of_this_python(wheel):
    """For asma._host's sake; libasma_ops.so would serve any."""
    python = f"cp{sys.version_info.major}{sys.version_info.minor}"
    assert re.fullmatch(rf"asma_kernels-{asma_kernels.__version__}-{python}-{python}-linux_\w+\.whl", wheel.name)


def test_wheel_holds_the_packages_and_nothing_else(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    modules = [path.relative_to(ROOT) for path in (ROOT / "asma_kernels").rglob("*.py")]
    for kind in ("*.py", "*.js", "*.css"):
        modules += [path.relative_to(ROOT / "src") for path in (ROOT / "src/asma").rglob(kind)]
    compiled = {"asma_kernels/libasma_ops.so", "asma_kernels/_build.json", f"asma/{HOST}", f"asma/{EDGE}"}
    typed = {"asma_kernels/py.typed", "asma/_host.pyi", "asma/edge.pyi"}
    packed = {name for name in names if ".dist-info/" not in name}
    assert packed == compiled | typed | {path.as_posix() for path in modules} | {"asma/py.typed"} & packed
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_runtime_needs_torch_and_numpy_only(wheel):
    archive = zipfile.ZipFile(wheel)
    (metadata,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
    needs = email.message_from_bytes(archive.read(metadata)).get_all("Requires-Dist")
    assert {need for need in needs if "extra ==" not in need} == {"torch>=2.10", "numpy"}
    (scripts,) = [name for name in archive.namelist() if name.endswith("entry_points.txt")]
    assert "asma = asma.cli:main" in archive.read(scripts).decode()


def test_installed_wheel_runs_outside_the_checkout(site):
    script = """
import sys
site = sys.argv[1]
sys.path.insert(0, site)
import torch, asma_kernels, asma
for package in (asma_kernels, asma):
    assert package.__file__.startswith(site), package.__file__
x = torch.randn(2, 3, 8, 5, 1)
energy = asma_kernels.motion_energy(x, backend="cpu")
torch.testing.assert_close(energy, asma_kernels.motion_energy(x, backend="reference"))
print(torch.compile(asma_kernels.motion_energy, fullgraph=True, backend="eager")(x).shape)
from asma import _host
assert _host.__file__.startswith(site), _host.__file__
print(_host.read_ntu_skeletons([b"/no such file"]))
"""
    printed = succeed(sys.executable, "-I", "-c", script, site)
    assert "torch.Size([2, 8])" in printed
    assert "['it cannot be opened: No such file or directory']" in printed


RUNS = """
import torch, asma_kernels
from asma_kernels import _library, env
assert _library.CUDA_PROBLEM == "", _library.CUDA_PROBLEM
assert ("philox", "cuda") in _library.KERNELS
print(env.report())
x = torch.arange(8.0).view(1, 1, 4, 2, 1).requires_grad_()
asma_kernels.motion_energy(x).sum().backward()
print("RAN", x.grad.flatten().tolist())
"""


@pytest.mark.skipif(NVCC is None, reason="nvcc was not found")
@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_wheel_built_with_cuda_works_without_a_gpu(tmp_path):
    """Its CUDA half loads beside a torch without CUDA, and its CPU half does the work."""
    shutil.copytree(ROOT, tmp_path / "source", ignore=LEAVE_OUT)
    wheels = [sys.executable, "-m", "pip", "wheel", "-v", "--no-build-isolation", *OFFLINE, "-w", tmp_path]
    printed = succeed(*wheels, tmp_path / "source", ASMA_CUDA="on", ASMA_CUDA_ARCHS="90")
    assert re.search(r"asma-kernels .* was built: .*CUDA [\d.]+ \(90-real\)", printed), printed[-2000:]
    (built,) = tmp_path.glob("*.whl")
    succeed(sys.executable, "-m", "pip", "install", *OFFLINE, "--target", tmp_path / "site", built)
    told = succeed(sys.executable, "-c", RUNS, PYTHONPATH=tmp_path / "site")
    assert "RAN [-2.0, -2.0, 0.0, 0.0, 0.0, 0.0, 2.0, 2.0]" in told


def test_library_needs_libtorch_by_its_stable_abi_only(site):
    library = site / "asma_kernels/libasma_ops.so"
    dynamic = succeed("readelf", "-d", library)
    assert "libtorch_cpu.so" in dynamic
    assert not re.search("libpython|libtorch_python|RPATH|RUNPATH", dynamic)
    undefined = succeed("nm", "-D", "--undefined-only", library)
    assert "aoti_torch_" in undefined  # torch's C shim
    # Python's names, and C++ names of at::, c10:: and torch::, which change from release to release.
    assert not re.findall(r" U (_?Py\w+|_ZNK?(?:2at|3c10|5torch)\w+)", undefined)
    assert not re.findall(r"asma", succeed("nm", "-D", "--defined-only", library))
    paths = [Path(torch.__file__).parents[1], ROOT, "/pip-"]
    assert not [path for path in paths if str(path).encode() in library.read_bytes()]


@pytest.mark.parametrize(("module", "entries"), [(HOST, ["PyInit__host"]), (EDGE, ["PyInit_asma_edge", "PyInit_edge"])])
def test_python_modules_know_no_torch(site, module, entries):
    library = site / "asma" / module
    dynamic = succeed("readelf", "-d", library)
    assert not re.search("libtorch|libc10|libpython|RPATH|RUNPATH", dynamic)
    assert sorted(re.findall(r" T (\w+)", succeed("nm", "-D", "--defined-only", library))) == entries
    assert str(ROOT).encode() not in library.read_bytes()


def test_shared_functions_are_not_compiled_for_newer_processors():
    """A weak function of an AVX-512 object may be the copy that the linker keeps for all (csrc/cpu/scratch.h)."""
    objects = sorted((ROOT / "build").glob("*/CMakeFiles/asma_*_avx*.dir/**/*.o"))
    if not objects:
        pytest.skip("no build folder of an x86-64 checkout: `make lib` makes one")
    for path in objects:
        isa = re.search(r"asma_(?:kernels|host)_(\w+)\.dir", str(path))[1]
        weak = re.findall(r"^\w+ [WVu] (.*)$", succeed("nm", "-C", "--defined-only", path), re.MULTILINE)
        foreign = [name for name in weak if f"asma::{isa}::" not in name.split("(")[0]]
        assert not foreign, f"{path.name} for {isa}: {foreign}"


def test_sdist_holds_what_a_build_needs(sdist, tmp_path):
    succeed("tar", "-xzf", sdist, "--strip-components=1", "-C", tmp_path)
    sources = [path for path in (ROOT / "csrc").rglob("*") if path.is_file()]
    sources += [ROOT / "CMakeLists.txt", ROOT / "LICENSE", *(ROOT / "build_backend").glob("*.py")]
    for path in sources:
        assert (tmp_path / path.relative_to(ROOT)).read_bytes() == path.read_bytes()
    # CMake finds every source that it lists, and reads the version.
    folders = [f"-DASMA_TORCH_DIR={Path(torch.__file__).parent}", "-DASMA_HOST_INCLUDES=/somewhere"]
    succeed("cmake", "-G", "Ninja", "-S", tmp_path, "-B", tmp_path / "build", *folders)
    built = json.loads((tmp_path / "build/_build.json").read_text())
    assert built["asma_kernels"] == asma_kernels.__version__
    assert built["torch"] == torch.__version__


@pytest.fixture(scope="module")
def empty_python(tmp_path_factory):
    """A Python without torch, and a folder with setuptools for it."""
    folder = tmp_path_factory.mktemp("empty")
    succeed(sys.executable, "-m", "venv", "--without-pip", folder / "venv")
    (folder / "packages").mkdir()
    for name in {file.parts[0] for file in distribution("setuptools").files if file.parts[0] != ".."}:
        (folder / "packages" / name).symlink_to(distribution("setuptools").locate_file(name))
    return folder / "venv/bin/python", folder / "packages"


@pytest.fixture(scope="module")
def setuptools_wheel(tmp_path_factory):
    """The installed setuptools as a wheel again, so that pip can isolate a build without a network."""
    setuptools = distribution("setuptools")
    folder = tmp_path_factory.mktemp("wheels")
    with zipfile.ZipFile(folder / f"setuptools-{setuptools.version}-py3-none-any.whl", "w") as archive:
        for file in setuptools.files:
            if file.locate().is_file() and file.suffix != ".pyc":
                archive.write(file.locate(), file.as_posix())
    return folder


def ends_in_one_sentence(done, sentence):
    assert done.returncode != 0
    assert re.search(f"asma-kernels: {sentence}", done.stdout), done.stdout
    assert "Traceback" not in done.stdout, done.stdout


NO_TORCH = r"torch >= 2\.10 was not found in the environment of \S+: install it first"


def test_without_torch(sdist, empty_python):
    python, packages = empty_python
    command = [sys.executable, "-m", "pip", "--python", python, "install", "--no-build-isolation", *OFFLINE, sdist]
    ends_in_one_sentence(run(*command, PYTHONPATH=packages), NO_TORCH)


def test_build_isolation_finds_torch_or_says_that_it_is_missing(sdist, empty_python, setuptools_wheel, tmp_path):
    isolated = ["wheel", *OFFLINE, "--find-links", setuptools_wheel, "-w", tmp_path, sdist]
    done = run(sys.executable, "-m", "pip", "--python", empty_python[0], *isolated)
    ends_in_one_sentence(done, NO_TORCH)
    # A later check's sentence: torch itself was found.
    done = run(sys.executable, "-m", "pip", *isolated, ASMA_CUDA="yes")
    ends_in_one_sentence(done, "ASMA_CUDA must be auto, on or off, got 'yes'")


def test_torch_that_is_too_old(empty_python, tmp_path):
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch/__init__.py").touch()
    (tmp_path / "torch/version.py").write_text("__version__ = '2.9.1+cpu'\n")
    command = [empty_python[0], ROOT / "setup.py", "-q", "build_ext", "--build-temp", tmp_path, "--build-lib", tmp_path]
    done = run(*command, PYTHONPATH=f"{empty_python[1]}:{tmp_path}", cwd=ROOT)
    ends_in_one_sentence(done, r"torch >= 2\.10 is needed, 2\.9\.1\+cpu was found in .*: install it first")


@pytest.fixture
def toolchain(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "build_backend")
    for name in ("ASMA_CUDA", "ASMA_CUDA_ARCHS", "CUDA_HOME"):
        monkeypatch.delenv(name, raising=False)
    import toolchain

    return toolchain


@pytest.fixture
def nvcc(monkeypatch, tmp_path):
    """An nvcc that knows some architectures."""
    (tmp_path / "bin").mkdir()
    fake = tmp_path / "bin/nvcc"
    fake.write_text("#!/bin/sh\nprintf 'sm_75\\nsm_80\\nsm_90\\n'\n")
    fake.chmod(0o755)
    monkeypatch.setenv("CUDA_HOME", str(tmp_path))
    return fake


def test_cuda_is_built_where_nvcc_is(toolchain, nvcc, monkeypatch):
    assert toolchain.find_cuda() == toolchain.Cuda(str(nvcc), "80-real;90-real;90-virtual")
    monkeypatch.setenv("ASMA_CUDA_ARCHS", "sm_75, 8.0 90a+PTX")
    assert toolchain.find_cuda().archs == "75-real;80-real;90a-real;90a-virtual"
    monkeypatch.setenv("ASMA_CUDA", "off")
    assert toolchain.find_cuda() == toolchain.Cuda(left_out="ASMA_CUDA=off")


@pytest.mark.parametrize("wish", ["70", "8", "hopper", ",", "80;;90x"])
def test_cuda_architectures_that_nvcc_does_not_know(toolchain, nvcc, monkeypatch, wish):
    monkeypatch.setenv("ASMA_CUDA_ARCHS", wish)
    with pytest.raises(SystemExit, match=r"ASMA_CUDA_ARCHS must name architectures that nvcc knows \(sm_75, sm_80"):
        toolchain.find_cuda()


def test_cuda_where_there_is_no_nvcc(toolchain, monkeypatch):
    monkeypatch.setattr(toolchain.shutil, "which", lambda name, path=None: None)
    assert toolchain.find_cuda() == toolchain.Cuda(left_out="nvcc was not found")
    monkeypatch.setenv("ASMA_CUDA", "on")
    with pytest.raises(SystemExit, match="asma-kernels: ASMA_CUDA=on, but nvcc was not found: install the CUDA"):
        toolchain.find_cuda()


def test_cuda_where_nvcc_does_not_run(toolchain, nvcc):
    nvcc.write_text("#!/bin/sh\nexit 1\n")
    assert toolchain.find_cuda() == toolchain.Cuda(left_out=f"{nvcc} does not run")


def test_host_module_is_built_where_python_has_headers(toolchain, monkeypatch, tmp_path):
    (tmp_path / "Python.h").touch()
    monkeypatch.setattr(toolchain.sysconfig, "get_path", lambda name: str(tmp_path))
    found = toolchain.find_host()
    assert found.left_out == "" and found.suffix and found.includes.startswith(f"{tmp_path};")
    assert (Path(found.includes.split(";")[1]) / "pybind11/pybind11.h").is_file()
    monkeypatch.setattr(toolchain, "find_pybind11", lambda: None)
    assert toolchain.find_host() == toolchain.Host(left_out="pybind11 was not found: `pip install pybind11`")
    (tmp_path / "Python.h").unlink()
    assert toolchain.find_host().left_out.startswith(f"Python.h was not found in {tmp_path}: install python3-dev")


def test_tools_that_are_old_or_do_not_run_are_passed_over(toolchain, monkeypatch, tmp_path):
    for folder, script in (
        ("broken", "exit 1"),
        ("old", "echo cmake version 3.9.1"),
        ("new", "echo cmake version 4.2"),
    ):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "cmake").write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / folder / "cmake").chmod(0o755)
    monkeypatch.setattr(toolchain.sysconfig, "get_path", lambda name: str(tmp_path / "broken"))
    monkeypatch.setenv("PATH", f"{tmp_path / 'old'}:{tmp_path / 'new'}")
    assert toolchain.find_tool("cmake", (3, 22)) == str(tmp_path / "new/cmake")
    with pytest.raises(SystemExit, match=r"asma-kernels: ninjas >= 1\.5 was not found: install it"):
        toolchain.require_tool("ninjas", (1, 5))


def test_setuptools_that_is_too_old(toolchain, monkeypatch):
    monkeypatch.setattr(toolchain.importlib.metadata, "version", lambda name: "65.5.0")
    with pytest.raises(SystemExit, match=r"asma-kernels: setuptools >= 77 is needed, 65\.5\.0 was found: `pip install"):
        toolchain.check_setuptools()


def test_backend_asks_for_tools_that_are_missing(toolchain, monkeypatch):
    import backend

    monkeypatch.setattr(toolchain, "find_tool", lambda name, at_least=(0, 0): None)
    monkeypatch.setattr(toolchain, "find_pybind11", lambda: None)
    assert set(backend.get_requires_for_build_wheel()) >= {"cmake>=3.22", "ninja", "pybind11>=2.13"}
    assert set(backend.get_requires_for_build_editable()) >= {"cmake>=3.22", "ninja", "pybind11>=2.13"}


@pytest.mark.skipif(ARM is None, reason="aarch64-linux-gnu-g++ was not found")
def test_kernels_compile_for_arm64(tmp_path):
    flags = ["-std=c++20", "-O1", "-fPIC", "-fno-math-errno", "-fno-trapping-math", "-DASMA_ISA=generic"]
    for source in sorted((ROOT / "csrc/cpu").glob("*.cpp")):
        succeed(ARM, *flags, "-c", source, "-o", tmp_path / "object.o")
    for name in ("decimal", "ntu_files", "ntu_skeleton"):
        succeed(ARM, *flags, "-c", ROOT / f"csrc/host/{name}.cpp", "-o", tmp_path / "object.o")
    headers = ["-DTORCH_TARGET_VERSION=0x020a000000000000", f"-I{Path(torch.__file__).parent}/include"]
    for source in [ROOT / "csrc/schema.cpp", *sorted((ROOT / "csrc/cpu/bind").glob("*.cpp"))]:
        succeed(ARM, *flags, *headers, "-fsyntax-only", source)

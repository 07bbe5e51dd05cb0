"""asma-edge, the C example, what is installed, and the engine on ARM64."""

import json
import os
import re
import shutil
import subprocess

import edge_engine
import numpy as np
import pytest
from edge_engine import ROOT, student

from asma.classifier import save_classifier
from asma.cli import main
from asma.config import DataConfig
from asma.data import builtin_clips
from asma.edge_file import edge_bytes
from asma.predict import predict
from asma.prepare import prepare

CLIPS = builtin_clips(classes=3, subjects=2, views=1, repeats=1)
MODEL = student(CLIPS.skeleton, (8, 8, 12), (1, 2, 1), DataConfig(frames=23, persons=2, scale=True))
CLIP = CLIPS.clip(0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model and a clip of one person, in three ways of writing it."""
    folder = tmp_path_factory.mktemp("command")
    (folder / "model.edge").write_bytes(edge_bytes(MODEL))
    for precision in ("bfloat16", "int8"):
        content = edge_bytes(MODEL, precision, prepare(CLIPS, MODEL.data))
        (folder / f"{precision}.edge").write_bytes(content)
    frames = CLIP.tolist()
    (folder / "clip.json").write_text(json.dumps(frames, indent=1))
    (folder / "persons.json").write_text(json.dumps([[person, None] for person in frames]))
    (folder / "more.json").write_text(json.dumps([[person, None, person] for person in frames]))
    return folder


@pytest.fixture
def run(edge_build, folder):
    def run(*arguments, text="", status=0):
        command = [edge_build / "asma-edge", *arguments]
        done = subprocess.run(command, input=text, capture_output=True, text=True, cwd=folder)
        assert done.returncode == status, done.stderr
        if status:
            assert done.stderr.startswith("asma-edge: ") and done.stderr.count("\n") == 1, done.stderr
            return done.stderr
        assert done.stderr == ""
        return [json.loads(line) for line in done.stdout.splitlines()]

    return run


def check_answer(answer, clip):
    said = predict(MODEL, clip)
    assert answer["class"] == said.classes[0]
    assert list(answer["probabilities"]) == list(said.classes)
    assert list(answer["probabilities"].values()) == pytest.approx(said.probabilities, abs=1e-4)


def test_a_clip_is_named_as_asma_predict_names_it(run):
    names = ["clip.json", "persons.json", "more.json"]
    answers = run("model.edge", *names)
    assert [answer["clip"] for answer in answers] == names
    for answer in answers:
        check_answer(answer, CLIP)
        assert answer["probabilities"] == answers[0]["probabilities"]


def test_a_stream_is_answered_frame_by_frame(run):
    lines = [json.dumps(frame.tolist()) for frame in CLIP]
    answers = run("model.edge", "--window", "30", text="\n".join(lines) + "\n")
    assert [answer["frame"] for answer in answers] == list(range(len(CLIP)))
    for t in (0, 1, len(CLIP) // 2, len(CLIP) - 1):
        check_answer(answers[t], CLIP[max(0, t - 29) : t + 1])
    every = run("model.edge", "--every", "7", "--window", "30", "--top", "1", text="\n".join(lines))
    assert [answer["frame"] for answer in every] == list(range(6, len(CLIP), 7))
    assert every[0]["probabilities"] == {answers[6]["class"]: answers[6]["probabilities"][answers[6]["class"]]}


def test_reset_and_frames_without_anybody(run):
    line = json.dumps(CLIP[0].tolist())
    answers = run("model.edge", text=f'{line}\n\nnull\n[null, null]\n"reset"\n  {line}  \n')
    assert [answer["frame"] for answer in answers] == [0, 1, 2, 0]
    assert answers[0]["probabilities"] == answers[3]["probabilities"] != answers[2]["probabilities"]


FIRST = 1 + 4 + 4 + 2 * 4
"""Frames for a live stream's first answer: half of nine taps in each of MODEL's blocks, of which one has stride 2."""


def test_a_live_stream_is_answered_frame_by_frame(run, engine, folder):
    lines = "".join(json.dumps(frame.tolist()) + "\n" for frame in CLIP)
    answers = run("model.edge", "--live", "--window", "9", "--top", "9", text=f'{lines}"reset"\n{lines}')
    assert [answer["frame"] for answer in answers] == 2 * list(range(len(CLIP)))
    assert answers[: len(CLIP)] == answers[len(CLIP) :] and len(CLIP) > FIRST
    live = engine.open(folder / "model.edge").start_live(9)
    for t, frame in enumerate(CLIP):
        live.push(np.stack([frame, frame]), 1)
        if t + 1 < FIRST:
            assert answers[t] == {"frame": t, "class": None, "probabilities": {}}
            continue
        live.predict()
        by_class = {name: answers[t]["probabilities"][name] for name in MODEL.classes}
        assert list(by_class.values()) == pytest.approx(live.probabilities.tolist(), abs=1e-5)
        assert answers[t]["class"] == max(by_class, key=by_class.get)
    assert "--live: it takes frames on stdin, and no clips" in run("model.edge", "clip.json", "--live", status=2)


def test_older_instructions_answer_live_streams_too(run, monkeypatch):
    lines = "".join(json.dumps(frame.tolist()) + "\n" for frame in CLIP)
    newest = run("model.edge", "--live", text=lines)
    for level in ("generic", "avx2"):
        monkeypatch.setenv("ASMA_ISA", level)
        for one, other in zip(run("model.edge", "--live", text=lines), newest, strict=True):
            assert one["probabilities"] == pytest.approx(other["probabilities"], abs=1e-5)


def test_description(run):
    (said,) = run("model.edge", "--describe")
    assert said["classes"] == list(MODEL.classes) and said["joint_names"] == list(CLIPS.skeleton.names)
    assert (said["frames"], said["persons"], said["prepares"]) == (23, 2, True)
    assert (said["live"]["first"], said["live"]["full"], said["live"]["stride"]) == (FIRST, FIRST + 2 * (8 + 11), 2)


JOINTS = json.dumps(CLIP[0].tolist())
WRONG = {
    "{}": "line 1: a frame must be a list of joints, a list of persons, or null, at frame 0, byte 0",
    "[]": f"a person must have the model's {len(CLIP[0])} joints, got 0",
    JOINTS[:-1]: "a comma or a closing bracket must follow a joint",
    JOINTS + "]": "nothing must follow it",
    JOINTS.replace("[[", "[[1,", 1): "a joint must be [x, y, z], three numbers",
    "[[[1, 2, 3]]]": f"a person must have the model's {len(CLIP[0])} joints, got 1",
    "[[1, 2, x]]": "a coordinate must be a number",
    "[[1, 2, 0x10]]": "a coordinate must be a number",
    "[[1, 2, 1e]]": "a coordinate must be a number",
    JOINTS.replace("[[", "[[NaN, 1, 2], [", 1).rsplit(", [", 1)[0] + "]": "coordinates must be finite, got nan",
    JOINTS.replace("[[", "[[1e99, 1, 2], [", 1).rsplit(", [", 1)[0] + "]": "coordinates must be finite, got inf",
}


@pytest.mark.parametrize("line", WRONG)
def test_lines_that_are_no_frame(run, line):
    assert WRONG[line] in run("model.edge", text=line + "\n", status=2)


def test_clips_and_options_that_are_wrong(run, folder):
    assert "nothing.json: No such file" in run("model.edge", "nothing.json", status=2)
    assert "nothing.edge cannot be read: No such file" in run("nothing.edge", "clip.json", status=2)
    assert "must begin with ASMAEDGE" in run("clip.json", "clip.json", status=2)
    (folder / "empty.json").write_text("[]")
    assert "empty.json: a clip must have from 1 to" in run("model.edge", "empty.json", status=2)
    (folder / "frame.json").write_text(JOINTS)
    assert "frame.json: a joint must be [x, y, z]" in run("model.edge", "frame.json", status=2)
    assert "--evrey: there is no such option" in run("model.edge", "--evrey", "3", status=2)
    for value in ("0", "-1", "x", "1.5", "99999999999999999999"):
        assert f"it must be a whole number from 1, got {value}" in run("model.edge", "--every", value, status=2)


def test_only_libc_and_libm_are_needed(edge_build):
    for path in (edge_build / "asma-edge", edge_build / "csrc/edge/libasma_edge.so"):
        needed = subprocess.run(["readelf", "-d", path], capture_output=True, text=True, check=True).stdout
        libraries = {word.strip("[]") for line in needed.splitlines() if "NEEDED" in line for word in line.split()[-1:]}
        assert libraries <= {"libc.so.6", "libm.so.6", "libasma_edge.so", "ld-linux-x86-64.so.2"}, libraries
    names = ["nm", "-D", "--defined-only", edge_build / "csrc/edge/libasma_edge.so"]
    exported = subprocess.run(names, capture_output=True, text=True, check=True).stdout
    assert exported and all(line.split()[-1].startswith("asma_edge_") for line in exported.splitlines()), exported


def test_shared_functions_are_not_compiled_for_newer_processors(edge_build):
    """As in test_build: a weak function of an AVX-512 object may be the copy that the linker keeps for all."""
    objects = sorted(edge_build.glob("csrc/edge/CMakeFiles/asma_edge_*.dir/*.cpp.o"))
    assert {path.name for path in objects} == {"live.cpp.o", "network.cpp.o"}
    for path in objects:
        isa = path.parent.name.removeprefix("asma_edge_").removesuffix(".dir")
        listed = subprocess.run(["nm", "-C", "--defined-only", path], capture_output=True, text=True, check=True).stdout
        weak = re.findall(r"^\w+ [WVu] (.*)$", listed, re.MULTILINE)
        assert not [name for name in weak if f"asma::{isa}::" not in name.split("(")[0]]


def test_installed_library_serves_a_c_program(edge_build, folder, tmp_path):
    prefix = tmp_path / "prefix"
    install = ["cmake", "--install", edge_build, "--component", "edge", "--prefix", prefix]
    subprocess.run(install, check=True, capture_output=True)
    (package,) = prefix.glob("lib*/**/asma_edge.pc")
    assert (prefix / "include/asma_edge.h").is_file() and list(prefix.glob("lib*/**/asma_edge-config.cmake"))
    flags = [f"-I{prefix}/include", f"-L{package.parents[1]}", "-lasma_edge", "-lm"]
    if shutil.which("pkg-config"):
        environment = os.environ | {"PKG_CONFIG_PATH": str(package.parent)}
        asked = ["pkg-config", "--cflags", "--libs", "asma_edge"]
        flags = subprocess.run(asked, env=environment, capture_output=True, text=True, check=True).stdout.split()
    program = tmp_path / "example"
    strict = ["cc", "-std=c99", "-Wall", "-Wextra", "-pedantic", "-Werror"]
    subprocess.run([*strict, ROOT / "csrc/edge/example.c", *flags, "-o", program], check=True)
    environment = os.environ | {"LD_LIBRARY_PATH": str(package.parents[1])}
    done = subprocess.run([program, folder / "model.edge"], env=environment, capture_output=True, text=True, check=True)
    shares = {line.split(" ", 1)[1]: float(line.split(" ", 1)[0]) for line in done.stdout.splitlines()}
    assert list(shares) == list(MODEL.classes) and sum(shares.values()) == pytest.approx(1, abs=1e-3)
    done = subprocess.run([program, folder / "clip.json"], env=environment, capture_output=True, text=True)
    assert done.returncode == 2 and "must begin with ASMAEDGE" in done.stderr


def test_nothing_is_allocated_after_a_stream_was_started(edge_build, folder, tmp_path):
    """The engine's objects, without the library around them, with their calls of the allocator counted."""
    parts = edge_build.glob("csrc/edge/CMakeFiles/asma_edge*.dir/**/*.o")
    objects = [path for path in parts if "asma_edge_python.dir" not in path.parts]
    wrapped = [f"-Wl,--wrap={name}" for name in ("malloc", "calloc", "realloc", "posix_memalign")]
    program = tmp_path / "allocations"
    source = [f"-I{ROOT}/csrc/edge", ROOT / "tests/edge_allocations.c"]
    subprocess.run(["cc", *source, *objects, *wrapped, "-lm", "-o", program], check=True)
    for model in ("model.edge", "bfloat16.edge", "int8.edge"):
        done = subprocess.run([program, folder / model], capture_output=True, text=True)
        assert (done.returncode, done.stdout) == (0, "0\n")


def test_export_writes_what_the_command_reads(run, folder, tmp_path, capsys):
    save_classifier(tmp_path / "classifier.safetensors", MODEL, {})
    out = tmp_path / "made" / "student.edge"
    assert main(["export", str(tmp_path), "--to", "edge", "--out", str(out)]) == 0
    assert f"{out}: {out.stat().st_size:,} bytes, edge, " in capsys.readouterr().out
    assert out.read_bytes() == edge_bytes(MODEL)
    check_answer(run(out, "clip.json")[0], CLIP)
    assert main(["export", str(tmp_path / "nothing"), "--out", str(out)]) == 2
    assert "is not there" in capsys.readouterr().err
    assert out.read_bytes() == edge_bytes(MODEL)


ARM = """
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR {processor})
set(CMAKE_CXX_COMPILER {compiler})
set(CMAKE_EXE_LINKER_FLAGS -static)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("processor", "compiler", "instructions"),
    [("aarch64", "aarch64-linux-gnu-g++", "neon"), ("arm", "arm-linux-gnueabihf-g++", "generic")],
)
def test_on_arm(run, folder, tmp_path, processor, compiler, instructions):
    """64 and 32 bit."""
    if not shutil.which(compiler):
        pytest.skip(f"{compiler} was not found")
    (tmp_path / "arm.cmake").write_text(ARM.format(processor=processor, compiler=compiler))
    command = edge_engine.build(tmp_path / "build", f"-DCMAKE_TOOLCHAIN_FILE={tmp_path / 'arm.cmake'}") / "asma-edge"
    emulator = shutil.which(f"qemu-{processor}") or shutil.which(f"qemu-{processor}-static")
    if not emulator:
        pytest.skip(f"compiled, but neither qemu-{processor} nor qemu-{processor}-static was found to run it")

    def emulated(*arguments, status=0, **options):
        done = subprocess.run([emulator, command, *arguments], capture_output=True, text=True, cwd=folder, **options)
        assert done.returncode == status, done.stderr
        return done

    (here,) = run("model.edge", "clip.json")
    there = json.loads(emulated("model.edge", "clip.json").stdout)
    assert list(there["probabilities"]) == list(here["probabilities"])
    assert list(there["probabilities"].values()) == pytest.approx(list(here["probabilities"].values()), abs=1e-5)
    lines = "".join(json.dumps(frame.tolist()) + "\n" for frame in CLIP[:5])
    streamed = [json.loads(line) for line in emulated("model.edge", input=lines).stdout.splitlines()]
    for one, other in zip(streamed, run("model.edge", text=lines), strict=True):
        assert list(one["probabilities"].values()) == pytest.approx(list(other["probabilities"].values()), abs=1e-5)
    lines = "".join(json.dumps(frame.tolist()) + "\n" for frame in CLIP[: FIRST + 2])
    live = [json.loads(line) for line in emulated("model.edge", "--live", input=lines).stdout.splitlines()]
    for one, other in zip(live, run("model.edge", "--live", text=lines), strict=True):
        assert one["class"] == other["class"]
        assert list(one["probabilities"].values()) == pytest.approx(list(other["probabilities"].values()), abs=1e-5)
    assert f'"{instructions}"' in emulated("model.edge", "--describe").stdout
    for model in ("bfloat16.edge", "int8.edge"):  # of which the answer here may have rounded otherwise
        (here,), there = run(model, "clip.json"), json.loads(emulated(model, "clip.json").stdout)
        assert list(there["probabilities"].values()) == pytest.approx(list(here["probabilities"].values()), abs=1e-3)
    damaged = bytearray((folder / "model.edge").read_bytes())
    damaged[len(damaged) // 2] ^= 1
    (folder / "damaged.edge").write_bytes(damaged)
    assert "the file is damaged" in emulated("damaged.edge", "clip.json", status=2).stderr
    assert np.isfinite(list(there["probabilities"].values())).all()


@pytest.mark.slow
def test_threads_that_share_a_model_do_not_race(folder, tmp_path):
    trial = ["g++", "-fsanitize=thread", "-x", "c++", "-", "-o", tmp_path / "trial"]
    if subprocess.run(trial, input="int main() {}", text=True, capture_output=True).returncode:
        pytest.skip("this g++ has no ThreadSanitizer")
    edge = ROOT / "csrc/edge"
    network = ("live", "live_stream", "model", "network", "network_size", "weights")
    names = ("checksum", "file", *network, "prepare", "stream")
    sources = [ROOT / "tests/edge_threads.cpp", ROOT / "csrc/cpu/isa.cpp", *(edge / f"{name}.cpp" for name in names)]
    one_level = ["-DASMA_GENERIC_ONLY", "-DASMA_ISA=generic", "-DASMA_NO_HALF"]
    flags = ["-std=c++17", "-O1", "-g", "-fsanitize=thread", *one_level, "-pthread"]
    subprocess.run(["g++", *flags, *sources, "-o", tmp_path / "threads"], check=True)
    # Without the random places of memory, of which some kernels have more than the sanitizer knows.
    still = ["setarch", "--addr-no-randomize"] if shutil.which("setarch") else []
    done = subprocess.run([*still, tmp_path / "threads", folder / "model.edge"], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "same\n", "")

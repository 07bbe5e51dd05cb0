"""The edge engine, built from the checkout, with its C API by ctypes; and small models for it."""

import copy
import ctypes
import os
import subprocess
import sysconfig
from pathlib import Path

import numpy as np
import torch
from torch import nn

from asma.classifier import Classifier
from asma.config import DataConfig, EncoderConfig
from asma.models import Encoder
from asma.models.alignment import Alignment
from asma_kernels import Skeleton

ROOT = Path(__file__).parents[1]
ALIGNMENT = 64
EVERYBODY = 2**32 - 1
OK, BAD_ARGUMENT, CANNOT_READ, NOT_A_MODEL, OTHER_FORMAT, DAMAGED, TOO_LARGE = range(7)
NO_MEMORY, NOT_FINITE, NO_FRAME, PREPARED_ONLY, FLOAT32_ONLY = range(7, 12)


def build(folder: Path, *options: str) -> Path:
    """The build folder, with the library and asma-edge in it."""
    environment = os.environ | {"PATH": sysconfig.get_path("scripts") + os.pathsep + os.environ["PATH"]}
    configure = ["cmake", "-G", "Ninja", "-S", ROOT, "-B", folder, "-DASMA_EDGE=ON", "-DASMA_OPS=OFF", *options]
    for command in (configure, ["cmake", "--build", folder]):
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment)
        assert done.returncode == 0, done.stdout
        assert "warning:" not in done.stdout, done.stdout
    return folder


class Error(ctypes.Structure):
    _fields_ = [("sentence", ctypes.c_char * 256)]


class Description(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_uint32) for name in ("format", "channels", "frames", "joints", "persons", "encoders")),
        *((name, ctypes.c_uint32) for name in ("blocks", "classes", "prepares")),
        *((name, ctypes.c_uint64) for name in ("file_bytes", "model_bytes", "stream_bytes")),
        *((name, ctypes.c_char_p) for name in ("instructions", "precision", "multiplies")),
    ]


class LiveDescription(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_uint32) for name in ("first", "full", "stride")),
        ("stream_bytes", ctypes.c_uint64),
    ]


class RefusedError(Exception):
    def __init__(self, code: int, sentence: str) -> None:
        super().__init__(f"{code}: {sentence}")
        self.code, self.sentence = code, sentence


class Engine:
    """The library."""

    def __init__(self, path: Path) -> None:
        self.library = library = ctypes.CDLL(str(path))
        pointer, out = ctypes.c_void_p, ctypes.POINTER(ctypes.c_void_p)
        error, size = ctypes.POINTER(Error), ctypes.c_size_t
        library.asma_edge_open.argtypes = [ctypes.c_char_p, out, error]
        library.asma_edge_open_memory.argtypes = [pointer, size, out, error]
        library.asma_edge_close.argtypes = [pointer]
        library.asma_edge_describe.argtypes = [pointer, ctypes.POINTER(Description)]
        for name in ("class", "joint"):
            getattr(library, f"asma_edge_{name}").argtypes = [pointer, ctypes.c_uint32]
            getattr(library, f"asma_edge_{name}").restype = ctypes.c_char_p
        library.asma_edge_start.argtypes = library.asma_edge_start_live.argtypes = [
            pointer,
            ctypes.c_uint32,
            out,
            error,
        ]
        library.asma_edge_describe_live.argtypes = [pointer, ctypes.c_uint32, ctypes.POINTER(LiveDescription)]
        library.asma_edge_stop.argtypes = library.asma_edge_reset.argtypes = [pointer]
        library.asma_edge_push.argtypes = [pointer, pointer, ctypes.c_uint32, error]
        library.asma_edge_push_prepared.argtypes = [pointer, pointer, error]
        library.asma_edge_predict.argtypes = [pointer, pointer, pointer, error]
        library.asma_edge_predict_clip.argtypes = [pointer, pointer, pointer, size, pointer, pointer, error]
        library.asma_edge_predict_prepared.argtypes = [pointer, pointer, pointer, pointer, error]

    def call(self, name: str, *arguments: object) -> None:
        error = Error(b"not written")
        code = getattr(self.library, f"asma_edge_{name}")(*arguments, ctypes.byref(error))
        sentence = error.sentence.decode()
        assert (code == OK) == (sentence == ""), (code, sentence)
        if code:
            raise RefusedError(code, sentence)

    def open(self, content: bytes | Path) -> "Model":
        return Model(self, content)


class Model:
    """An open model of a file, or of bytes in memory."""

    def __init__(self, engine: Engine, content: bytes | Path) -> None:
        self.engine, self.handle = engine, ctypes.c_void_p()
        if isinstance(content, Path):
            engine.call("open", os.fsencode(content), ctypes.byref(self.handle))
        else:
            # Of a length of its own, so that a sanitizer or the allocator sees steps over the end.
            self._memory = np.empty(len(content) + ALIGNMENT, np.uint8)
            skip = -self._memory.ctypes.data % ALIGNMENT
            self._memory[skip : skip + len(content)] = np.frombuffer(content, np.uint8)
            engine.call("open_memory", self._memory.ctypes.data + skip, len(content), ctypes.byref(self.handle))
        self.description = Description()
        engine.library.asma_edge_describe(self.handle, ctypes.byref(self.description))

    def __del__(self) -> None:
        self.engine.library.asma_edge_close(self.handle)

    def names(self, kind: str, count: int) -> list[str]:
        name = getattr(self.engine.library, f"asma_edge_{kind}")
        assert name(self.handle, count) is None
        return [name(self.handle, i).decode() for i in range(count)]

    def start(self, window: int = 0) -> "Stream":
        return Stream(self, "start", window)

    def start_live(self, window: int = 0) -> "Stream":
        return Stream(self, "start_live", window)

    def describe_live(self, window: int = 0) -> LiveDescription:
        description = LiveDescription()
        self.engine.library.asma_edge_describe_live(self.handle, window, ctypes.byref(description))
        return description


class Stream:
    def __init__(self, model: Model, how: str, window: int) -> None:
        self.model, self.handle = model, ctypes.c_void_p()
        model.engine.call(how, model.handle, window, ctypes.byref(self.handle))

    def __del__(self) -> None:
        self.model.engine.library.asma_edge_stop(self.handle)

    def reset(self) -> None:
        self.model.engine.library.asma_edge_reset(self.handle)

    def push(self, frame: np.ndarray | None, present: int = EVERYBODY) -> None:
        data = None if frame is None else np.ascontiguousarray(frame, np.float32)
        self.model.engine.call("push", self.handle, None if data is None else data.ctypes.data, present)

    def push_prepared(self, x: np.ndarray) -> None:
        """(C, V, M), to a live stream."""
        data = np.ascontiguousarray(x, np.float32)
        self.model.engine.call("push_prepared", self.handle, data.ctypes.data)

    def predict(self) -> np.ndarray:
        return self._answer("predict")

    def predict_clip(self, clip: np.ndarray, present: np.ndarray | None = None) -> np.ndarray:
        """Logits of (frames, M, V, 3); see `answer` for the probabilities."""
        data = np.ascontiguousarray(clip, np.float32)
        there = None if present is None else np.ascontiguousarray(present, np.uint32)
        return self._answer("predict_clip", data.ctypes.data, None if there is None else there.ctypes.data, len(data))

    def predict_prepared(self, x: np.ndarray) -> np.ndarray:
        """Logits of (C, T, V, M)."""
        data = np.ascontiguousarray(x, np.float32)
        return self._answer("predict_prepared", data.ctypes.data)

    def _answer(self, name: str, *arguments: object) -> np.ndarray:
        """Logits; `probabilities` of the last call are beside them."""
        self.probabilities, logits = np.full((2, self.model.description.classes), np.nan, np.float32)
        data = (self.probabilities.ctypes.data, logits.ctypes.data)
        self.model.engine.call(name, self.handle, *arguments, *data)
        return logits


def student(
    skeleton: Skeleton,
    channels: tuple[int, ...] = (8, 12),
    strides: tuple[int, ...] = (1, 2),
    data: DataConfig | None = None,
    classes: int = 3,
    seed: int = 0,
    encoders: int = 1,
    mode: str = "aligned",
    **encoder: object,
) -> Classifier:
    """Random in everything that training sets: weights, statistics of the norms, importance of edges."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        config = EncoderConfig(channels=channels, strides=strides, dropout=0.0, **encoder)
        parts = [Encoder(config, skeleton) for _ in range(encoders)]
        features = parts[0].features
        alignment = Alignment(features, 10, mode) if encoders == 2 else None
        head = nn.Linear(alignment.features if alignment else features, classes)
        names = tuple(f"class {k}" for k in range(classes))
        model = Classifier(parts, alignment, head, names, data or DataConfig(frames=13))
        for module in model.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                nn.init.normal_(module.running_mean, 0, 0.3)
                nn.init.uniform_(module.running_var, 0.5, 2)
                if module.affine:
                    nn.init.uniform_(module.weight, 0.5, 1.5)
                    nn.init.normal_(module.bias, 0, 0.3)
        for part in parts:
            for importance in part.edge_importance:
                nn.init.uniform_(importance, 0.5, 1.5)
    return model.eval()


def logits_of(model: Classifier, x: torch.Tensor) -> np.ndarray:
    """PyTorch's, in float64."""
    with torch.no_grad():
        return copy.deepcopy(model).double()(x.double()).numpy()


def live_logits_of(model: Classifier, x: torch.Tensor, window: int = 0) -> list[np.ndarray | None]:
    """PyTorch's, in float64, after each frame of x (C, T, V, M): of what the network makes of the whole sequence, the
    newest frames that nothing that is yet to come can change. None where there is no such frame."""
    model, x = copy.deepcopy(model).double(), x[None].double()
    found: list[np.ndarray | None] = []
    with torch.no_grad():
        maps = {encoder: encoder.feature_map(x) for encoder in model.encoders}
        for count in range(1, x.shape[2] + 1):
            least = count
            for encoder in model.encoders:
                end, kept = count, window or model.data.frames
                for stride in encoder.config.strides:
                    end = max(0, (end - 1 - encoder.config.kernel // 2) // stride + 1)
                    kept = (kept - 1) // stride + 1
                newest = maps[encoder][:, :, max(0, end - kept) : end]
                encoder.feature_map = lambda x, joints=None, newest=newest: newest
                least = min(least, end)
            found.append(model(x)[0].numpy() if least else None)
    return found

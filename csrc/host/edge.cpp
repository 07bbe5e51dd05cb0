// The edge engine in Python, with NumPy and nothing else: asma.edge in the wheel, asma_edge where CMake built it alone.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "../edge/asma_edge.h"

namespace py = pybind11;

namespace {

[[noreturn]] void raise(PyObject* type, const std::string& sentence) {
  PyErr_SetString(type, sentence.c_str());
  throw py::error_already_set();
}

void check(int code, const asma_edge_error& error) {
  if (code == ASMA_EDGE_OK) return;
  const bool state = code == ASMA_EDGE_NO_FRAME || code == ASMA_EDGE_PREPARED_ONLY;
  raise(code == ASMA_EDGE_CANNOT_READ ? PyExc_OSError
        : code == ASMA_EDGE_NO_MEMORY ? PyExc_MemoryError
        : state                       ? PyExc_RuntimeError
                                      : PyExc_ValueError,
        error.sentence);
}

// An array's numbers one after the other; the caller's own where they lie so already.
template <class T>
py::array_t<T, py::array::c_style> numbers_of(const char* name, const char* type, py::handle given,
                                              const std::vector<py::ssize_t>& shape) {
  const auto must_be = [&](const std::string& what, py::handle found) {
    raise(PyExc_ValueError, "edge: " + std::string(name) + " must be " + what + ", got " + std::string(py::str(found)));
  };
  if (!py::isinstance<py::array>(given)) must_be(std::string("a NumPy array of ") + type, py::type::of(given));
  const py::array array = py::reinterpret_borrow<py::array>(given);
  if (!py::isinstance<py::array_t<T>>(array)) must_be(type, array.dtype());
  py::tuple wanted(shape.size());
  bool fits = static_cast<std::size_t>(array.ndim()) == shape.size();
  for (std::size_t i = 0; i < shape.size(); ++i) {
    fits = fits && (shape[i] < 0 || array.shape(static_cast<py::ssize_t>(i)) == shape[i]);
    wanted[i] = shape[i] < 0 ? py::object(py::str("T")) : py::object(py::int_(shape[i]));
  }
  if (!fits) {
    std::string rule = "of shape (";
    for (std::size_t i = 0; i < shape.size(); ++i) rule += (i ? ", " : "") + std::string(py::str(wanted[i]));
    must_be(rule + (shape.size() == 1 ? ",)" : ")"), array.attr("shape"));
  }
  return py::array_t<T, py::array::c_style>(array);
}

// What a model's streams share with it.
struct Opened {
  explicit Opened(const py::object& source) {
    asma_edge_error error;
    if (!py::isinstance<py::bytes>(source)) {
      const std::string path = py::bytes(py::module_::import("os").attr("fsencode")(source));
      if (path.find('\0') != std::string::npos) raise(PyExc_ValueError, "edge: a path must have no zero byte");
      int code;
      {
        const py::gil_scoped_release others_run;
        code = asma_edge_open(path.c_str(), &model, &error);
      }
      check(code, error);
    } else {
      const std::string_view content = py::reinterpret_borrow<py::bytes>(source);
      if (posix_memalign(&memory, 64, content.size() + 1) != 0) throw std::bad_alloc();
      std::memcpy(memory, content.data(), content.size());
      if (const int code = asma_edge_open_memory(memory, content.size(), &model, &error)) {
        std::free(memory);
        check(code, error);
      }
    }
    asma_edge_describe(model, &is);
  }
  ~Opened() {
    asma_edge_close(model);
    std::free(memory);
  }
  Opened(const Opened&) = delete;
  Opened& operator=(const Opened&) = delete;

  asma_edge_model* model = nullptr;
  asma_edge_description is{};
  void* memory = nullptr;  // of a model that was given as bytes
};

py::tuple names(const Opened& opened, const char* (*name)(const asma_edge_model*, std::uint32_t), std::uint32_t count) {
  py::tuple found(count);
  for (std::uint32_t i = 0; i < count; ++i) found[i] = py::str(name(opened.model, i));
  return found;
}

class Stream {
 public:
  using Start = decltype(&asma_edge_start);

  Stream(std::shared_ptr<Opened> opened, std::uint32_t window, Start start) : opened_(std::move(opened)) {
    asma_edge_error error;
    check(start(opened_->model, window, &stream_, &error), error);
  }
  ~Stream() { asma_edge_stop(stream_); }
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;

  void push(const py::object& xyz, const py::object& present) {
    const InUse alone(*this);
    const py::ssize_t M = is().persons;
    asma_edge_error error;
    if (xyz.is_none()) {
      if (!present.is_none()) raise(PyExc_ValueError, "edge: present must be None where xyz is None: nobody was seen");
      check(asma_edge_push(stream_, nullptr, 0, &error), error);
      return;
    }
    const auto numbers = numbers_of<float>("xyz", "float32", xyz, {M, is().joints, 3});
    std::uint32_t bits = ASMA_EDGE_EVERYBODY;
    if (!present.is_none()) bits = bits_of(numbers_of<bool>("present", "bool", present, {M}).data());
    check(asma_edge_push(stream_, numbers.data(), bits, &error), error);
  }

  py::array predict(bool logits) {
    return answer(logits, [&](float* probabilities, float* raw, asma_edge_error* error) {
      return asma_edge_predict(stream_, probabilities, raw, error);
    });
  }

  py::array predict_clip(const py::object& xyz, const py::object& present, bool logits) {
    const py::ssize_t M = is().persons;
    const auto numbers = numbers_of<float>("xyz", "float32", xyz, {-1, M, is().joints, 3});
    const auto frames = static_cast<std::size_t>(numbers.shape(0));
    if (frames == 0) raise(PyExc_ValueError, "edge: a clip must have at least one frame, got 0");
    std::vector<std::uint32_t> bits;
    if (!present.is_none()) {
      const auto there = numbers_of<bool>("present", "bool", present, {numbers.shape(0), M});
      for (std::size_t t = 0; t < frames; ++t) bits.push_back(bits_of(there.data() + t * is().persons));
    }
    return answer(logits, [&](float* probabilities, float* raw, asma_edge_error* error) {
      const std::uint32_t* const who = bits.empty() ? nullptr : bits.data();
      return asma_edge_predict_clip(stream_, numbers.data(), who, frames, probabilities, raw, error);
    });
  }

  py::array predict_prepared(const py::object& x, bool logits) {
    const auto numbers = numbers_of<float>("x", "float32", x, {is().channels, is().frames, is().joints, is().persons});
    return answer(logits, [&](float* probabilities, float* raw, asma_edge_error* error) {
      return asma_edge_predict_prepared(stream_, numbers.data(), probabilities, raw, error);
    });
  }

  void reset() {
    const InUse alone(*this);
    asma_edge_reset(stream_);
  }

 private:
  // Taken and given back under the GIL: others run while a prediction is made, and may not use its stream.
  struct InUse {
    explicit InUse(Stream& stream) : stream(stream) {
      if (stream.in_use_)
        raise(PyExc_RuntimeError, "edge: a stream is one thread's at a time, this one is in use: start one for each");
      stream.in_use_ = true;
    }
    ~InUse() { stream.in_use_ = false; }
    Stream& stream;
  };

  const asma_edge_description& is() const { return opened_->is; }

  std::uint32_t bits_of(const bool* present) const {
    std::uint32_t bits = 0;
    for (std::uint32_t m = 0; m < is().persons; ++m) bits |= std::uint32_t{present[m]} << m;
    return bits;
  }

  template <class Call> py::array answer(bool logits, const Call& call) {
    const InUse alone(*this);
    py::array_t<float> found(is().classes);
    float* const to = found.mutable_data();
    asma_edge_error error;
    int code;
    {
      const py::gil_scoped_release others_run;
      code = call(logits ? nullptr : to, logits ? to : nullptr, &error);
    }
    check(code, error);
    return std::move(found);
  }

  std::shared_ptr<Opened> opened_;
  asma_edge_stream* stream_ = nullptr;
  bool in_use_ = false;
};

void define(py::module_& module) {
  module.doc() =
      "The edge engine: a trained student from skeletons to actions, with NumPy and without PyTorch.\n\n"
      "Errors are sentences: OSError where a file cannot be read, ValueError where a file or an array is wrong,\n"
      "RuntimeError where a stream has no frame yet, is in use, or its model takes prepared clips alone.";
  py::class_<Opened, std::shared_ptr<Opened>> model(
      module, "Model", "A model file of `asma export --to edge`, by its path or as bytes. Threads may share it.");
  model.def(py::init<py::object>(), py::arg("source"))
      .def(
          "start",
          [](std::shared_ptr<Opened> opened, std::uint32_t window) {
            return std::make_unique<Stream>(std::move(opened), window, asma_edge_start);
          },
          py::arg("window") = 0,
          "A stream of skeletons, for one thread. window: of how many frames, the newest, a prediction is made; 0 for "
          "the model's.")
      .def(
          "start_live",
          [](std::shared_ptr<Opened> opened, std::uint32_t window) {
            return std::make_unique<Stream>(std::move(opened), window, asma_edge_start_live);
          },
          py::arg("window") = 0,
          "A stream that keeps each block's state, so that a prediction after every frame costs one frame. Only push, "
          "predict and reset are for it; docs/edge.md says what its answers are about.")
      .def_property_readonly("classes", [](const Opened& o) { return names(o, asma_edge_class, o.is.classes); })
      .def_property_readonly("joints", [](const Opened& o) { return names(o, asma_edge_joint, o.is.joints); });
  const auto number = [&](const char* name, auto member) {
    model.def_property_readonly(name, [member](const Opened& o) { return o.is.*member; });
  };
  number("format", &asma_edge_description::format);
  number("channels", &asma_edge_description::channels);
  number("frames", &asma_edge_description::frames);
  number("persons", &asma_edge_description::persons);
  number("encoders", &asma_edge_description::encoders);
  number("blocks", &asma_edge_description::blocks);
  number("file_bytes", &asma_edge_description::file_bytes);
  number("model_bytes", &asma_edge_description::model_bytes);
  number("stream_bytes", &asma_edge_description::stream_bytes);
  number("instructions", &asma_edge_description::instructions);
  model.def_property_readonly("prepares", [](const Opened& o) { return o.is.prepares != 0; });

  py::class_<Stream>(module, "Stream", "Frames of a Model, one after the other. It keeps its model open.")
      .def("push", &Stream::push, py::arg("xyz"), py::arg("present") = py::none(),
           "Add a frame. xyz: (M, V, 3) float32 in the axes and units of the training clips, or None where nobody was "
           "seen. present: (M,) bool, who is there; None for everybody. Not looked at for others.")
      .def("predict", &Stream::predict, py::kw_only(), py::arg("logits") = false,
           "Probabilities, or logits, of the classes (classes,) float32 for the newest frames.")
      .def("predict_clip", &Stream::predict_clip, py::arg("xyz"), py::arg("present") = py::none(), py::kw_only(),
           py::arg("logits") = false,
           "The same of a whole clip, xyz (T, M, V, 3) float32 and present (T, M) bool; frames that were pushed stay.")
      .def("predict_prepared", &Stream::predict_prepared, py::arg("x"), py::kw_only(), py::arg("logits") = false,
           "The same of a clip that asma.prepare prepared, x (C, T, V, M) float32.")
      .def("reset", &Stream::reset, "Forget all frames.");
}

}  // namespace

PYBIND11_MODULE(edge, module) { define(module); }
PYBIND11_MODULE(asma_edge, module) { define(module); }

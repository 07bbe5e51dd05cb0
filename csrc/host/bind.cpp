// The module asma._host: what the wrapper does in C++ beside the ops. It knows no torch.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include "ntu_files.h"

namespace py = pybind11;

namespace {

// The vector becomes the array's memory.
template <class T> py::array_t<T> array_of(std::vector<T>&& values, std::vector<py::ssize_t> shape) {
  auto* kept = new std::vector<T>(std::move(values));
  const py::capsule owner(kept, [](void* vector) { delete static_cast<std::vector<T>*>(vector); });
  return py::array_t<T>(std::move(shape), kept->data(), owner);
}

py::list read_ntu_skeletons(const std::vector<std::string>& paths, int threads) {
  if (threads < 1) throw py::value_error("read_ntu_skeletons: threads must be >= 1, got " + std::to_string(threads));
  std::vector<asma::host::NtuFile> files;
  {
    const py::gil_scoped_release others_run;
    files = asma::host::read_ntu_files(paths, threads);
  }
  py::list results;
  for (asma::host::NtuFile& file : files) {
    const auto bodies = static_cast<py::ssize_t>(file.id.size());
    if (!file.error.empty()) results.append(py::str(file.error));
    else
      results.append(py::make_tuple(file.frames, array_of(std::move(file.frame), {bodies}),
                                    array_of(std::move(file.id), {bodies}),
                                    array_of(std::move(file.xyz), {bodies, 25, 3})));
  }
  return results;
}

}  // namespace

PYBIND11_MODULE(_host, module) {
  module.doc() = "File parsers in C++, without torch; sources in csrc/host.";
  module.def("read_ntu_skeletons", &read_ntu_skeletons, py::arg("paths"), py::arg("threads") = 1);
}

#include "tests/repository/layering.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>

namespace mambad::repository {
namespace {

struct Include {
  std::string_view path;
  int line;
};

// A library is known by the start of the paths of its headers.
struct Library {
  std::string_view name;
  std::initializer_list<std::string_view> prefixes;
};

const Library kLibraries[] = {
    {"proto", {"mambad/v1/", "google/protobuf/", "google/rpc/"}},
    {"gRPC", {"grpc/", "grpc++/", "grpcpp/"}},
    {"absl", {"absl/"}},
    {"prometheus", {"prometheus/"}},
    {"cpp-httplib", {"httplib.h"}},
    {"CLI11", {"CLI/"}},
    {"spdlog", {"spdlog/", "fmt/"}},
    {"nlohmann-json", {"nlohmann/"}},
    {"utf8proc", {"utf8proc.h"}},
    {"PCRE2", {"pcre2.h"}},
    {"xxhash", {"xxhash.h"}},
    {"OpenSSL", {"openssl/"}},
    {"zlib", {"zlib.h"}},
    {"Highway", {"hwy/"}},
    {"CUDA",
     {"cuda", "cublas", "cutlass/", "cute/", "cub/", "thrust/", "nv/", "mma.h", "cooperative_groups",
      "vector_types.h", "nvtx3/", "curand", "driver_types.h"}},
    {"GoogleTest", {"gtest/", "gmock/"}},
    {"Google Benchmark", {"benchmark/"}},
    {"system", {"sys/",       "linux/",    "arpa/",    "netinet/",    "asm/",        "unistd.h",   "fcntl.h",
                "poll.h",     "pthread.h", "sched.h",  "signal.h",    "termios.h",   "netdb.h",    "dirent.h",
                "dlfcn.h",    "spawn.h",   "cpuid.h",  "immintrin.h", "x86intrin.h", "sysexits.h", "malloc.h",
                "execinfo.h", "stdlib.h",  "string.h", "time.h",      "errno.h",     "net/"}},
};

// What a folder may include beside std. The longest folder that contains a file decides. An entry that ends
// in '/' is a folder of ours, one that ends in ".h" a file of ours, any other a library. kernels/base holds
// the macros that every folder shares.
struct Row {
  std::string_view folder;
  std::initializer_list<std::string_view> may;
};

const Row kRows[] = {
    {"kernels/reference/", {}},
    {"kernels/bench/", {"kernels/", "absl", "Highway", "system", "CUDA", "Google Benchmark"}},
    {"kernels/", {"kernels/", "absl", "Highway", "system", "CUDA"}},
    {"engine/text/",
     {"engine/text/", "engine/json_file.h", "kernels/base/", "absl", "nlohmann-json", "utf8proc", "PCRE2",
      "OpenSSL", "xxhash", "system"}},
    {"engine/",
     {"engine/", "kernels/", "absl", "nlohmann-json", "utf8proc", "PCRE2", "OpenSSL", "xxhash", "system"}},
    {"server/commands/",
     {"server/", "engine/", "kernels/base/", "absl", "CLI11", "spdlog", "nlohmann-json", "system"}},
    {"server/",
     {"server/", "engine/", "kernels/base/", "proto", "gRPC", "prometheus", "cpp-httplib", "absl", "CLI11",
      "spdlog", "nlohmann-json", "OpenSSL", "zlib", "system"}},
    {"client/", {"client/", "proto", "gRPC", "absl", "CLI11", "nlohmann-json", "system"}},
    {"proto/", {"proto"}},
    {"tests/", {"kernels/",      "engine/",  "server/",    "client/",          "tests/",  "proto",
                "gRPC",          "absl",     "prometheus", "cpp-httplib",      "CLI11",   "spdlog",
                "nlohmann-json", "utf8proc", "PCRE2",      "xxhash",           "OpenSSL", "zlib",
                "Highway",       "CUDA",     "GoogleTest", "Google Benchmark", "system"}},
};

constexpr std::array<std::string_view, 6> kOurFolders = {"kernels/", "engine/", "server/",
                                                         "client/",  "tests/",  "proto/"};

const Row* RowOf(std::string_view path) {
  const Row* best = nullptr;
  for (const Row& row : kRows) {
    if (path.starts_with(row.folder) && (best == nullptr || row.folder.size() > best->folder.size()))
      best = &row;
  }
  return best;
}

std::string_view TrimLeft(std::string_view text) {
  const size_t at = text.find_first_not_of(" \t");
  return at == std::string_view::npos ? std::string_view() : text.substr(at);
}

// The path of `#include "x"`, `#include <x>` or, in a .proto, `import "x"`.
std::optional<std::string_view> IncludedPath(std::string_view line, bool proto) {
  line = TrimLeft(line);
  if (proto) {
    if (!line.starts_with("import")) return std::nullopt;
    const size_t open = line.find('"');
    if (open == std::string_view::npos) return std::nullopt;
    return line.substr(open + 1, line.find('"', open + 1) - open - 1);
  }
  if (!line.starts_with("#")) return std::nullopt;
  line = TrimLeft(line.substr(1));
  if (!line.starts_with("include")) return std::nullopt;
  line = TrimLeft(line.substr(7));
  if (line.empty() || (line[0] != '"' && line[0] != '<')) return std::nullopt;
  return line.substr(1, line.find_first_of("\">", 1) - 1);
}

std::vector<Include> Includes(const SourceFile& file) {
  std::vector<Include> includes;
  int number = 0;
  for (std::string_view line : SplitLines(file.text)) {
    ++number;
    if (auto path = IncludedPath(line, Extension(file.path) == "proto")) includes.push_back({*path, number});
  }
  return includes;
}

bool IsStd(std::string_view path) { return path.find_first_of("./") == std::string_view::npos; }

std::string_view LibraryOf(std::string_view path) {
  for (const Library& library : kLibraries) {
    for (std::string_view prefix : library.prefixes) {
      if (path.starts_with(prefix)) return library.name;
    }
  }
  return {};
}

bool IsOurs(std::string_view path) {
  return std::ranges::any_of(kOurFolders, [&](std::string_view folder) { return path.starts_with(folder); });
}

bool NamesCuda(std::string_view path) {
  return path.find("cuda") != std::string_view::npos || path.find("cublas") != std::string_view::npos ||
         path.find("cutlass") != std::string_view::npos;
}

// The message for one include of `file`, or "" when it is allowed.
std::string Judge(std::string_view file, const Row& row, std::string_view included) {
  const std::string quoted = "\"" + std::string(included) + "\"";
  const std::string_view extension = Extension(file);
  const bool cuda_file = extension == "cu" || extension == "cuh";
  if (NamesCuda(included) && (extension == "h" || file.starts_with("engine/"))) {
    return "a header, and any file of engine, includes no CUDA path: " + quoted;
  }
  if (Extension(included) == "cuh" && !cuda_file) return "only .cu and .cuh files include a .cuh: " + quoted;
  if (IsOurs(included)) {
    const bool allowed = std::ranges::any_of(row.may, [&](std::string_view entry) {
      return entry == included || (entry.back() == '/' && included.starts_with(entry));
    });
    return allowed ? "" : std::string(row.folder) + " may not include " + quoted;
  }
  const std::string_view library = LibraryOf(included);
  if (library.empty()) {
    if (IsStd(included)) return "";
    return "neither a known library nor a path from the repository's root: " + quoted;
  }
  if (library == "CUDA" && !cuda_file) return "CUDA headers belong into .cu and .cuh files: " + quoted;
  if (std::ranges::find(row.may, library) == row.may.end()) {
    return std::string(row.folder) + " may not use " + std::string(library) + ": " + quoted;
  }
  return "";
}

bool IsWordChar(char c) { return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_'; }

// cudaStream_t, CUstream, cublasHandle_t, __nv_bfloat16, __half ...
bool IsCudaType(std::string_view word) {
  const bool runtime = word.starts_with("cuda") && word.size() > 4 && word[4] >= 'A' && word[4] <= 'Z';
  const bool driver = word.starts_with("CU") && word.size() > 2 && word[2] >= 'a' && word[2] <= 'z';
  return runtime || driver || word.starts_with("cublas") || word.starts_with("__nv_") ||
         word.starts_with("nv_bfloat") || word == "__half" || word == "__half2" || word == "half2";
}

void FindCudaTypes(const SourceFile& file, std::vector<Finding>& findings) {
  const std::string code = BlankCommentsAndStrings(file.text);
  int number = 0;
  for (std::string_view line : SplitLines(code)) {
    ++number;
    for (size_t i = 0; i < line.size();) {
      size_t end = i;
      while (end < line.size() && IsWordChar(line[end])) ++end;
      const std::string_view word = line.substr(i, end - i);
      if (IsCudaType(word))
        findings.push_back({file.path, number, "CUDA type in a header: " + std::string(word)});
      i = end + 1;
    }
  }
}

}  // namespace

std::vector<Finding> CheckLayering(const std::vector<SourceFile>& files) {
  std::vector<Finding> findings;
  std::string httplib_file;
  for (const SourceFile& file : files) {
    const Row* row = RowOf(file.path);
    if (row == nullptr || (!IsCpp(file.path) && Extension(file.path) != "proto")) continue;
    for (const Include& include : Includes(file)) {
      std::string message = Judge(file.path, *row, include.path);
      if (message.empty() && include.path == "httplib.h" && file.path.starts_with("server/")) {
        if (httplib_file.empty()) httplib_file = file.path;
        if (httplib_file != file.path) message = "cpp-httplib is included by " + httplib_file + " already";
      }
      if (!message.empty()) findings.push_back({file.path, include.line, std::move(message)});
    }
    if (Extension(file.path) == "h") FindCudaTypes(file, findings);
  }
  return findings;
}

}  // namespace mambad::repository

// Reads every #include of the tree against the include rules, and proves for each rule that a file which
// breaks it is found.
#include "tests/repository/layering.h"

#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/repository/source_tree.h"

namespace mambad::repository {
namespace {

using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;

// A file whose third line is `#include` of `header`, written so that this file has no such line itself.
SourceFile Including(const std::string& path, const std::string& header) {
  return {path, std::string("// a file\n\n#") + "include " + header + "\n"};
}

// The findings' messages for one file that includes `header`.
std::string Check(const std::string& path, const std::string& header) {
  return Format(CheckLayering({Including(path, header)}));
}

TEST(LayeringTest, TheTreeKeepsItsLayers) {
  const std::vector<SourceFile> files = ReadSourceTree(".");
  size_t sources = 0;
  for (const SourceFile& file : files) sources += IsCpp(file.path) ? 1 : 0;
  ASSERT_GT(sources, 10u) << "the source tree was not found";
  EXPECT_EQ(Format(CheckLayering(files)), "");
  RecordProperty("sources", static_cast<int>(sources));
}

TEST(LayeringTest, NamesFileAndLine) {
  EXPECT_EQ(Check("kernels/linear/linear.cc", "\"engine/engine.h\""),
            "kernels/linear/linear.cc:3: kernels/ may not include \"engine/engine.h\"\n");
}

TEST(LayeringTest, AcceptsWhatTheTableAllows) {
  EXPECT_EQ(Check("kernels/linear/linear.cc", "\"absl/status/status.h\""), "");
  EXPECT_EQ(Check("kernels/linear/linear_avx2.cc", "<immintrin.h>"), "");
  EXPECT_EQ(Check("kernels/linear/linear.cu", "<cuda_runtime.h>"), "");
  EXPECT_EQ(Check("kernels/linear/linear.cu", "\"kernels/math/tile.cuh\""), "");
  EXPECT_EQ(Check("kernels/linear/linear.cc", "\"kernels/linear/linear_cuda.h\""), "");
  EXPECT_EQ(Check("kernels/reference/linear_ref.h", "<cmath>"), "");
  EXPECT_EQ(Check("engine/model/model.cc", "\"kernels/linear/linear.h\""), "");
  EXPECT_EQ(Check("engine/text/tokenizer.cc", "<utf8proc.h>"), "");
  EXPECT_EQ(Check("server/convert.h", "\"mambad/v1/generation.pb.h\""), "");
  EXPECT_EQ(Check("server/http.cc", "<httplib.h>"), "");
  EXPECT_EQ(Check("client/client.h", "\"grpcpp/grpcpp.h\""), "");
  EXPECT_EQ(Check("tests/engine/engine_test.cc", "\"engine/engine.h\""), "");
}

TEST(LayeringTest, FindsAFolderAboveItsOwn) {
  EXPECT_THAT(Check("engine/engine.cc", "\"server/convert.h\""), HasSubstr("engine/ may not include"));
  EXPECT_THAT(Check("server/main.cc", "\"kernels/linear/linear.h\""), HasSubstr("server/ may not include"));
  EXPECT_THAT(Check("server/main.cc", "\"client/client.h\""), HasSubstr("server/ may not include"));
  EXPECT_THAT(Check("client/client.cc", "\"engine/engine.h\""), HasSubstr("client/ may not include"));
  EXPECT_THAT(Check("engine/engine.cc", "\"tests/support/oracle.h\""), HasSubstr("engine/ may not include"));
  EXPECT_THAT(Check("engine/text/tokenizer.cc", "\"engine/model/model.h\""),
              HasSubstr("engine/text/ may not"));
}

TEST(LayeringTest, FindsAnythingButStdInTheReference) {
  EXPECT_THAT(Check("kernels/reference/linear_ref.h", "\"kernels/base/check.h\""),
              HasSubstr("may not include"));
  EXPECT_THAT(Check("kernels/reference/linear_ref.h", "\"absl/types/span.h\""),
              HasSubstr("may not use absl"));
}

TEST(LayeringTest, FindsALibraryOutsideItsFolders) {
  EXPECT_THAT(Check("engine/engine.cc", "\"mambad/v1/generation.pb.h\""), HasSubstr("may not use proto"));
  EXPECT_THAT(Check("engine/engine.cc", "<grpcpp/server.h>"), HasSubstr("may not use gRPC"));
  EXPECT_THAT(Check("engine/engine.cc", "<spdlog/spdlog.h>"), HasSubstr("may not use spdlog"));
  EXPECT_THAT(Check("engine/stats.cc", "<prometheus/registry.h>"), HasSubstr("may not use prometheus"));
  EXPECT_THAT(Check("kernels/linear/linear.cc", "<nlohmann/json.hpp>"),
              HasSubstr("may not use nlohmann-json"));
  EXPECT_THAT(Check("kernels/linear/linear.cc", "<benchmark/benchmark.h>"), HasSubstr("Google Benchmark"));
  EXPECT_THAT(Check("client/mambactl.cc", "<spdlog/spdlog.h>"), HasSubstr("may not use spdlog"));
  EXPECT_THAT(Check("engine/engine.cc", "<CLI/CLI.hpp>"), HasSubstr("may not use CLI11"));
  EXPECT_THAT(Check("client/client.cc", "<httplib.h>"), HasSubstr("may not use cpp-httplib"));
  EXPECT_THAT(Check("server/commands/run.cc", "<grpcpp/grpcpp.h>"), HasSubstr("may not use gRPC"));
  EXPECT_THAT(Check("server/service.cc", "<gtest/gtest.h>"), HasSubstr("may not use GoogleTest"));
}

TEST(LayeringTest, FindsCudaInHeadersAndInEngine) {
  const char* message = "includes no CUDA path";
  EXPECT_THAT(Check("kernels/device/device.h", "<cuda_runtime.h>"), HasSubstr(message));
  EXPECT_THAT(Check("kernels/device/device.h", "\"kernels/device/device_cuda.h\""), HasSubstr(message));
  EXPECT_THAT(Check("engine/engine.cc", "\"kernels/device/device_cuda.h\""), HasSubstr(message));
  EXPECT_THAT(Check("tests/kernels/support.h", "<cublasLt.h>"), HasSubstr(message));
  EXPECT_THAT(Check("kernels/linear/linear.h", "<cutlass/gemm.h>"), HasSubstr(message));
}

TEST(LayeringTest, FindsCudaOutsideCudaFiles) {
  EXPECT_THAT(Check("kernels/linear/linear.cc", "<cuda_runtime.h>"), HasSubstr("belong into .cu"));
  EXPECT_THAT(Check("kernels/linear/linear.cc", "\"kernels/math/tile.cuh\""), HasSubstr("include a .cuh"));
  EXPECT_THAT(Check("kernels/linear/linear.h", "\"kernels/math/tile.cuh\""), HasSubstr("include a .cuh"));
}

TEST(LayeringTest, FindsACudaTypeInAHeader) {
  const auto check = [](const char* text) { return CheckLayering({{"kernels/device/stream.h", text}}); };
  EXPECT_THAT(check("void Run(cudaStream_t stream);\n"), SizeIs(1));
  EXPECT_THAT(check("CUgraph graph;\n"), SizeIs(1));
  EXPECT_THAT(check("const __nv_bfloat16* x;\n"), SizeIs(1));
  EXPECT_THAT(check("// wraps a cudaStream_t\nvoid* stream;\n"), IsEmpty());
  EXPECT_THAT(CheckLayering({{"kernels/device/stream.cu", "cudaStream_t stream;\n"}}), IsEmpty());
}

TEST(LayeringTest, FindsASecondHttplib) {
  const std::vector<Finding> findings = CheckLayering(
      {Including("server/http.cc", "<httplib.h>"), Including("server/metrics.cc", "<httplib.h>")});
  ASSERT_THAT(findings, SizeIs(1));
  EXPECT_EQ(findings[0].path, "server/metrics.cc");
  EXPECT_THAT(findings[0].message, HasSubstr("by server/http.cc already"));
}

TEST(LayeringTest, FindsPathsThatDoNotStartAtTheRoot) {
  EXPECT_THAT(Check("engine/engine.cc", "\"engine.h\""), HasSubstr("from the repository's root"));
  EXPECT_THAT(Check("engine/engine.cc", "\"../kernels/base/check.h\""),
              HasSubstr("from the repository's root"));
  EXPECT_THAT(Check("engine/engine.cc", "<boost/asio.hpp>"), HasSubstr("neither a known library"));
}

TEST(LayeringTest, ReadsProtoImports) {
  EXPECT_THAT(CheckLayering({{"proto/mambad/v1/a.proto", "import \"mambad/v1/b.proto\";\n"}}), IsEmpty());
  EXPECT_THAT(CheckLayering({{"proto/mambad/v1/a.proto", "import \"server/b.proto\";\n"}}), SizeIs(1));
}

TEST(LayeringTest, SeesIndentedDirectives) {
  EXPECT_THAT(CheckLayering({{"engine/a.cc", "  # \tinclude\t<grpc/grpc.h>\n"}}), SizeIs(1));
}

}  // namespace
}  // namespace mambad::repository
